"""How often nets that know only clean images take protected ones for the same wrong class.

The reference code of Chen et al. (ICLR 2023) prints the share of (checkpoint, sample) pairs that
are predicted as the class that crafting pulled the sample towards. That class may be the owner's
secret: here it is, for each true class, the wrong class that its protected images are most often
predicted as, and the nets are trained anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crafting.batch import PixelSplit
from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    demand_counts,
    register,
)
from evaluation.analyses.trainings import Checkpoint, answers, checkpoints
from evaluation.scoring import a_or_an, confusion, percent
from evaluation.victims import victim

_MOST_CLASSES = 100
"""Of which a matrix is shown: a report is read by people."""


@register
@dataclass(frozen=True)
class TargetHits(Analysis):
    """Tells how often clean-trained nets take protected images for their class's usual wrong one.

    net: what trains on the clean images; checkpoints: how many states of it are asked; images: at
    most so many rows are shown to each.
    """

    name = "target-hits"
    needs_clean = True
    net: str = "vgg-w16"
    checkpoints: int = 5
    images: int = 5000

    def __post_init__(self) -> None:
        demand_counts(self)
        victim(self.net)

    @property
    def cost(self) -> float:
        return 1.2 * victim(self.net).cost

    def examine(self, material: Material, progress: Progress) -> Findings:
        nets = checkpoints(material, self.net, material.originals, self.checkpoints, progress)
        protected = _counted(nets, material.sample(material.protected, self.images), material)
        clean = _counted(nets, material.sample(material.originals, self.images), material)
        figures: dict[str, float | None] = {
            "hits": hits(protected),
            "right": float(np.trace(protected) / protected.sum()),
            "clean hits": hits(clean),
            "clean right": float(np.trace(clean) / clean.sum()),
        }
        found = Findings(figures, _sentence(self.net, len(nets), figures))
        if len(protected) > _MOST_CLASSES:
            return found
        shares = protected / protected.sum(1, keepdims=True).clip(min=1)
        classes = [str(k) for k in range(len(shares))]
        return replace(found, matrix=shares.tolist(), labels=classes)


def hits(counts: NDArray[np.int64]) -> float:
    """The share of all answers (K,K; row true, column predicted) that name the commonest wrong
    class of their row."""
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    return float(wrong.max(1).sum() / counts.sum())


def _counted(nets: list[Checkpoint], split: PixelSplit, material: Material) -> NDArray[np.int64]:
    """Answers of all checkpoints together."""
    total = np.zeros((split.num_classes, split.num_classes), dtype=np.int64)
    for each in nets:
        total += confusion(*answers(each.net, split, material), split.num_classes)
    return total


def _sentence(net: str, count: int, figures: dict[str, float | None]) -> str:
    shown = {what: percent(share) for what, share in figures.items() if share is not None}
    return (
        f"In {count} checkpoints of its training on the clean images, {a_or_an(net)} took "
        f"{shown['hits']} of the protected images for the one wrong class that is commonest for "
        f"their true class (of the clean images {shown['clean hits']}), and {shown['right']} for "
        "what they are."
    )
