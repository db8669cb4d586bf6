"""The median filter of 3 x 3 pixels that Fu et al. (ICLR 2022, "Robust Unlearnable Examples") try
against their protection, on the stored images.

It removes single pixels, such as those of One-Pixel Shortcut (Wu et al., ICLR 2023).

Departures: none known; edge pixels are repeated outwards.
"""

from __future__ import annotations

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
class MedianFilter(Countermeasure):
    """Replaces each pixel of the training images by the median of its neighbourhood.

    kernel: the neighbourhood's side in pixels, an odd number from 3; each channel has medians of
    its own. Clean training loses what fine detail tells.
    """

    name = "median-filter"
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(
                f"median-filter kernel is an odd number of pixels from 3, not {self.kernel}"
            )

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(data=self._filtered)

    def _filtered(self, split: Split) -> Split:
        assert isinstance(split, PixelSplit)
        return edited(split, self._filter)

    def _filter(self, x: Tensor, rows: np.ndarray) -> Tensor:
        from scipy.ndimage import median_filter

        window = (1, 1, self.kernel, self.kernel)
        return torch.from_numpy(median_filter(x.numpy(), window, mode="nearest"))
