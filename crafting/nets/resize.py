"""Antialiased bilinear resizing as two matrix products.

Equal to `interpolate(mode="bilinear", antialias=True)`, but differentiable on every device, with
the same result on every run, and always in float32.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def resize(x: Tensor, height: int, width: int | None = None) -> Tensor:
    """x (B,C,H,W) as (B,C,height,width) float32, a square where no width is given; unchanged where
    it has that size already."""
    width = height if width is None else width
    if x.shape[-2:] == (height, width):
        return x
    rows = _weights(x.shape[-2], height, x.device)
    columns = _weights(x.shape[-1], width, x.device)
    return rows @ x.float() @ columns.T


@lru_cache(maxsize=32)  # of large images each takes megabytes
@torch.inference_mode(False)  # what is kept of a prediction may serve a gradient later
def _weights(length: int, size: int, device: torch.device) -> Tensor:
    """(size, length): the triangle filter that makes `size` outputs from `length` inputs."""
    scale = length / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    inputs = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (inputs - centres[:, None]).abs() / max(scale, 1)).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float().to(device)
