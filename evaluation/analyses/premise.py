"""Whether protected images reveal how nets train: are they ever classified correctly?

Chen et al.: "Self-Ensemble Protection", ICLR 2023, section 4.2 and Figure 2a: nets of other
architectures than the surrogate's train on clean images, and most protected images are classified
wrongly throughout, while images with autoregressive noise behave like clean ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crafting.nets import Net
from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    demand_counts,
    portion,
    register,
)
from evaluation.analyses.trainings import answers, several, trained
from evaluation.scoring import percent
from evaluation.victims import victim


@register
@dataclass(frozen=True)
class Premise(Analysis):
    """Tells how many protected images a net that trains on clean ones ever classifies correctly.

    nets: those that train, one after the other; images: at most so many rows are asked after every
    epoch, protected and clean.
    """

    name = "premise"
    needs_clean = True
    nets: str = "vgg-w16+resnet10-w16"
    images: int = 5000

    def __post_init__(self) -> None:
        demand_counts(self)
        several(self.nets)

    @property
    def cost(self) -> float:
        return 1.7 * sum(victim(name).cost for name in several(self.nets))

    def examine(self, material: Material, progress: Progress) -> Findings:
        names = several(self.nets)
        curves: dict[str, list[float]] = {}
        for part, name in enumerate(names):
            told = portion(progress, part, len(names))
            for what, values in _watched(material, name, self.images, told).items():
                curves[f"{name} {what}"] = values
        figures: dict[str, float | None] = {what: values[-1] for what, values in curves.items()}
        return Findings(figures, _sentence(names, curves), curves)


class Memory:
    """Which rows were right at some epoch, and the shares by epoch."""

    def __init__(self, count: int) -> None:
        self._once = np.zeros(count, dtype=bool)
        self.right: list[float] = []
        self.ever: list[float] = []

    def note(self, right: np.ndarray) -> None:
        """One epoch's answers, (N,) bool."""
        self._once |= right
        self.right.append(float(right.mean()))
        self.ever.append(float(self._once.mean()))


def _watched(
    material: Material, name: str, images: int, progress: Progress
) -> dict[str, list[float]]:
    """Shares by epoch of the rows that are right, and of those that were right so far."""
    asked = {
        "protected": material.sample(material.protected, images),
        "clean": material.sample(material.originals, images),
    }
    memories = {data: Memory(len(split)) for data, split in asked.items()}

    def ask(epoch: int, net: Net) -> None:
        for data, split in asked.items():
            predicted, labels = answers(net, split, material)
            memories[data].note(predicted == labels)

    trained(material, name, material.originals, progress, ask)
    shares: dict[str, list[float]] = {}
    for data, memory in memories.items():
        shares |= {data: memory.right, f"{data} ever": memory.ever}
    return shares


def _sentence(names: list[str], curves: dict[str, list[float]]) -> str:
    parts = [
        f"{name} {percent(curves[f'{name} protected ever'][-1])} (clean images: "
        f"{percent(curves[f'{name} clean ever'][-1])})"
        for name in names
    ]
    return (
        "Nets that trained on the clean images classified these shares of the protected ones "
        f"correctly after at least one epoch: {', '.join(parts)}."
    )
