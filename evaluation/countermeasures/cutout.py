"""Cutout (DeVries & Taylor, 2017, "Improved Regularization of Convolutional Neural Networks with
Cutout").

Protections are usually tested with the paper's hole for CIFAR-10, 16 x 16 of 32 x 32 pixels.
APBench (Qin et al., 2023) reports 18.8 for EM, 9.9 for TAP and 53.0 for OPS there (ResNet-18),
against 20.8, 6.3 and 14.7 without it.

Departures:
1. The side of the hole is a share of the image's, so that one setting serves every image size.
2. The hole is black; the paper fills it with the mean of the normalised images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class Cutout(Countermeasure):
    """Blackens one rectangle of every training image, in another place each time.

    size: its sides as a share of the image's, above 0 and at most 1. Its centre is any pixel, so
    that part of it may lie outside. Clean training loses little.
    """

    name = "cutout"
    size: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise ValueError(f"cutout size is a share above 0 and at most 1, not {self.size}")

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(augment=self._cut)

    def _cut(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        count, _, height, width = x.shape
        rows, columns = self._hole(count, height), self._hole(count, width)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        return x.masked_fill(hole.to(x.device), 0), y

    def _hole(self, count: int, side: int) -> Tensor:
        """(count,side): which of the pixels along one side lie in each image's hole."""
        wide = max(1, round(self.size * side))
        first = torch.randint(side, (count, 1)) - wide // 2
        places = torch.arange(side)
        return (places >= first) & (places < first + wide)
