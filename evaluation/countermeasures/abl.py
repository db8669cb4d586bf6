"""Anti-Backdoor Learning (Li et al., NeurIPS 2021): what is learnt first is suspect.

Three phases, of 75 epochs in their code: 10 of isolation, where the loss L of a batch is flooded,
|L - gamma| + gamma, so that only rows that are easily learnt fall below gamma; 60 on all rows but
the 1 % of lowest loss; 5 that climb the loss of these at a rate of 5e-4.

Departures:
1. The phases keep their shares of the recipe's epochs, and its learning rates run through the
   first two without a break; theirs start again. The optimiser's momentum is kept too.
2. Flooding is of the batch's mean loss, as in their code; equation 3 takes the sign of each row's.
3. BatchNorm keeps its running statistics during the ascent: those of a few rows alone, perhaps of
   one class, would spoil the net for all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.adversarial import in_eval_mode
from crafting.batch import Batch, Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Recipe, Train, cross_entropy
from evaluation.countermeasures.base import Countermeasure, Setting, register

_ISOLATION, _FINE_TUNING, _UNLEARNING = 10, 60, 5
_LEARNING = _ISOLATION + _FINE_TUNING
_ASCENT_BATCH = 64
_CHUNK = 500


@register
@dataclass(frozen=True)
class AntiBackdoorLearning(Countermeasure):
    """Sets aside the images that are learnt first, learns from the others, and unlearns those.

    gamma: the loss that the first phase does not go below; share: of the images that are set
    aside, above 0 and below 1; rate: the learning rate of unlearning.
    """

    name = "abl"
    gamma: float = 0.5
    share: float = 0.01
    rate: float = 5e-4

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"abl sets aside a share above 0 and below 1, not {self.share:g}")
        if not 0 <= self.gamma < math.inf or not 0 <= self.rate < math.inf:
            raise ValueError("abl needs a gamma and a rate of 0 or more: leave them out")

    def recipe(self, recipe: Recipe) -> Recipe:
        """Without the epochs of unlearning, which follow it."""
        learning = _LEARNING / (_LEARNING + _UNLEARNING)
        return replace(recipe, epochs=max(2, round(recipe.epochs * learning)))

    def hooks(self, setting: Setting) -> Hooks:
        phases = _Phases(self, setting)
        return Hooks(data=phases.begin, loss=phases.loss, finish=phases.unlearn)


class _Phases:
    """The three phases of one training."""

    def __init__(self, abl: AntiBackdoorLearning, setting: Setting) -> None:
        self._abl = abl
        self._recipe = setting.recipe
        self._device = setting.device

    def begin(self, split: Split) -> Split:
        turn = max(1, self._epochs(_ISOLATION))
        self._rows = _Isolating(split, turn, self._abl.share, self._device)
        return self._rows

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self._rows.net = net
        loss = cross_entropy(net, x, y)
        if self._rows.isolated is not None:
            return loss
        return (loss - self._abl.gamma).abs() + self._abl.gamma

    def unlearn(self, net: Net, split: Split, train: Train) -> Predictor:
        isolated = self._rows.isolate()
        recipe = Recipe(
            max(1, self._epochs(_UNLEARNING)),
            _ASCENT_BATCH,
            self._abl.rate,
            schedule="multistep",  # without milestones: one rate throughout
            augment=self._recipe.augment,
        )
        return train(net, isolated, recipe, Hooks(loss=_ascent))

    def _epochs(self, phase: int) -> int:
        return round(self._recipe.epochs * phase / _LEARNING)


def _ascent(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with in_eval_mode(net):
        return -cross_entropy(net, x, y)


class _Isolating:
    """A split that from epoch `turn` on lacks the rows that `net` has learnt best by then."""

    def __init__(self, split: Split, turn: int, share: float, device: torch.device) -> None:
        self._present = split
        self._turn = turn
        self._share = share
        self._device = device
        self.net: nn.Module | None = None
        self.isolated: Split | None = None

    @property
    def num_classes(self) -> int:
        return self._present.num_classes

    def __len__(self) -> int:
        return len(self._present)

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        if epoch is not None and epoch >= self._turn:
            self.isolate()
        return self._present.batches(size, epoch)

    def numbers(self) -> np.ndarray:
        return self._present.numbers()

    def take(self, rows: Sequence[int]) -> Split:
        return self._present.take(rows)

    def isolate(self) -> Split:
        """The rows of lowest loss, at least the 2 that training needs, which from now on are not
        in this split; they are chosen once."""
        if self.isolated is None:
            count = max(2, round(self._share * len(self)))
            rows = self._by_loss()
            self.isolated = self._present.take(rows[:count])
            self._present = self._present.take(rows[count:])
        return self.isolated

    def _by_loss(self) -> list[int]:
        """All row numbers, that of the lowest loss first; images as they are stored."""
        assert self.net is not None, "nothing was learnt before isolation"
        losses, rows = [], []
        with in_eval_mode(self.net), torch.inference_mode():
            for batch in self._present.batches(_CHUNK):
                logits = self.net(batch.x.to(self._device)).cpu()
                losses.append(F.cross_entropy(logits, batch.labels(), reduction="none"))
                rows.append(batch.rows)
        order = torch.cat(losses).argsort(stable=True)
        found: list[int] = torch.cat(rows)[order].tolist()
        return found
