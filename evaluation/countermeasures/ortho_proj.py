"""Projecting out what a linear classifier sees (Sandoval-Segura et al., "What Can We Learn from
Unlearnable Datasets?", NeurIPS 2023, section 4.4).

The weights W (K,CHW) of a logistic regression on raw pixels span the most predictive directions; a
class-wise, linearly separable perturbation lies among them, and x - Q Q^T x with the orthonormal Q
(CHW,K) of W^T = QR is free of it. They report that a ResNet-18 trained on one-pixel shortcuts is
brought back to more than 87 %; sample-wise noise that is not linearly separable is out of reach.

Departures:
1. Projected images are clipped and rounded to 8 bit, as files would keep them; theirs stay numbers
   of any size. So that little is clipped, what is projected is the difference from the mean image:
   the images are those of the paper but for one constant image, and nearer to test images.
2. The regression starts from 0, theirs from random weights, of which most is left after the few
   steps that a small release gives. On 400 and 1,500 striped images with a planted tint (those of
   the test; two seeds) victims reach 0.98 to 1.00 of the test images so, as on clean ones, and 0.00
   to 0.86 with random weights or without the mean image. The span is found by singular values, as
   the K rows of W add up to 0.
3. The victim's recipe stays its own: theirs trains on projected images with rotation, shear, colour
   jitter and CutMix on top of crops and flips.
4. The regression meets the rows in a new order every epoch; theirs in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.edits import edited

_EPOCHS, _BATCH, _RATE, _MILESTONES = 20, 1024, 0.1, (0.5, 0.75)
_SMALL_CHUNK, _MOST_NUMBERS = 128, 1 << 24
"""A batch of more pixels than that is read in chunks, whose gradients add up to its own."""
_NO_STRENGTH = 1e-5
"""A singular value's share of the largest at which its direction is rounding."""


@register
@dataclass(frozen=True)
class OrthogonalProjection(Countermeasure):
    """Removes from the training images the directions that a linear classifier would use.

    Test images keep them. Clean training loses some accuracy.
    """

    name = "ortho-proj"

    @property
    def cost(self) -> float:
        return 1.1

    def hooks(self, setting: Setting) -> Hooks:
        def data(split: Split) -> Split:
            assert isinstance(split, PixelSplit), "only images of one size can be projected"
            return projected(split, setting.device)

        return Hooks(data=data)


def projected(split: PixelSplit, device: torch.device) -> PixelSplit:
    """The split, each of whose images is like the mean image to a logistic regression on them.
    There must be labels."""
    basis = _span(_logistic_weights(split, device))
    mean = _mean_image(split).to(device)

    def edit(x: Tensor, rows: np.ndarray) -> Tensor:
        flat = x.to(device).flatten(1)
        rest: Tensor = flat - (flat - mean) @ basis @ basis.T
        return rest.view_as(x)

    return edited(split, edit)


def _span(weight: Tensor) -> Tensor:
    """An orthonormal basis (CHW,rank) of what the rows of (K,CHW) span."""
    directions, strengths, _ = torch.linalg.svd(weight.T, full_matrices=False)
    basis: Tensor = directions[:, strengths > _NO_STRENGTH * strengths[0]]
    return basis


def _mean_image(split: PixelSplit) -> Tensor:
    """(CHW,) float32 in [0,1]."""
    total = torch.zeros(int(np.prod(split.shape)), dtype=torch.float64)
    for batch in split.batches(_SMALL_CHUNK):
        total += batch.x.flatten(1).sum(0)
    return total.div(len(split)).float()


def _logistic_weights(split: PixelSplit, device: torch.device) -> Tensor:
    """W (K,CHW) of the logistic regression without bias, after 20 epochs of SGD."""
    inputs = int(np.prod(split.shape))
    weight = torch.zeros(split.num_classes, inputs, device=device, requires_grad=True)
    chunk = _BATCH if _BATCH * inputs <= _MOST_NUMBERS else _SMALL_CHUNK
    for epoch in range(_EPOCHS):
        rate = _RATE * 0.1 ** sum(epoch >= milestone * _EPOCHS for milestone in _MILESTONES)
        _descend(weight, split, epoch, chunk, rate)
    return weight.detach()


def _descend(weight: Tensor, split: PixelSplit, epoch: int, chunk: int, rate: float) -> None:
    """One epoch, in place."""
    met = 0
    for batch in split.batches(chunk, epoch):
        x, y = batch.x.to(weight.device), batch.labels().to(weight.device)
        size = min(_BATCH, len(split) - met // _BATCH * _BATCH)
        loss = F.cross_entropy(x.flatten(1) @ weight.T, y, reduction="sum") / size
        torch.autograd.backward(loss)
        met += len(y)
        if met % _BATCH == 0 or met == len(split):
            assert weight.grad is not None
            with torch.no_grad():
                weight.sub_(weight.grad, alpha=rate)
            weight.grad = None
