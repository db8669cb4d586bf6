"""Protected images beside their clean ones, in batches, so that any number fits in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from crafting.batch import PixelSplit
from evaluation.analyses.base import Material

_CHUNK = 500


@dataclass(frozen=True)
class Pair:
    """Images of the same rows (B,C,H,W) in whole grey levels, float32; labels (B,) or None."""

    clean: Tensor
    protected: Tensor
    labels: Tensor | None

    @property
    def noise(self) -> Tensor:
        """(B,D) float32: each image's difference, in grey levels."""
        return (self.protected - self.clean).flatten(1)


def pairs(material: Material) -> Iterator[Pair]:
    """Every protected row beside its clean image, in row order."""
    yield from aligned(material.originals, material.protected)


def aligned(clean: PixelSplit, protected: PixelSplit) -> Iterator[Pair]:
    """The rows of two splits that have the same ones."""
    for before, after in zip(clean.batches(_CHUNK), protected.batches(_CHUNK), strict=True):
        assert torch.equal(before.rows, after.rows)
        yield Pair(_levels(before.x), _levels(after.x), after.y)


def _levels(x: Tensor) -> Tensor:
    return x.mul(255).round_()
