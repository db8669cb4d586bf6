"""Adversarial training against the largest change of any pixel (Madry et al., ICLR 2018).

Radii and steps are those that Fu et al. (ICLR 2022, "Robust Unlearnable Examples") evaluate with:
0 to 4 grey levels, 10 steps of a fifth of the radius from a random start. Fang et al. (2023,
"Re-thinking Data Availability Attacks") report for ResNet-18 on CIFAR-10 at radius 4: clean images
89.51 %, error-minimising noise 88.62 %, TAP 88.02 %, at radius 0: 94.66 %, 13.20 %, 22.51 %.
See crafting/adversarial.py for departures.
"""

from __future__ import annotations

from dataclasses import dataclass

from crafting.adversarial import PGD_STEP_COST, LinfBall, adversarial_loss
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class LinfAdversarialTraining(Countermeasure):
    """Trains on images made as hard as possible, each channel by a few grey levels at most.

    radius: the most that a channel of a pixel moves, in grey levels of 255; steps: of the search
    for the hardest images, which together could go two radii. Costs accuracy on clean images.
    """

    name = "at-linf"
    radius: float = 4.0
    steps: int = 10

    def __post_init__(self) -> None:
        adversarial_loss(LinfBall(self.radius), self.steps)

    @property
    def cost(self) -> float:
        return 1 + PGD_STEP_COST * self.steps

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(loss=adversarial_loss(LinfBall(self.radius), self.steps))
