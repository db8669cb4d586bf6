"""Images that take too much memory as float32: crafted alone, smaller where need be, and compared
piece by piece.

A method makes tensors as large as the image, about ten of them. An image of more than `MOST_VALUES`
is therefore crafted at a smaller size, and what was changed there is enlarged: each pixel gets the
noise of the nearest place. Nets see images of a few hundred pixels a side, for which finer noise is
averaged away; what a pixel of the smaller image lost to a budget of few pixels, the middle one of
those that it stands for loses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from crafting.batch import Batch
from crafting.budget import Allowance, Budget
from crafting.method import Crafter

ALONE = 1 << 22
"""Images of more values than this (16 MiB as float32) are crafted one at a time."""
MOST_VALUES = 1 << 23
"""As many a crafter is given at most: 32 MiB as float32, 2.8 megapixels in colour."""
_PIECE = 1 << 22
"""Values of an image that are looked at together."""


def protect_alone(
    crafter: Crafter,
    budget: Budget,
    row: int,
    image: np.ndarray,
    label: int | None,
    device: torch.device,
) -> np.ndarray:
    """Protected pixels (H,W,C) uint8 of one image (H,W,C) uint8, within budget of it."""
    small = _reduced(image)
    x = torch.from_numpy(small).permute(2, 0, 1)[None].float().div_(255)
    batch = Batch(torch.tensor([row]), x, None if label is None else torch.tensor([label]))
    batch = batch.to(device)
    quantised = budget.quantise(crafter(batch).to(batch.x), batch.x)
    made = quantised[0].permute(1, 2, 0).cpu().numpy()
    return made if small is image else enlarged(budget, image, small, made)


def enlarged(budget: Budget, clean: np.ndarray, small: np.ndarray, made: np.ndarray) -> np.ndarray:
    """`clean` (H,W,C) with what was changed from `small` to `made` (h,w,C), enlarged, within budget
    of it; all uint8."""
    delta = made.astype(np.int16) - small
    rows, columns = (_nearest(clean.shape[side], small.shape[side]) for side in (0, 1))
    few = _largest(delta, budget.allowance.pixels)
    delta[few] = 0
    dense = _within(budget.allowance, delta, rows, columns)
    out = np.empty_like(clean)
    for piece in _pieces(clean):
        moved = dense[rows[piece]][:, columns]
        out[piece] = (clean[piece] + moved).clip(0, 255)
    for row, column in zip(*few, strict=True):
        out[_middle(rows, row), _middle(columns, column)] = made[row, column]
    return out


def holds(budget: Budget, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether `after` is within budget of `before`; both (H,W,C) uint8. As `Budget.holds`, in whole
    numbers and in little memory."""
    allowed = budget.allowance
    seen = _Seen(allowed)
    for piece in _pieces(before):
        seen.add(after[piece].astype(np.int16) - before[piece])
    return math.sqrt(seen.beyond) <= allowed.radius * 255


@dataclass
class _Seen:
    """Of the differences looked at so far: the pixels set aside (k,C), and the sum of squares of
    what the others differ by beyond the levels."""

    allowed: Allowance
    beyond: int = 0
    aside: list[np.ndarray] = field(default_factory=list)

    def add(self, delta: np.ndarray) -> None:
        """delta: (H,W,C) int16."""
        few = _largest(delta, self.allowed.pixels)
        candidates = [*self.aside, *delta[few]]
        delta[few] = 0
        candidates.sort(key=lambda pixel: int(np.abs(pixel).max()), reverse=True)
        self.aside = candidates[: self.allowed.pixels]
        self.beyond += self._beyond(delta)
        self.beyond += sum(self._beyond(pixel) for pixel in candidates[self.allowed.pixels :])

    def _beyond(self, delta: np.ndarray) -> int:
        over = np.maximum(np.abs(delta) - self.allowed.levels, 0, dtype=np.int32)
        return int(np.square(over, out=over).sum(dtype=np.int64))


def _reduced(image: np.ndarray) -> np.ndarray:
    """The image (H,W,C) uint8, or a smaller one of the same shape where it has too many values."""
    if image.size <= MOST_VALUES:
        return image
    scale = (MOST_VALUES / image.size) ** 0.5
    size = [max(1, int(side * scale)) for side in image.shape[:2]]
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = F.interpolate(x, size, mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()


def _nearest(length: int, size: int) -> np.ndarray:
    """(length,): which of `size` places is nearest to each of `length`."""
    return ((np.arange(length) + 0.5) * size / length).astype(np.int64)


def _middle(nearest: np.ndarray, place: int) -> int:
    """The middle of those to which this place is nearest."""
    first, after = np.searchsorted(nearest, [place, place + 1])
    return int(first + after - 1) // 2


def _largest(delta: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the `count` pixels (H,W,C) that differ most; fewer where fewer differ."""
    size = np.abs(delta).max(axis=2).ravel() if count else np.empty(0, np.int16)
    places = (
        np.argpartition(size, -count)[-count:] if 0 < count < len(size) else np.arange(len(size))
    )
    rows, columns = np.divmod(places[size[places] > 0], delta.shape[1])
    return rows, columns


def _within(
    allowed: Allowance, delta: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """The differences (h,w,C) int16 that are allowed when each is repeated over its place."""
    within: np.ndarray = delta.clip(-allowed.levels, allowed.levels)
    beyond = delta - within
    if allowed.radius == 0 or not beyond.any():
        return within
    times = np.outer(np.bincount(rows), np.bincount(columns))[..., None]

    def length(values: np.ndarray) -> float:
        return float((times * np.square(values.astype(np.float64))).sum() ** 0.5)

    # 1 % below the radius, as `L2` itself: rounding lengthens a difference slightly.
    scaled = beyond * min(1.0, 0.99 * allowed.radius * 255 / length(beyond))
    rounded = np.round(scaled)
    if length(rounded) > allowed.radius * 255:
        rounded = np.trunc(scaled)
    within += rounded.astype(np.int16)
    return within


def _pieces(image: np.ndarray) -> Iterator[slice]:
    """Bands of whole rows of an image (H,W,C), of about `_PIECE` values each."""
    height = max(1, _PIECE // max(1, image[0].size))
    for start in range(0, len(image), height):
        yield slice(start, start + height)
