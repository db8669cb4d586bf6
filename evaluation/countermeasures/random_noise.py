"""Noise added anew at every step, of the protection's own strength (Fowl et al., 2021, "Preventing
Unauthorized Use of Proprietary Data").

Departures:
1. Uniform noise is drawn from both sides of zero; the code of Huang et al. (ICLR 2021) draws it
   from 0 to 8 levels, which also brightens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class RandomNoise(Countermeasure):
    """Adds fresh noise to the training images at every step.

    levels: its strength in grey levels of 255, from 0: the bound of `uniform` noise, the standard
    deviation of `gaussian`; kind: which of the two. What leaves the range of pixels is clipped.
    """

    name = "random-noise"
    levels: float = 8.0
    kind: Literal["gaussian", "uniform"] = "uniform"

    def __post_init__(self) -> None:
        if not 0 <= self.levels <= 255:
            raise ValueError(f"random-noise levels are from 0 to 255, not {self.levels}")

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(augment=self._noisy)

    def _noisy(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(x.shape) if self.kind == "gaussian" else 2 * torch.rand(x.shape) - 1
        return (x + noise.to(x.device) * (self.levels / 255)).clamp(0, 1), y
