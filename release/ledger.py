"""Which rows are released, so that a row of the source is told from one that readers have.

A row is known by its mark: a keyed digest of its image bytes and label, wherever it stands. Without
the key nobody can find out from a ledger whether a picture they have is among the clean ones.
"""

from __future__ import annotations

import hmac
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from release.errors import StorageError

_SIZE = 32
"""Bytes of a mark, and of the digest it is made from."""
PICTURE = 16
"""Bytes of what is kept of the mark of a picture."""


def marks(key: bytes, digests: np.ndarray) -> np.ndarray:
    """(N,32) uint8: the HMAC-SHA256 under `key` of each row's digest (N,D) uint8."""
    data, size = np.ascontiguousarray(digests, np.uint8).tobytes(), digests.shape[1]
    rows = (data[at : at + size] for at in range(0, len(data), size))
    keyed = b"".join(hmac.digest(key, row, "sha256") for row in rows)
    return np.frombuffer(keyed, np.uint8).reshape(-1, _SIZE)


@dataclass(frozen=True)
class Noise:
    """What made the noise of rows: the method, for people, and a key; where keys are equal, a row
    has the same noise."""

    method: str
    key: str


@dataclass(frozen=True, eq=False)
class LedgerEntry:
    """What one release added: rows (N,) int64 as released, and their marks (N,32) uint8; pictures
    (N,16) uint8: the marks of their images alone, whatever their labels; what made their noise; and
    which of the rows it left out. Entries of earlier versions have rows and marks alone."""

    rows: np.ndarray
    marks: np.ndarray
    pictures: np.ndarray | None = None
    noise: Noise | None = None
    left_out: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.rows.shape != (len(self.rows),) or self.marks.shape != (len(self.rows), _SIZE):
            raise ValueError(f"{self.rows.shape} rows with marks {self.marks.shape}")

    @classmethod
    def of(
        cls,
        first_row: int,
        marks: np.ndarray,
        pictures: np.ndarray | None = None,
        noise: Noise | None = None,
        left_out: Sequence[int] = (),
    ) -> LedgerEntry:
        """The rows from `first_row` on, one for each of the marks (N,32) uint8."""
        rows = np.arange(first_row, first_row + len(marks), dtype=np.int64)
        return cls(rows, marks, pictures, noise, left_out)

    def released(self) -> LedgerEntry:
        """The entry of the rows that it did not leave out."""
        stay = ~np.isin(self.rows, self.left_out)
        pictures = None if self.pictures is None else self.pictures[stay]
        return LedgerEntry(self.rows[stay], self.marks[stay], pictures, self.noise)

    def to_bytes(self) -> bytes:
        """The entry as it is kept: 48 bytes a row and little more."""
        steps = np.diff(self.rows.astype("<i8"), prepend=np.int64(0)).tobytes()
        buffer = io.BytesIO()
        # Marks are noise, which does not get smaller; the steps between rows are nearly all 1.
        np.save(buffer, np.frombuffer(zlib.compress(steps), np.uint8))
        np.save(buffer, self.marks.astype(np.uint8))
        made = None if self.noise is None else asdict(self.noise)
        facts = json.dumps({"noise": made, "left_out": list(self.left_out)})
        np.save(buffer, np.frombuffer(zlib.compress(facts.encode()), np.uint8))
        if self.pictures is not None:
            np.save(buffer, self.pictures.astype(np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> LedgerEntry:
        """The entry in a file's bytes; StorageError, calling it `where`, if it is damaged."""
        buffer = io.BytesIO(data)
        try:
            steps, found = np.load(buffer), np.load(buffer)
            rows = np.cumsum(np.frombuffer(zlib.decompress(steps.tobytes()), "<i8"))
            facts: dict[str, Any] = {"noise": None, "left_out": []}
            pictures = None
            if buffer.tell() < len(data):  # entries of earlier versions end here
                facts = json.loads(zlib.decompress(np.load(buffer).tobytes()))
            if buffer.tell() < len(data):
                pictures = np.load(buffer)
            noise = None if facts["noise"] is None else Noise(**facts["noise"])
            return cls(rows.astype(np.int64), found, pictures, noise, facts["left_out"])
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
        order, group = grouped(np.concatenate([marks, self.marks]))
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


class Released:
    """Rows (N,) that are found by their marks (N,D) uint8."""

    def __init__(self, rows: np.ndarray, marks: np.ndarray) -> None:
        order = np.argsort(_words(marks), kind="stable")
        self._marks, self._numbers = marks[order], rows[order]
        self._words = _words(self._marks)

    def rows(self, marks: np.ndarray) -> np.ndarray:
        """(N,) int64: the first row with each of these marks (N,D), -1 where there is none."""
        if not len(self._words):
            return np.full(len(marks), -1)
        at = np.searchsorted(self._words, _words(marks)).clip(max=len(self._words) - 1)
        found: np.ndarray = np.where((self._marks[at] == marks).all(axis=1), self._numbers[at], -1)
        return found


def _words(marks: np.ndarray) -> np.ndarray:
    """(N,) uint64: the first eight bytes of each mark, by which they are sorted."""
    words: np.ndarray = np.ascontiguousarray(marks[:, :8], np.uint8).view(np.uint64)[:, 0]
    return words


def grouped(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which equal marks stand together, each group as it came, and for each place of
    that order the number of its group, from 0."""
    words = np.ascontiguousarray(marks, np.uint8).view(np.uint64)
    order = np.lexsort(words.T)
    differs = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    group = np.concatenate([np.zeros(min(1, len(order)), np.int64), np.cumsum(differs)])
    return order, group
