"""The values that flow: a batch of numbered images, and a split that yields them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some rows of a split.

    rows (B,) int64: their places in the release; x (B,C,H,W) float32 in [0,1], not normalised;
    y (B,) int64, or None where the source has no labels.
    """

    rows: Tensor
    x: Tensor
    y: Tensor | None

    def labels(self) -> Tensor:
        """The labels of a batch that is known to have them."""
        assert self.y is not None, "a method that needs labels was given none"
        return self.y

    def to(self, device: torch.device) -> Batch:
        moved = None if self.y is None else self.y.to(device)
        return Batch(self.rows, self.x.to(device), moved)


class Split(Protocol):
    """Numbered rows that can be read again and again.

    Every rank sees the whole split and takes its own share of each batch itself.
    """

    @property
    def num_classes(self) -> int: ...

    def __len__(self) -> int: ...

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        """Every row once in batches of at most `size`: in row order, or, where `epoch` is given,
        in an order drawn from the split's seed and the epoch. Images of one batch have one size."""
        ...

    def take(self, rows: Sequence[int]) -> Split:
        """The split of only these row numbers, in this split's order."""
        ...


@dataclass(frozen=True)
class PixelSplit:
    """A split over one array of equally large images, which may be memory-mapped.

    pixels (N,C,H,W) uint8; rows (N,) int64 ascending; targets (N,) int64 or None;
    chosen: positions of this view within the arrays, ascending.
    """

    pixels: np.ndarray
    rows: np.ndarray
    targets: np.ndarray | None
    num_classes: int
    seed: int = 0
    chosen: np.ndarray | None = None

    @classmethod
    def load(cls, folder: Path) -> PixelSplit:
        """The split that was left in `folder`: pixels.npy (memory-mapped), rows.npy, targets.npy
        where there are labels, and split.json with num_classes and seed."""
        facts = json.loads((folder / "split.json").read_text())
        targets = folder / "targets.npy"
        return cls(
            pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
            rows=np.load(folder / "rows.npy"),
            targets=np.load(targets) if targets.exists() else None,
            num_classes=facts["num_classes"],
            seed=facts["seed"],
        )

    def __len__(self) -> int:
        return len(self.rows) if self.chosen is None else len(self.chosen)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W) of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        order = self._positions()
        if epoch is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for start in range(0, len(order), size):
            yield self._batch(order[start : start + size])

    def take(self, rows: Sequence[int]) -> PixelSplit:
        inside = np.isin(self.rows[self._positions()], np.asarray(rows, dtype=np.int64))
        return replace(self, chosen=self._positions()[inside])

    def _positions(self) -> np.ndarray:
        return np.arange(len(self.rows)) if self.chosen is None else self.chosen

    def _batch(self, at: np.ndarray) -> Batch:
        pixels = torch.from_numpy(np.ascontiguousarray(self.pixels[at]))
        targets = None if self.targets is None else torch.from_numpy(self.targets[at])
        return Batch(torch.from_numpy(self.rows[at]), pixels.float().div_(255), targets)
