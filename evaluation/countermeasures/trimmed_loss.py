"""Learning from the rows of the lowest loss only (Shen and Sanghavi, ICML 2019, "Learning with
Bad Training Data via Iterative Trimmed Loss Minimization"): the sum of losses is made least over
both the parameters and the choice of a share of the rows.

It is expected to fail against protection that is easy to learn: the protected rows are those of low
loss.

Departures:
1. The share is kept of each batch, with the net as it is at that step, not of all rows once a
   round: no second pass over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class TrimmedLoss(Countermeasure):
    """Leaves out the images of every batch that are hardest to learn.

    keep: the share of each batch that is learnt from, above 0 and at most 1. Costs a little
    accuracy on clean images, whose hardest are left out too.
    """

    name = "trimmed-loss"
    keep: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"trimmed-loss keeps a share above 0 and up to 1, not {self.keep:g}")

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(loss=self._trimmed)

    def _trimmed(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        losses = F.cross_entropy(net(x), y, reduction="none")
        kept = max(1, round(self.keep * len(losses)))
        return losses.topk(kept, largest=False).values.mean()
