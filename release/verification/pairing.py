"""Which clean row each released row was made from.

At first the k-th released row is the k-th clean one. Later it need not be: new images of a folder
come between the old ones, and rows are taken out or put in another order. So rows are told by what
they look like: by thumbnails, among rows of the same label, within what the budgets of the release
let them differ. Where nothing bounds that, an image has to stand out as the nearest one, by far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from release.chain import Chain
from release.survey import Survey

if TYPE_CHECKING:
    from crafting.budget import Budget

_NEAREST = 8
"""How many clean rows are looked at more closely for each released one at a time."""
_STANDS_OUT = 0.6
"""Where no budget bounds the difference, a row's own image is taken to lie nearer than this share
of the distance to the farthest of its nearest ones."""
_SURE = 0.99
"""Share of such rows that have to be more like the clean row of their place than like another, for
the order to be believed."""
_ROUNDING = 2
"""Levels by which rounding can move a value of two thumbnails apart."""
_BLOCK = 2048
"""Rows of either side compared at once: memory stays flat."""


@dataclass(frozen=True)
class Reach:
    """How far released rows may lie from their clean ones, in grey levels of a thumbnail, for each
    row: `rms` on the mean square, `peak` at any value; infinite where nothing bounds it."""

    rms: np.ndarray
    peak: np.ndarray

    @property
    def is_bounded(self) -> bool:
        """Whether every row is bounded."""
        return bool(np.isfinite(self.rms).all())

    def of(self, rows: np.ndarray) -> Reach:
        """That of some of the rows, by their places."""
        return Reach(self.rms[rows], self.peak[rows])


def reach_of(chain: Chain, released: Survey) -> Reach:
    """What the budgets of the releases allow each row; nothing is known of what is not ours."""
    sizes = released.sizes[released.rows()].astype(np.int64)
    reach = Reach(np.full(len(sizes), np.inf), np.full(len(sizes), np.inf))
    if chain.manifests and chain.num_rows == len(sizes):
        start = 0
        for manifest in chain.manifests:
            rows = slice(start, start + manifest.num_rows)
            reach.rms[rows], reach.peak[rows] = _allowed(manifest.budget, sizes[rows])
            start += manifest.num_rows
    return reach


def pair(released: Survey, originals: Survey, reach: Reach, *, labelled: bool) -> np.ndarray:
    """(M,2) int64, ascending by the first: released rows, and the clean row that each was made
    from; no clean row is there twice, and released rows that none was found for are left out. Both
    surveys have thumbnails, and labels are compared where they are `labelled`."""
    ours, theirs = released.rows(), originals.rows()
    if _in_order(released, originals, reach, labelled=labelled):
        return np.stack([ours, theirs[: len(ours)]], axis=1)
    partner = np.full(len(ours), -1, dtype=np.int64)
    classes = released.labels[ours] if labelled else np.zeros(len(ours), dtype=np.int64)
    others = originals.labels[theirs] if labelled else np.zeros(len(theirs), dtype=np.int64)
    for label in np.unique(classes):
        mine, candidates = np.flatnonzero(classes == label), theirs[others == label]
        found = _matched(released, ours[mine], originals, candidates, reach.of(mine))
        partner[mine[found >= 0]] = candidates[found[found >= 0]]
    known = partner >= 0
    return np.stack([ours[known], partner[known]], axis=1)


def _allowed(text: str, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a budget lets thumbnails of images of these sizes (C,H,W) differ by, as in `Reach`.
    Averaging over pixels lengthens no difference, so what bounds images bounds thumbnails."""
    from crafting.budget import parse

    values = np.maximum(1, sizes.prod(axis=1))
    try:
        length, peak = _longest(parse(text), values, sizes[:, 0])
    except ValueError:  # of a later version: nothing is known of it
        length, peak = np.full(len(values), np.inf), np.inf
    return length / np.sqrt(values) + _ROUNDING, np.full(len(values), peak + _ROUNDING)


def _longest(budget: Budget, values: np.ndarray, channels: np.ndarray) -> tuple[np.ndarray, float]:
    """The greatest Euclidean length of a difference of so many values, and the greatest value."""
    from crafting.budget import L0, L2, Linf, Sum

    if isinstance(budget, Sum):
        lengths, peaks = zip(*(_longest(b, values, channels) for b in budget.parts), strict=True)
        return np.sum(lengths, axis=0), sum(peaks)
    if isinstance(budget, Linf):
        return budget.levels * np.sqrt(values), budget.levels
    if isinstance(budget, L2):
        return np.full(len(values), 255 * budget.radius), 255
    if isinstance(budget, L0):
        return 255 * np.sqrt(budget.pixels * channels), 255
    return np.full(len(values), np.inf), np.inf


def _in_order(released: Survey, originals: Survey, reach: Reach, *, labelled: bool) -> bool:
    """Whether the k-th released row was made from the k-th clean one, for each, as far as labels
    and budgets say, and likeness where there is no budget."""
    ours, theirs = released.rows(), originals.rows()
    theirs = theirs[: len(ours)]
    if len(theirs) < len(ours):
        return False
    if labelled and (released.labels[ours] != originals.labels[theirs]).any():
        return False
    other = theirs[_next_of_class(originals.labels[theirs])]
    unknown, like_own = np.isinf(reach.rms), 0
    for start in range(0, len(ours), _BLOCK):
        at = slice(start, start + _BLOCK)
        after, before = _thumbs(released, ours[at]), _thumbs(originals, theirs[at])
        if (_distance(after, before, reach.peak[at]) > reach.rms[at]).any():
            return False
        own = _likeness(after, before) >= _likeness(after, _thumbs(originals, other[at]))
        like_own += int((own & unknown[at]).sum())
    return like_own >= _SURE * float(unknown.sum())


def _next_of_class(labels: np.ndarray) -> np.ndarray:
    """(N,) for each row the place of the next one of its label, of another after the last."""
    order = np.argsort(labels, kind="stable")
    following = np.empty_like(order)
    following[order] = np.roll(order, -1)
    return following


def _likeness(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) how alike thumbnails (N,D) are, each to its own, whatever their brightness and contrast:
    1 where they are the same picture."""
    both = [thumbs - thumbs.mean(axis=1, keepdims=True) for thumbs in (mine, others)]
    lengths = [np.linalg.norm(each, axis=1) for each in both]
    alike: np.ndarray = (both[0] * both[1]).sum(axis=1) / np.maximum(1e-9, lengths[0] * lengths[1])
    return alike


def _matched(
    released: Survey, ours: np.ndarray, originals: Survey, theirs: np.ndarray, reach: Reach
) -> np.ndarray:
    """(len(ours),) the place in `theirs` of the nearest row within reach, the nearest pairs first
    and each of `theirs` once; -1 where there is none."""
    partner = np.full(len(ours), -1, dtype=np.int64)
    left, free, bound = np.arange(len(ours)), np.arange(len(theirs)), reach.rms.copy()
    while len(left) and len(free):
        near, apart = _nearest(released, ours[left], originals, theirs[free], reach.peak[left])
        unknown = np.isinf(bound[left]) & (len(theirs) > 1)
        bound[left[unknown]] = _STANDS_OUT * apart[unknown, -1]
        taken = _nearest_first(near, apart, bound[left])
        new = taken >= 0
        if not new.any():
            break
        partner[left[new]] = free[taken[new]]
        free = np.delete(free, taken[new])
        # Only where others took all that were looked at, as among equal images, is there hope.
        left = left[~new & (apart[:, 0] <= bound[left])]
    return partner


def _nearest_first(near: np.ndarray, apart: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """(N,) for each row one of its candidates `near` (N,K), none of them twice, the nearest pairs
    first; -1 where others took them, or they are farther `apart` (N,K) than its bound."""
    partner, taken = np.full(len(near), -1, dtype=np.int64), set()
    for edge in np.argsort(apart, axis=None, kind="stable").tolist():
        row, place = divmod(edge, near.shape[1])
        candidate = int(near[row, place])
        if partner[row] < 0 and candidate not in taken and apart[row, place] <= bound[row]:
            partner[row] = candidate
            taken.add(candidate)
    return partner


def _nearest(
    released: Survey, ours: np.ndarray, originals: Survey, theirs: np.ndarray, peak: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N,K) the places in `theirs` of the nearest rows, and how far they are, ascending."""
    found = []
    for start in range(0, len(ours), _BLOCK):
        mine = _thumbs(released, ours[start : start + _BLOCK])
        places = np.sort(_shortlist(mine, originals, theirs), axis=1)
        each = peak[start : start + _BLOCK]
        columns = [_distance(mine, _thumbs(originals, theirs[p]), each) for p in places.T]
        apart = np.stack(columns, axis=1)
        order = np.argsort(apart, axis=1, kind="stable")
        found.append((np.take_along_axis(places, order, 1), np.take_along_axis(apart, order, 1)))
    near, apart = zip(*found, strict=True)
    return np.concatenate(near), np.concatenate(apart)


def _shortlist(mine: np.ndarray, originals: Survey, theirs: np.ndarray) -> np.ndarray:
    """(N,K) the places in `theirs` of the rows that are nearest to thumbnails (N,D)."""
    count, centred = min(_NEAREST, len(theirs)), _centred(mine)
    places, squares = [], []
    for start in range(0, len(theirs), _BLOCK):
        others = _centred(_thumbs(originals, theirs[start : start + _BLOCK]))
        # Less the square of one's own length, which is the same for all others.
        square = (others * others).sum(axis=1) - 2 * centred @ others.T
        least = np.argpartition(square, min(count, len(others)) - 1, axis=1)[:, :count]
        places.append(start + least)
        squares.append(np.take_along_axis(square, least, 1))
    all_places = np.concatenate(places, axis=1)
    least = np.argpartition(np.concatenate(squares, axis=1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(all_places, least, 1)


def _distance(mine: np.ndarray, others: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """(N,) the root of the mean square in grey levels between thumbnails (N,D), each with its own;
    infinite where some value differs by more than its peak."""
    gap = mine.astype(np.float32) - others
    apart: np.ndarray = np.sqrt((gap * gap).mean(axis=1))
    return np.where(np.abs(gap).max(axis=1) > peak, np.float32(np.inf), apart)


def _centred(thumbs: np.ndarray) -> np.ndarray:
    """Around 0, where squares lose no digits that tell rows apart."""
    return thumbs.astype(np.float32) - 128


def _thumbs(survey: Survey, rows: np.ndarray) -> np.ndarray:
    """(N,D) uint8."""
    assert survey.thumbs is not None, "it was made with thumbnails"
    return np.asarray(survey.thumbs[rows]).reshape(len(rows), -1)
