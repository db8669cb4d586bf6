"""Splits whose images were edited once, before a training begins."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crafting.batch import PixelSplit

_IN_MEMORY = 1 << 30
"""Bytes of pixels that are held in memory; more of them are mapped from a file without a name."""
_CHUNK = 500


def edited(split: PixelSplit, edit: Callable[[Tensor, np.ndarray], Tensor]) -> PixelSplit:
    """The same rows with other images: `edit(x, rows)` maps images (B,C,H,W) float32 in [0,1] and
    their row numbers (B,) to as many of the same shape, which are clipped and rounded to 8 bit, as
    in the files that anyone would keep them in."""
    pixels = _room((len(split), *split.shape))
    at = 0
    for batch in split.batches(_CHUNK):
        images = edit(batch.x, batch.rows.numpy())
        stored = images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        pixels[at : at + len(stored)] = stored.cpu().numpy()
        at += len(stored)
    rows, targets = split.numbered()
    return replace(split, pixels=pixels, rows=rows, targets=targets, chosen=None)


def _room(shape: tuple[int, ...]) -> np.ndarray:
    if np.prod(shape, dtype=np.int64) <= _IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
