"""Which rows are released, so that a row of the source is told from one that readers have.

A row is known by its mark: a keyed digest of its image bytes and label, wherever it stands. Without
the key nobody can find out from a ledger whether a picture they have is among the clean ones.
"""

from __future__ import annotations

import hmac
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from release.errors import StorageError

_SIZE = 32
"""Bytes of a mark, and of the digest it is made from."""


def marks(key: bytes, digests: np.ndarray) -> np.ndarray:
    """(N,32) uint8: the HMAC-SHA256 under `key` of each row's digest (N,32) uint8."""
    data = np.ascontiguousarray(digests, np.uint8).tobytes()
    rows = (data[at : at + _SIZE] for at in range(0, len(data), _SIZE))
    keyed = b"".join(hmac.digest(key, row, "sha256") for row in rows)
    return np.frombuffer(keyed, np.uint8).reshape(-1, _SIZE)


@dataclass(frozen=True, eq=False)
class LedgerEntry:
    """What one release added: rows (N,) int64 as released, and their marks (N,32) uint8."""

    rows: np.ndarray
    marks: np.ndarray

    def __post_init__(self) -> None:
        if self.rows.shape != (len(self.rows),) or self.marks.shape != (len(self.rows), _SIZE):
            raise ValueError(f"{self.rows.shape} rows with marks {self.marks.shape}")

    @classmethod
    def of(cls, first_row: int, marks: np.ndarray) -> LedgerEntry:
        """The rows from `first_row` on, one for each of the marks (N,32) uint8."""
        return cls(np.arange(first_row, first_row + len(marks), dtype=np.int64), marks)

    def to_bytes(self) -> bytes:
        """The entry as it is kept: 32 bytes a row and little more."""
        steps = np.diff(self.rows.astype("<i8"), prepend=np.int64(0)).tobytes()
        buffer = io.BytesIO()
        # Marks are noise, which does not get smaller; the steps between rows are nearly all 1.
        np.save(buffer, np.frombuffer(zlib.compress(steps), np.uint8))
        np.save(buffer, self.marks.astype(np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> LedgerEntry:
        """The entry in a file's bytes; StorageError, calling it `where`, if it is damaged."""
        buffer = io.BytesIO(data)
        try:
            steps, found = np.load(buffer), np.load(buffer)
            rows = np.cumsum(np.frombuffer(zlib.decompress(steps.tobytes()), "<i8"))
            return cls(rows.astype(np.int64), found)
        except (ValueError, EOFError, zlib.error) as problem:
            raise StorageError(
                f"{where} holds no ledger entry ({problem}): restore it from an earlier version"
            ) from None


@dataclass(frozen=True, eq=False)
class Comparison:
    """A source beside what is released.

    old (M,2) int64: a place in the source and the released row that has the same image and label,
    by ascending place; new (L,) int64: the places never released, ascending; removed (R,) int64:
    the released rows that the source no longer has, ascending. A row that the source holds k times
    and the releases j times is old min(k,j) times: the first of each, in order.
    """

    old: np.ndarray
    new: np.ndarray
    removed: np.ndarray


@dataclass(frozen=True)
class Ledger:
    """The entries of a dataset's releases, oldest first."""

    entries: Sequence[LedgerEntry] = ()

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64: every released row, in order of release."""
        return np.concatenate([np.empty(0, np.int64), *(entry.rows for entry in self.entries)])

    @property
    def marks(self) -> np.ndarray:
        """(N,32) uint8: the mark of each."""
        empty = np.empty((0, _SIZE), np.uint8)
        return np.concatenate([empty, *(entry.marks for entry in self.entries)])

    def without(self, rows: Sequence[int]) -> Ledger:
        """The ledger of the other rows."""
        stay = ~np.isin(self.rows, rows)
        return Ledger([LedgerEntry(self.rows[stay], self.marks[stay])])

    def compare(self, marks: np.ndarray) -> Comparison:
        """Rows of a source with these marks (N,32) uint8, told apart by what is released."""
        count, released = len(marks), self.rows
        order, group = _grouped(np.concatenate([marks, self.marks]))
        is_source = order < count
        source_counts = np.bincount(group, weights=is_source).astype(np.int64)
        counts = np.bincount(group)
        turn = np.arange(len(order)) - (np.cumsum(counts) - counts)[group]
        # Within a group the source's rows come first, for they come first in `order`.
        turn -= np.where(is_source, 0, source_counts[group])
        both = turn < np.minimum(source_counts, counts - source_counts)[group]
        places, rows = order[is_source & both], released[order[~is_source & both] - count]
        old = np.stack([places, rows], axis=1)
        return Comparison(
            old=old[np.argsort(places)],
            new=np.sort(order[is_source & ~both]),
            removed=np.sort(released[order[~is_source & ~both] - count]),
        )


def _grouped(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which equal marks stand together, each group as it came, and for each place of
    that order the number of its group, from 0."""
    words = np.ascontiguousarray(marks, np.uint8).view(np.uint64).reshape(-1, _SIZE // 8)
    order = np.lexsort(words.T)
    differs = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    group = np.concatenate([np.zeros(min(1, len(order)), np.int64), np.cumsum(differs)])
    return order, group
