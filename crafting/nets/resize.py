"""Antialiased bilinear resizing as two matrix products.

Equal to `interpolate(mode="bilinear", antialias=True)`, but differentiable on every device, with
the same result on every run, and always in float32.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_PIECE = 1 << 24
"""Values that are float32 together, 64 MiB."""


def resize(x: Tensor, height: int, width: int | None = None) -> Tensor:
    """x (B,C,H,W) as (B,C,height,width) float32, a square where no width is given; unchanged where
    it has that size already."""
    width = height if width is None else width
    if x.shape[-2:] == (height, width):
        return x
    rows = _weights(x.shape[-2], height, x.device)
    columns = _weights(x.shape[-1], width, x.device)
    return rows @ x.float() @ columns.T


def resized(pixels: Tensor, size: int) -> Tensor:
    """8-bit images (B,C,H,W) as 8-bit images (B,C,size,size). Of large ones no more than a piece is
    in memory as float32."""
    height, width = pixels.shape[-2:]
    if pixels[0].numel() <= _PIECE:
        small = resize(pixels.float(), size)
    else:
        rows, columns = (_weights(side, size, pixels.device) for side in (height, width))
        piece = max(1, _PIECE * height // pixels.numel())
        small = torch.zeros(*pixels.shape[:2], size, width)
        for at in range(0, height, piece):
            small += rows[:, at : at + piece] @ pixels[:, :, at : at + piece].float()
        small = small @ columns.T
    return small.round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)  # of large images each takes megabytes
@torch.inference_mode(False)  # what is kept of a prediction may serve a gradient later
def _weights(length: int, size: int, device: torch.device) -> Tensor:
    """(size, length): the triangle filter that makes `size` outputs from `length` inputs."""
    scale = length / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    inputs = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (inputs - centres[:, None]).abs() / max(scale, 1)).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float().to(device)
