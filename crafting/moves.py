"""Differentiable crops and mirrorings, drawn for each image on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from crafting.descent import Direction, Loss, image_gradient

LARGEST_SHIFT = 1 / 8
"""Of the image's height and width: 4 pixels of 32."""


def move(x: Tensor, moves: Tensor) -> Tensor:
    """Each image (B,C,H,W) shifted by fractions moves[:,:2] in [-1,1] of an eighth of its height
    and width (bilinear, black outside), and mirrored where moves[:,2] > 0.

    As products with two banded matrices an image, since grid_sample's backward pass does not give
    the same sums twice on a GPU.
    """
    height, width = x.shape[-2:]
    down = _shift(moves[:, 0] * height * LARGEST_SHIFT, height)
    across = _shift(moves[:, 1] * width * LARGEST_SHIFT, width)
    across = torch.where(moves[:, 2, None, None] > 0, across.flip(1), across)
    return down[:, None] @ x @ across[:, None].mT


def along_moves(loss: Loss, moves: Tensor) -> Direction:
    """At step t the gradient of each image's loss after it was moved by moves[:, t] (B,T,3)."""
    return lambda x, t: image_gradient(lambda x: loss(move(x, moves[:, t])), x)


def _shift(pixels: Tensor, length: int) -> Tensor:
    """(B, length, length): the matrices that shift a line by `pixels` (B,), interpolating."""
    places = torch.arange(length, device=pixels.device, dtype=pixels.dtype)
    sources = places[:, None] + pixels.view(-1, 1, 1)
    return (1 - (sources - places).abs()).clamp_min(0)
