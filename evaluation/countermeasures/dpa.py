"""Deep Partition Aggregation (Levine and Feizi, ICLR 2021): nets that share no row vote.

A row belongs to the part that the sum of its 8-bit pixel values leaves as a remainder (section 3),
so that one changed row changes one vote. Protection that covers all rows reaches every part.

Departures:
1. 5 parts, not 50 to 250: a hundredth of a few thousand rows trains nothing.
2. All nets start from the same weights and meet the same augmentation; theirs are seeded apart.
3. No certificate is made: it is about few changed rows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.batch import Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Train, cross_entropy
from evaluation.countermeasures.base import Countermeasure, Setting, register

_CHUNK = 500


@register
@dataclass(frozen=True)
class PartitionAggregation(Countermeasure):
    """Trains a net on each of several parts of the images and lets them vote.

    parts: how many, each with as many epochs as the whole would have. Costs accuracy on clean
    images, of which each net sees fewer.
    """

    name = "dpa"
    is_watched = False  # what trains is one voter of many
    parts: int = 5

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise ValueError(f"dpa needs at least 1 part, not {self.parts}")

    def hooks(self, setting: Setting) -> Hooks:
        training = _Partition(self.parts)
        return Hooks(data=training.first, loss=training.loss, finish=training.vote)


class _Partition:
    """The parts of one training's rows, and the weights that every net starts from."""

    def __init__(self, parts: int) -> None:
        self._count = parts
        self._parts: list[Split] = []
        self._start: dict[str, Tensor] | None = None

    def first(self, split: Split) -> Split:
        parts = [split.take(rows) for rows in partition(split, self._count)]
        self._parts = [part for part in parts if len(part) >= 2]  # training needs 2
        if not self._parts:
            raise ValueError(
                f"dpa finds no 2 of {len(split)} rows in one of {self._count} parts: use fewer, "
                "such as dpa:parts=2"
            )
        return self._parts[0]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self._start is None:  # before the first step: no earlier hook meets the net
            self._start = {name: value.clone() for name, value in net.state_dict().items()}
        return cross_entropy(net, x, y)

    def vote(self, net: Net, split: Split, train: Train) -> Predictor:
        assert self._start is not None, "the first part was not trained on"
        nets = [net]
        for part in self._parts[1:]:
            other = copy.deepcopy(net)
            other.load_state_dict(self._start)
            train(other, part)
            nets.append(other)
        return Vote(nets)


def partition(split: Split, parts: int) -> list[list[int]]:
    """The row numbers of each part, by the remainder of the sum of a row's pixels."""
    rows: list[list[int]] = [[] for _ in range(parts)]
    for batch in split.batches(_CHUNK):
        sums = batch.x.mul(255).round().to(torch.int64).flatten(1).sum(1)
        for row, part in zip(batch.rows.tolist(), (sums % parts).tolist(), strict=True):
            rows[part].append(row)
    return rows


class Vote(nn.Module):
    """Images to how many of the nets name each class, (B,K); the lower class wins a tie, as argmax
    takes the first."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([net(x) for net in self.nets])
        return F.one_hot(logits.argmax(2), logits.shape[2]).sum(0).float()
