"""The mean filter of 3 x 3 pixels that Fu et al. (ICLR 2022, "Robust Unlearnable Examples") try
against their protection, on the stored images.

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
class MeanFilter(Countermeasure):
    """Replaces each pixel of the training images by the mean of its neighbourhood.

    kernel: the neighbourhood's side in pixels, an odd number from 3. Clean training loses what fine
    detail tells.
    """

    name = "mean-filter"
    kernel: int = 3

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(
                f"mean-filter kernel is an odd number of pixels from 3, not {self.kernel}"
            )

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(data=self._filtered)

    def _filtered(self, split: Split) -> Split:
        assert isinstance(split, PixelSplit)
        return edited(split, self._filter)

    def _filter(self, x: Tensor, rows: np.ndarray) -> Tensor:
        from scipy.ndimage import uniform_filter

        return torch.from_numpy(uniform_filter(x.numpy(), self.kernel, axes=(2, 3), mode="nearest"))
