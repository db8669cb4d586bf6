"""Bit-depth reduction of the stored images (Liu et al., ICML 2023, "Image Shortcut Squeezing").

APBench (Qin et al., 2023) reports, on CIFAR-10 with a ResNet-18 and 2 bits: 37.9 for EM, 70.8 for
TAP, 53.9 for LSP, 37.3 for OPS, against 20.8, 6.3, 13.1 and 14.7 without it.

Departures: none (the lowest bits become 0, as Pillow's posterize does).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.edits import edited


@register
@dataclass(frozen=True)
class BitDepth(Countermeasure):
    """Keeps the highest bits of every channel of the training images; test images stay as they are.

    bits: how many of the 8 are kept, from 1 to 7. Clean training loses fine shades, and its images
    darken.
    """

    name = "bit-depth"
    bits: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bit-depth bits are from 1 to 7, not {self.bits}")

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(data=self._reduced)

    def _reduced(self, split: Split) -> Split:
        assert isinstance(split, PixelSplit)
        return edited(split, self._reduce)

    def _reduce(self, x: Tensor, rows: np.ndarray) -> Tensor:
        step = 2 ** (8 - self.bits)
        return x.mul(255).round().div(step).floor().mul(step / 255)
