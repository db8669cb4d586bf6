"""How far released images lie from the clean ones, as sums that can be added over shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.similarity import WINDOW, gaussian_mean, similarities

_BAND_VALUES = 1 << 19
"""Of large images: a dozen float32 arrays of a band are in memory together."""
_CHUNK_PIXELS = 128 * 32 * 32
"""Pixels looked at together: bounds memory, and what stays in cache is fastest on one core."""


@dataclass(frozen=True)
class Visibility:
    """Sums over rows; the properties are what they mean, in grey levels of 255.

    changed counts the rows that differ at all: identical ones have no finite PSNR.
    """

    rows: int = 0
    changed: int = 0
    values: int = 0
    max_level: int = 0
    squared_error: int = 0
    level_sum: int = 0
    psnr_sum: float = 0.0
    ssim_sum: float = 0.0

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB of the changed rows, or None where no row changed."""
        return self.psnr_sum / self.changed if self.changed else None

    @property
    def ssim(self) -> float:
        """Mean structural similarity (Wang et al. 2004) of all rows; 1 is identical."""
        return self.ssim_sum / self.rows if self.rows else 1.0

    @property
    def shift(self) -> float:
        """Mean signed change of a value: 0 where noise neither brightens nor darkens."""
        return self.level_sum / self.values if self.values else 0.0

    @property
    def rms_level(self) -> float:
        """Root of the mean squared change of a value."""
        return float((self.squared_error / self.values) ** 0.5) if self.values else 0.0

    def merge(self, other: Visibility) -> Visibility:
        """What measuring both sets of rows together gives."""
        names = [field.name for field in fields(self) if field.name != "max_level"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Visibility(max_level=max(self.max_level, other.max_level), **sums)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Visibility:
        return cls(**values)


def measure(clean: Sequence[np.ndarray], protected: Sequence[np.ndarray]) -> Visibility:
    """How far each image of `protected` lies from its clean one; both (H,W,C) uint8, of any mix of
    sizes. ValueError where two differ in shape."""
    total = Visibility()
    for at in _alike(clean, protected):
        before, after = (_stacked([images[i] for i in at]) for images in (clean, protected))
        total = total.merge(_measure(before, after))
    return total


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """(B,H,W,C); one image, which may be large, is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


def _alike(clean: Sequence[np.ndarray], protected: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Positions of images of one shape, at most `_CHUNK_PIXELS` together."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, (before, after) in enumerate(zip(clean, protected, strict=True)):
        if before.shape != after.shape:
            raise ValueError(
                f"image {at} is {after.shape} where the clean one is {before.shape}: compare "
                "images of the same size and channels"
            )
        groups[before.shape].append(at)
    for (height, width, _), positions in groups.items():
        size = max(1, _CHUNK_PIXELS // (height * width))
        for start in range(0, len(positions), size):
            yield positions[start : start + size]


def _measure(clean: np.ndarray, protected: np.ndarray) -> Visibility:
    """The sums of images (B,H,W,C) uint8 of one size, large ones looked at in bands."""
    squares = np.zeros(len(clean), np.int64)
    max_level, level_sum, ssim = 0, 0, np.zeros(len(clean))
    for band in _bands(clean[0]):
        delta = protected[:, band].astype(np.int32) - clean[:, band]
        squares += (delta * delta).reshape(len(delta), -1).sum(1, dtype=np.int64)
        max_level = max(max_level, int(np.abs(delta).max(initial=0)))
        level_sum += int(delta.sum(dtype=np.int64))
        ssim += _similar(clean, protected, band) * (delta.shape[1] / clean.shape[1])
    changed = squares[squares > 0]
    mean_squares = changed / clean[0].size
    return Visibility(
        rows=len(clean),
        changed=len(changed),
        values=clean.size,
        max_level=max_level,
        squared_error=int(squares.sum()),
        level_sum=level_sum,
        psnr_sum=float(np.sum(10 * np.log10(255**2 / mean_squares))),
        ssim_sum=float(ssim.sum()),
    )


def _bands(image: np.ndarray) -> Iterator[slice]:
    """Rows of an image (H,W,C) that are looked at together: all, or of a large one bands of nearly
    one height, which is that of a window or more."""
    most = max(2 * WINDOW, _BAND_VALUES // max(1, image[0].size))
    ends = np.linspace(0, len(image), -(-len(image) // most) + 1).astype(int).tolist()
    yield from map(slice, ends, ends[1:])


def _similar(clean: np.ndarray, protected: np.ndarray, band: slice) -> np.ndarray:
    """(B,) float64: the mean similarity around the places of this band, of which each looks at a
    window."""
    first = max(0, band.start - WINDOW // 2)
    seen = slice(first, band.stop + WINDOW // 2)
    before, after = (_windowed(images[:, seen]) for images in (clean, protected))
    around = similarities(after, before, gaussian_mean, white=255.0)
    # Images smaller than a window were made larger: all of what is there is theirs.
    rows = None if band.stop == clean.shape[1] else band.stop - first
    own = around[:, :, band.start - first : rows]
    return own.flatten(1).mean(1).double().numpy()


def _windowed(images: np.ndarray) -> Tensor:
    """(B,C,H,W) float32 with edges repeated up to the size of one window."""
    x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
    tall, wide = (max(0, WINDOW - side) for side in x.shape[-2:])
    if tall or wide:
        x = F.pad(x, (0, wide, 0, tall), mode="replicate")
    return x
