"""What each row of a split is: one pass over the source before anything is decided.

A survey's folder holds memory-mapped arrays, one entry per row, so that workers see all rows
without holding them:

    labels.npy (N,) int64, -1 where there is none     good.npy (N,) bool
    sizes.npy (N,3) int32: C, H, W, 0 where bad       digests.npy (N,32) uint8
    pictures.npy (N,16) uint8: the start of the digest of each image file alone
    thumbs.npy (N,16,16,3) uint8, 0 where bad: only where they are asked for
    survey.json   the key of the pass, bad rows with their reasons
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from release.arrays import create, digest_of_arrays, whole_folder
from release.columns import check_kept_kind, check_kept_value
from release.errors import InputError
from release.images import THUMB, BadImage, decode, thumbnail
from release.ledger import PICTURE
from release.readers import file_size
from release.source import Row, Source
from release.threads import in_order
from release.workdir import Workdir

Progress = Callable[[int, int], None]
_VERSION = 3


@dataclass(frozen=True)
class Survey:
    """What is known of every row; bad rows are those that cannot be released, with the reason."""

    labels: np.ndarray
    sizes: np.ndarray
    digests: np.ndarray
    pictures: np.ndarray
    good: np.ndarray
    bad: Sequence[tuple[int, str]]
    thumbs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.good)

    def rows(self) -> np.ndarray:
        """The numbers (int64, ascending) of the rows that can be released."""
        return np.flatnonzero(self.good)

    def common_short_side(self) -> int:
        """The short side in pixels that most rows have; the one nearest to the median, and the
        smaller of two, where several do."""
        short = self._good_sizes()[:, 1:].min(axis=1).astype(np.int64)
        sides, counts = np.unique(short, return_counts=True)
        most = sides[counts == counts.max()]
        return int(most[np.abs(most - np.median(short)).argmin()])

    def one_shape(self) -> tuple[int, int, int] | None:
        """(C,H,W) of every row, or None where rows differ."""
        shapes = np.unique(self._good_sizes(), axis=0)
        if len(shapes) != 1:
            return None
        channels, height, width = (int(side) for side in shapes[0])
        return channels, height, width

    def bytes_per_row(self) -> int:
        """The mean size of a row's pixels in bytes; a protected image hardly compresses."""
        sizes = self._good_sizes().astype(np.int64)
        return int(sizes.prod(axis=1).mean())

    def class_counts(self, num_classes: int) -> np.ndarray:
        """(num_classes,) int64: how many good rows each class has."""
        labels = self.labels[self.good]
        return np.bincount(labels[labels >= 0], minlength=num_classes)

    def _good_sizes(self) -> np.ndarray:
        sizes: np.ndarray = self.sizes[self.good]
        if not len(sizes):
            raise InputError(f"none of the {len(self)} rows can be released: mend the source")
        return sizes

    @classmethod
    def load(cls, folder: Path) -> Survey:
        """The finished survey in `folder`, its arrays memory-mapped."""
        notes = json.loads((folder / "survey.json").read_text())
        there = [name for name in _OF_EACH if (folder / f"{name}.npy").exists()]
        if not set(_ARRAYS) <= set(there):
            raise InputError(
                f"{folder} was written by another version: run `protect-release plan` again"
            )
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r") for n in there}
        bad = [(int(row), str(reason)) for row, reason in notes["bad"]]
        return cls(**arrays, bad=bad)


_ARRAYS = {
    "labels": (np.int64, ()),
    "sizes": (np.int32, (3,)),
    "digests": (np.uint8, (32,)),
    "pictures": (np.uint8, (PICTURE,)),
    "good": (np.bool_, ()),
}
_OF_EACH = _ARRAYS | {"thumbs": (np.uint8, (THUMB, THUMB, 3))}


def row_digest(row: Row) -> bytes:
    """32 bytes that tell a row by its image file and label, wherever it stands."""
    return digests_as(hashlib.sha256(row.image), [row.label])


def digests_as(picture: hashlib._Hash, labels: Iterable[int | None]) -> bytes:
    """The digests that a row of this image file, hashed, has with each of these labels, end to
    end."""
    found = []
    for label in labels:
        labelled = picture.copy()
        labelled.update(f"\0{label}".encode())
        found.append(labelled.digest())
    return b"".join(found)


def survey(
    source: Source,
    split: str,
    folder: Path,
    *,
    limit: int | None = None,
    thumbs: bool = False,
    progress: Progress = lambda done, total: None,
) -> Survey:
    """The survey of the split's first `limit` rows (all by default) is in `folder`, with thumbnails
    where they are asked for.

    A survey that is there already, of the same source and rows, is loaded instead. Raises
    InputError where there is no row, or a kept column holds URLs, paths or long strings;
    StorageError where the disk is full.
    """
    key = _key(source, split, limit, thumbs)
    if _finished_key(folder) != key:
        total = source.num_rows(split)
        if total == 0:
            raise InputError(f"split {split!r} of {source.spec} has no rows: name another")
        with whole_folder(folder, "make room") as making:
            arrays = _OF_EACH if thumbs else _ARRAYS
            found = _pass(source, split, making, min(limit or total, total), arrays, progress)
            notes = {"key": key, "bad": found.bad}
            (making / "survey.json").write_text(json.dumps(notes, indent=1))
    return Survey.load(folder)


def restrict(
    found: Survey, rows: np.ndarray, folder: Path, left_out: Mapping[int, str] | None = None
) -> Survey:
    """The survey of only these rows (ascending), counted from 0, is in `folder`, with rows.npy
    listing what they were; those `left_out`, good by themselves, are bad for the reason given."""
    out = dict(left_out or {})
    lost = np.isin(rows, list(out))
    with whole_folder(folder, "make room") as making:
        for name in _ARRAYS:
            values = getattr(found, name)[rows]
            if name in ("good", "sizes"):
                values[lost] = 0
            np.save(making / f"{name}.npy", values)
        np.save(making / "rows.npy", rows)
        places = {int(row): place for place, row in enumerate(rows)}
        reasons = sorted((dict(found.bad) | out).items())
        bad = [(places[row], reason) for row, reason in reasons if row in places]
        notes = {"key": None, "bad": bad}
        (making / "survey.json").write_text(json.dumps(notes, indent=1))
    return Survey.load(folder)


def restricted(
    found: Survey, split: str, rows: np.ndarray, left_out: Mapping[int, str], workdir: Workdir
) -> tuple[str, Path]:
    """The name in WORKDIR and the folder of the survey of the split's `rows` (see `restrict`)."""
    # By what the rows are, too: a damaged file that was mended stands where it stood.
    left = np.array(list(left_out), np.int64)
    name = f"{split}-{digest_of_arrays(rows, found.digests[rows], left)}"
    folder = workdir.survey(name)
    if not (folder / "pictures.npy").exists():  # earlier versions made none
        restrict(found, rows, folder, left_out)
    return name, folder


def _key(source: Source, split: str, limit: int | None, thumbs: bool) -> str:
    read = source.to_json() | {"split": split, "limit": limit, "version": _VERSION}
    read |= {"thumbs": THUMB} if thumbs else {}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def _finished_key(folder: Path) -> str | None:
    notes = folder / "survey.json"
    return str(json.loads(notes.read_text())["key"]) if notes.exists() else None


def _pass(
    source: Source,
    split: str,
    folder: Path,
    total: int,
    kinds: Mapping[str, tuple[type, tuple[int, ...]]],
    progress: Progress,
) -> Survey:
    """The survey of rows 0..total, its arrays of these kinds written to `folder`."""
    arrays = {
        name: create(folder / f"{name}.npy", dtype, (total, *shape))
        for name, (dtype, shape) in kinds.items()
    }
    bad: list[tuple[int, str]] = []
    rows = source.rows(split, 0, total)
    look = partial(_look, source, source.kept_kinds(), thumbs="thumbs" in kinds)
    for seen in in_order(look, rows, threads=_threads(), size=file_size):
        at = seen.row
        arrays["labels"][at] = -1 if seen.label is None else seen.label
        arrays["digests"][at] = np.frombuffer(seen.digest, np.uint8)
        arrays["pictures"][at] = np.frombuffer(seen.picture[:PICTURE], np.uint8)
        arrays["sizes"][at], arrays["good"][at] = seen.size, seen.reason is None
        if seen.thumb is not None:
            arrays["thumbs"][at] = seen.thumb
        if seen.reason is not None:
            bad.append((at, seen.reason))
        progress(at + 1, total)
    for array in arrays.values():
        array.flush()
    return Survey(**arrays, bad=bad)


@dataclass(frozen=True)
class _Seen:
    row: int
    label: int | None
    digest: bytes
    picture: bytes
    size: tuple[int, int, int]
    reason: str | None
    thumb: np.ndarray | None = None


def _look(source: Source, kinds: Mapping[str, pa.DataType], row: Row, *, thumbs: bool) -> _Seen:
    for name, value in row.kept.items():
        if name in kinds:
            check_kept_kind(name, value, kinds[name], row.number)
        if name not in source.kept_clean:
            check_kept_value(name, value, row.number)
    reason, picture = _label_problem(source, row.label), hashlib.sha256(row.image)
    digests = (digests_as(picture, [row.label]), picture.digest())
    label = None if reason else row.label
    if row.problem is not None:
        return _Seen(row.number, label, *digests, (0, 0, 0), row.problem)
    try:
        decoded = decode(row.image)
    except BadImage as problem:
        return _Seen(row.number, label, *digests, (0, 0, 0), str(problem))
    height, width, channels = decoded.pixels.shape
    size = (0, 0, 0) if reason else (channels, height, width)
    thumb = thumbnail(decoded.pixels) if thumbs and not reason else None
    return _Seen(row.number, label, *digests, size, reason, thumb)


def _label_problem(source: Source, label: int | None) -> str | None:
    if source.label_column is None:
        return None
    if label is None:
        return "no label"
    known = source.num_classes
    return None if 0 <= label < known else f"label {label} is not in 0..{known - 1}"


def _threads() -> int:
    return min(4, os.cpu_count() or 1)
