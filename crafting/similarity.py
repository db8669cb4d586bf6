"""Structural similarity of images: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From
Error Visibility to Structural Similarity", IEEE TIP 2004, equation 13."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
_SIGMA = 1.5
_HALF = WINDOW // 2
_BELL = [math.exp(-0.5 * (place / _SIGMA) ** 2) for place in range(-_HALF, _HALF + 1)]
_WEIGHTS = [height / sum(_BELL) for height in _BELL]


def similarity(
    x: Tensor, other: Tensor, local_mean: Callable[[Tensor], Tensor], white: float = 1.0
) -> Tensor:
    """(B,): the SSIM of each two images (B,C,H,W) with values 0 to `white`: the mean of
    `similarities`; 1 is identical."""
    return similarities(x, other, local_mean, white).flatten(1).mean(1)


def similarities(
    x: Tensor, other: Tensor, local_mean: Callable[[Tensor], Tensor], white: float = 1.0
) -> Tensor:
    """How similar each two images (B,C,H,W) with values 0 to `white` are around every place of
    which `local_mean` gives the mean of the pixels around; 1 is identical."""
    mean, other_mean = local_mean(x), local_mean(other)
    covariance = local_mean(x * other) - mean * other_mean
    variances = local_mean(x * x) - mean.square() + local_mean(other * other) - other_mean.square()
    flat, faint = (0.01 * white) ** 2, (0.03 * white) ** 2
    alike = (2 * mean * other_mean + flat) * (2 * covariance + faint)
    largest = (mean.square() + other_mean.square() + flat) * (variances + faint)
    return alike / largest


def gaussian_mean(values: Tensor) -> Tensor:
    """The mean around every place of (B,C,H,W) as the paper weighs it, in windows of `WINDOW`
    pixels a side; edges are mirrored, so H and W must be above half of that."""
    values = F.pad(values, (_HALF,) * 4, mode="reflect")
    for dimension in (2, 3):
        places = values.shape[dimension] - WINDOW + 1
        shifted = [values.narrow(dimension, start, places) for start in range(WINDOW)]
        values = reduce(torch.add, map(operator.mul, _WEIGHTS, shifted))
    return values
