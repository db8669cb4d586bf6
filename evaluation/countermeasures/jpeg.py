"""JPEG compression of the stored images (Liu et al., ICML 2023, "Image Shortcut Squeezing").

The paper's code reports, on CIFAR-10 with a ResNet-18 and quality 10: 84.4 for SEP, 83.9 for TAP,
81.5 for EM, 82.5 for OPS, and 85.4 on clean images against 94.7 without it.

Departures: none known; Pillow writes the files, and halves the resolution of the colours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.edits import edited


@register
@dataclass(frozen=True)
class Jpeg(Countermeasure):
    """Compresses the training images as JPEG; test images stay as they are, as in the paper.

    quality: from 1 to 100. Clean training loses about 9 points at quality 10. Grey images stay
    grey.
    """

    name = "jpeg"
    quality: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"jpeg quality is from 1 to 100, not {self.quality}")

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(data=self._compressed)

    def _compressed(self, split: Split) -> Split:
        assert isinstance(split, PixelSplit)
        return edited(split, self._compress)

    def _compress(self, x: Tensor, rows: np.ndarray) -> Tensor:
        levels = x.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        read = np.stack([_through_a_file(image, self.quality) for image in levels])
        return torch.from_numpy(read).permute(0, 3, 1, 2).float() / 255


def _through_a_file(image: np.ndarray, quality: int) -> np.ndarray:
    """An image (H,W,C) uint8, C 1 or 3, as it is read back."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as opened:
        return np.asarray(opened).reshape(image.shape)
