"""Small releases whose noise is known, for analyses to look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crafting.batch import PixelSplit
from evaluation.analyses import Material

CPU = torch.device("cpu")
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])


def coloured(count: int, seed: int, turned: int = 0, first: int = 0) -> PixelSplit:
    """Images (3,16,16) of four classes, each with its own colour or that of the class `turned`
    further round; rows are numbered from `first`."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    noise = generator.normal(0, 30, (count, 3, 16, 16))
    colours = COLOURS[(labels + turned) % 4]
    pixels = np.clip(colours[:, :, None, None] + noise, 0, 255).astype(np.uint8)
    return PixelSplit(pixels, first + np.arange(count), labels, 4)


def material(protected: PixelSplit, clean: PixelSplit | None, **changes: Any) -> Material:
    """With 80 clean test rows; trainings take 6 epochs unless another number is given."""
    plain = Material(protected, clean, coloured(80, 9), 16, "quick", CPU, seed=0, epochs=6)
    return replace(plain, **changes)


def noised(noise: np.ndarray, labels: np.ndarray, num_classes: int) -> Material:
    """Images whose clean pixels are drawn and whose noise (N,C,H,W) is given in levels."""
    clean = np.random.default_rng(6).integers(30, 220, noise.shape)
    rows = np.arange(len(noise))
    before, after = (
        PixelSplit(pixels.astype(np.uint8), rows, labels, num_classes)
        for pixels in (clean, clean + noise)
    )
    return material(after, before)


def ignored(share: float) -> None:
    """Progress that nobody watches."""


class Saying(nn.Module):
    """A net that answers `answers[k]` to an image of `coloured` that has the colour of class k."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.answers = torch.tensor(answers)

    def forward(self, x: Tensor) -> Tensor:
        distances = torch.cdist(x.mean((2, 3)) * 255, torch.from_numpy(COLOURS).float())
        return nn.functional.one_hot(self.answers[distances.argmin(1)], 4).float()
