"""A noise for every row of a split, in whole grey levels: one flat file of 8-bit numbers.

Images may differ in size: an index says where each noise begins and what shape it has. A noise is
found by the digest of its row's image and label, never by the row's place, so that rows of a later
release that happen to have the same numbers are not taken for those of this one. Rows with equal
digests share the noise that was written first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MOST_LEVELS = 127
"""What a noise may hold, up and down."""
_LEVELS, _INDEX = "noise.int8", "noise.npz"
_KEY_BYTES = 8  # among a million digests, two with the same 64 bits are one in ten million banks


class NoiseWriter:
    """Writes a new bank into `folder`, batch after batch; it is whole once the context ends.

    In a folder of None nothing is written: other ranks take part in the work, one keeps it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._keys: list[np.ndarray] = []
        self._shapes: list[tuple[int, ...]] = []

    def __enter__(self) -> NoiseWriter:
        self._file = None if self._folder is None else open(self._folder / _LEVELS, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._file is None or self._folder is None:
            return
        self._file.close()
        if kind is None:
            self._write_index(self._folder / _INDEX)

    def add(self, digests: Sequence[bytes], levels: Tensor) -> None:
        """The noises (B,C,H,W) of rows with these digests, whole levels within +-127."""
        assert levels.abs().max() <= MOST_LEVELS, "noise that 8 bits cannot hold"
        if self._file is not None:
            self._file.write(levels.to(torch.int8).cpu().contiguous().numpy().tobytes())
            self._keys.append(_keys(digests))
            self._shapes += [tuple(levels.shape[1:])] * len(levels)

    def _write_index(self, path: Path) -> None:
        keys = np.concatenate([np.zeros(0, np.uint64), *self._keys])
        shapes = np.array(self._shapes, dtype=np.int64).reshape(-1, 3)
        sizes = shapes.prod(1)
        order = np.argsort(keys, kind="stable")
        starts = np.cumsum(sizes) - sizes
        np.savez(path, keys=keys[order], starts=starts[order], shapes=shapes[order])


@dataclass(frozen=True)
class NoiseBank:
    """The noises of a bank, read from disk as they are asked for.

    keys (N,) uint64 ascending; starts (N,) int64: where each begins in `levels`, flat int8;
    shapes (N,3) int64.
    """

    keys: np.ndarray
    starts: np.ndarray
    shapes: np.ndarray
    levels: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> NoiseBank:
        """The bank in `folder`, or one without noises where there is none."""
        if not (folder / _INDEX).exists():
            empty = np.zeros(0, np.int64)
            return cls(np.zeros(0, np.uint64), empty, np.zeros((0, 3), np.int64), empty)
        with np.load(folder / _INDEX) as index:
            levels = np.memmap(folder / _LEVELS, np.int8, "r")
            return cls(index["keys"], index["starts"], index["shapes"], levels)

    def __len__(self) -> int:
        return len(self.keys)

    def noise(self, digests: Sequence[bytes], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The noises (B, *shape) float32, in units where 1 is 255 levels, of the rows with these
        digests, made to fit where they have another shape, and which of them (B,) bool there are:
        the others are 0."""
        noises = torch.zeros(len(digests), *shape)
        places = self._places(_keys(digests))
        for row in np.flatnonzero(places >= 0):
            noises[row] = fitted(self._one(places[row])[None], shape)[0]
        return noises.div_(255), torch.from_numpy(places >= 0)

    def _one(self, place: int) -> Tensor:
        """(c,h,w) float32: whole levels."""
        start, shape = self.starts[place], self.shapes[place]
        levels = self.levels[start : start + shape.prod()].reshape(shape)
        return torch.from_numpy(levels.astype(np.float32))

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """(B,) int64: where each key stands, or -1 where it does not."""
        if not len(self):
            return np.full(len(keys), -1)
        at = np.searchsorted(self.keys, keys).clip(max=len(self) - 1)
        return np.where(self.keys[at] == keys, at, -1)


def fitted(noise: Tensor, shape: Sequence[int]) -> Tensor:
    """Noises (B,c,h,w) for images of shape (C,H,W): their mean over channels for one channel,
    resized (bilinear) for another size. None becomes larger than it was anywhere."""
    channels, *size = shape
    if channels < noise.shape[1]:
        noise = noise.mean(1, keepdim=True)
    if tuple(size) != noise.shape[2:]:
        noise = F.interpolate(noise, size, mode="bilinear", align_corners=False)
    return noise.expand(-1, channels, -1, -1)


def _keys(digests: Sequence[bytes]) -> np.ndarray:
    joined = b"".join(digest[:_KEY_BYTES] for digest in digests)
    assert len(joined) == len(digests) * _KEY_BYTES, "a row's digest is too short"
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64)
