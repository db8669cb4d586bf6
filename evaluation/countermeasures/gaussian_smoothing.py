"""Gaussian smoothing of the stored images, as in Fowl et al. (2021, "Preventing Unauthorized Use of
Proprietary Data"), who blur with a radius of 2.

The columns called Gaussian in Image Shortcut Squeezing (Liu et al., ICML 2023) and APBench (Qin et
al., 2023) use three pixels and sigma 0.1, whose outer weights are 2e-22: that changes no pixel, and
their figures are those of plain training. `kernel=3,sigma=0.8` is a small filter that does smooth.

Departures:
1. The images are smoothed once, before crops and flips, rather than at every step.
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
class GaussianSmoothing(Countermeasure):
    """Smooths the training images with a Gaussian; test images stay sharp.

    sigma: its standard deviation in pixels, above 0; kernel: its width in pixels, an odd number
    from 3, or 0 for three sigma to either side. Clean training loses what fine detail tells.
    """

    name = "gaussian-smoothing"
    sigma: float = 2.0
    kernel: int = 0

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"gaussian-smoothing sigma is above 0 pixels, not {self.sigma}")
        if self.kernel != 0 and (self.kernel < 3 or self.kernel % 2 == 0):
            raise ValueError(
                f"gaussian-smoothing kernel is 0 or an odd number of pixels from 3, "
                f"not {self.kernel}"
            )

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(data=self._smoothed)

    def _smoothed(self, split: Split) -> Split:
        assert isinstance(split, PixelSplit)
        return edited(split, self._smooth)

    def _smooth(self, x: Tensor, rows: np.ndarray) -> Tensor:
        from scipy.ndimage import gaussian_filter

        reach = (self.kernel or 2 * round(3 * self.sigma) + 1) // 2
        smooth = gaussian_filter(
            x.numpy(), self.sigma, radius=max(1, reach), axes=(2, 3), mode="nearest"
        )
        return torch.from_numpy(smooth)
