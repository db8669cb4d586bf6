"""Adversarial training against the length of the whole change (Madry et al., ICLR 2018).

Chen et al. (ICLR 2023, "Self-Ensemble Protection") train with radius 1 against noise of length 1.
See crafting/adversarial.py for departures.
"""

from __future__ import annotations

from dataclasses import dataclass

from crafting.adversarial import PGD_STEP_COST, L2Ball, adversarial_loss
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class L2AdversarialTraining(Countermeasure):
    """Trains on images made as hard as possible, by changes of limited length over all pixels.

    radius: the Euclidean length of an image's change over all pixels and channels in [0,1], so
    that larger images need a larger one for the same look; steps: of the search for the hardest
    images, which together could go two radii. Costs accuracy on clean images.
    """

    name = "at-l2"
    radius: float = 1.0
    steps: int = 10

    def __post_init__(self) -> None:
        adversarial_loss(L2Ball(self.radius), self.steps)

    @property
    def cost(self) -> float:
        return 1 + PGD_STEP_COST * self.steps

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(loss=adversarial_loss(L2Ball(self.radius), self.steps))
