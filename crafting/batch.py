"""The values that flow: a batch of numbered images, and a split that yields them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_COPIED_ROWS = 1000


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
        labels = None if self.y is None else sent(self.y, device)
        return Batch(self.rows, sent(self.x, device), labels)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on `device`. A CUDA device is not waited for: ordinary memory is read at once and
    may change then, and a step of training that waited for each of its copies would leave the GPU
    idle. Apple's may read it later."""
    return values.to(device, non_blocking=device.type not in ("cpu", "mps"))


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

    def numbers(self) -> np.ndarray:
        """(N,) int64: the row numbers, in row order; no image is read for them."""
        ...

    def take(self, rows: Sequence[int]) -> Split:
        """The split of only these row numbers, in this split's order."""
        ...


def _as_it_is(batch: Batch) -> Batch:
    return batch


@dataclass(frozen=True)
class ShownSplit:
    """A split whose batches are shown in another way when they are read.

    shown: what is done to each; first_epoch: of the split's orders, the one that epoch 0 has here.
    """

    split: Split
    shown: Callable[[Batch], Batch] = _as_it_is
    first_epoch: int = 0

    @property
    def num_classes(self) -> int:
        return self.split.num_classes

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        order = None if epoch is None else self.first_epoch + epoch
        for batch in self.split.batches(size, order):
            yield self.shown(batch)

    def numbers(self) -> np.ndarray:
        return self.split.numbers()

    def take(self, rows: Sequence[int]) -> ShownSplit:
        return replace(self, split=self.split.take(rows))


@dataclass(frozen=True)
class PixelSplit:
    """A split over one array of equally large images, which may be memory-mapped.

    pixels (N,C,H,W) uint8; rows (N,) int64 ascending; targets (N,) int64 or None;
    chosen: positions of this view within the arrays, ascending; a row may be there repeatedly.
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

    def numbers(self) -> np.ndarray:
        found: np.ndarray = self.rows[self.places()]
        return found

    def numbered(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The row numbers (N,) int64 of this view, ascending, and their labels (N,) int64 or
        None."""
        return self.numbers(), None if self.targets is None else self.targets[self.places()]

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        for at in self.order(size, epoch):
            yield self.batch(at, self.levels(at))

    def take(self, rows: Sequence[int]) -> PixelSplit:
        inside = np.isin(self.rows[self.places()], np.asarray(rows, dtype=np.int64))
        return replace(self, chosen=self.places()[inside])

    def places(self) -> np.ndarray:
        """(n,) int64 ascending: where this view's rows stand in the arrays."""
        return np.arange(len(self.rows)) if self.chosen is None else self.chosen

    def order(self, size: int, epoch: int | None) -> Iterator[np.ndarray]:
        """The places of each batch, as `batches` takes them."""
        order = self.places()
        if epoch is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def levels(self, at: np.ndarray) -> Tensor:
        """(B,C,H,W) uint8 on CPU: the pixels of the rows at these places."""
        return torch.from_numpy(np.ascontiguousarray(self.pixels[at]))

    def batch(self, at: np.ndarray, levels: Tensor) -> Batch:
        """The rows at these places with their pixels, made where `levels` are."""
        device = levels.device
        # A number, unlike a tensor, would make a GPU multiply by 1/255, which rounds otherwise.
        x = levels.float().div_(torch.full((), 255.0, device=device))
        y = None if self.targets is None else sent(torch.from_numpy(self.targets[at]), device)
        return Batch(torch.from_numpy(self.rows[at]), x, y)


@dataclass(frozen=True)
class DeviceSplit:
    """The rows of a split as batches made on `device`, to which pixels go as uint8.

    held: the pixels (n,C,H,W) uint8 of all rows on the device, or None where each batch fetches its
    own.
    """

    split: PixelSplit
    device: torch.device
    held: Tensor | None

    @property
    def num_classes(self) -> int:
        return self.split.num_classes

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        for at in self.split.order(size, epoch):
            yield self.split.batch(at, self._levels(at))

    def numbers(self) -> np.ndarray:
        return self.split.numbers()

    def take(self, rows: Sequence[int]) -> DeviceSplit:
        return DeviceSplit(self.split.take(rows), self.device, None)

    def _levels(self, at: np.ndarray) -> Tensor:
        if self.held is None:
            return sent(self.split.levels(at), self.device)
        places = torch.from_numpy(np.searchsorted(self.split.places(), at))
        return self.held[sent(places, self.device)]


def read_on(device: torch.device, split: Split, most_held: int | None = None) -> Split:
    """The same rows, in the same order and with the same values, for work on `device`.

    Pixels of at most `most_held` bytes stay on the device, by default of at most a quarter of the
    memory that a GPU has free; more are fetched batch by batch. On CPU, and where a split holds no
    array of pixels, it is `split` itself; batches shown in another way are so on the device.
    """
    if isinstance(split, ShownSplit):
        return replace(split, split=read_on(device, split.split, most_held))
    if not isinstance(split, PixelSplit) or (device.type == "cpu" and most_held is None):
        return split
    if most_held is None:
        most_held = _free_memory(device) // 4
    fits = len(split) * math.prod(split.shape) <= most_held
    return DeviceSplit(split, device, _copied(split, device) if fits else None)


def _free_memory(device: torch.device) -> int:
    """Bytes; 0 for a kind of device that does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _copied(split: PixelSplit, device: torch.device) -> Tensor:
    """The pixels (n,C,H,W) uint8 of a view on the device, copied in parts: the array may be larger
    than this machine's memory."""
    held = torch.empty((len(split), *split.shape), dtype=torch.uint8, device=device)
    for start, at in zip(count(0, _COPIED_ROWS), split.order(_COPIED_ROWS, None), strict=False):
        held[start : start + len(at)] = split.levels(at).to(device)
    return held
