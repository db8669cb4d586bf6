"""How a victim learns the release: on its own rows, on protected rows it never saw, on clean ones.

Chen et al.: "Self-Ensemble Protection", ICLR 2023, Figures 3 and 4: accuracy on held-out protected
rows mostly stays close to that on the training rows, so that early stopping by them is no answer;
an unusual gap between the two may tell that the images are protected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crafting.batch import PixelSplit
from crafting.nets import Net
from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    demand_counts,
    register,
)
from evaluation.analyses.trainings import answers, trained
from evaluation.scoring import a_or_an, accuracy, percent
from evaluation.victims import victim


@register
@dataclass(frozen=True)
class LearningCurves(Analysis):
    """Tells how a victim's accuracy grows on its own rows, on held-out protected and on clean ones.

    net: the victim; held_out: the share of protected rows that it does not learn from; images: at
    most so many of each kind are asked after every epoch, as they are (not augmented).
    """

    name = "learning-curves"
    net: str = "vgg-w16"
    held_out: float = 0.1
    images: int = 2000

    def __post_init__(self) -> None:
        demand_counts(self)
        victim(self.net)
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"{self.name} held_out is a share between 0 and 1, not {self.held_out}"
            )

    @property
    def cost(self) -> float:
        return 1.3 * victim(self.net).cost

    def examine(self, material: Material, progress: Progress) -> Findings:
        learnt, held_out = divided(material.protected, self.held_out, material.seed)
        splits = {"train": learnt, "held out": held_out, "test": material.test}
        asked = {what: material.sample(split, self.images) for what, split in splits.items()}
        curves: dict[str, list[float]] = {what: [] for what in asked}

        def ask(epoch: int, net: Net) -> None:
            for what, split in asked.items():
                curves[what].append(accuracy(*answers(net, split, material)))

        trained(material, self.net, learnt, progress, ask)
        train, unseen, test = (curve[-1] for curve in curves.values())
        figures: dict[str, float | None] = {
            "train": train,
            "held out": unseen,
            "test": test,
            "gap": train - test,
            "gap to held out": train - unseen,
        }
        return Findings(figures, _sentence(self.net, train, unseen, test), curves)


def divided(split: PixelSplit, share: float, seed: int) -> tuple[PixelSplit, PixelSplit]:
    """The rows to learn from and those held out, a drawn share of them and at least one."""
    rows, _ = split.numbered()
    held_out = np.random.default_rng(seed).permutation(rows)[: max(1, round(share * len(rows)))]
    return split.take(np.setdiff1d(rows, held_out).tolist()), split.take(held_out.tolist())


def _sentence(net: str, train: float, unseen: float, test: float) -> str:
    return (
        f"At the end {a_or_an(net)} classified {percent(train)} of the protected rows that it "
        f"learnt from correctly, {percent(unseen)} of protected rows that it did not see and "
        f"{percent(test)} of clean test rows: a gap of {100 * (train - test):.1f} points, and a "
        "large gap also tells an attentive appropriator, who has some clean images or watches the "
        "held-out rows, that something was done to the release."
    )
