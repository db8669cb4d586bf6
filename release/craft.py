"""One shard at a time: decode, protect, encode, and prove on the encoded bytes that the budget
holds, before the shard gets its name. Rows stream through: of large images few are in memory."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from crafting.batch import Batch
from crafting.budget import Budget, Linf
from crafting.large import ALONE, holds, protect_alone
from crafting.method import Context, State
from crafting.runner import protect
from evaluation.integrity import Visibility, measure
from release.encode import encode_all
from release.errors import InputError, ReleaseError
from release.images import decode
from release.machine import give_back_large_blocks
from release.plan import ReleasePlan
from release.shards import ReleasedRow, ShardSpec, write_shard
from release.source import Row, Source
from release.survey import Survey, row_digest

UNCHANGED = Linf(0)
_HELD_BYTES = 32 << 20
"""Of clean pixels in memory together; protected, encoded and decoded again they take as much."""
_LARGEST_BATCH = 64 << 20
"""Bytes of the images that are crafted together, as float32."""


Held = tuple[Row, np.ndarray]
"""A row without its file, and its pixels (H,W,C) uint8."""


@dataclass
class _Tally:
    """What is measured on the rows of a shard while they are made, and how many are done."""

    done: int = 0
    visibility: Visibility = field(default_factory=Visibility)
    conversions: Counter[str] = field(default_factory=Counter)
    unprotected: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        return {
            "visibility": self.visibility.to_json(),
            "conversions": dict(self.conversions),
            "unprotected": self.unprotected,
        }


@dataclass
class ShardCrafter:
    """Turns shards of the source into finished shards of the release under `folder`."""

    plan: ReleasePlan
    source: Source
    survey: Survey
    folder: Path
    ctx: Context
    state: State

    def __post_init__(self) -> None:
        if self.survey.sizes.prod(axis=1).max(initial=0) > ALONE:
            give_back_large_blocks()
        self._method = self.plan.configured()
        self._crafter = self._method.crafter(self.state, self.ctx)

    def craft(self, shard: ShardSpec, progress: Callable[[int], None]) -> None:
        """The shard's files and its record are in place; `progress` was told the rows done."""
        tally = _Tally()
        write_shard(
            self.folder,
            shard,
            self._released_rows(shard, tally, progress),
            columns=self.source.columns,
            split=self.plan.split,
            formats=self.plan.formats,
            encoding=self.plan.encoding,
            measured=tally.to_json,
            started=time.monotonic(),
        )

    def _released_rows(
        self, shard: ShardSpec, tally: _Tally, progress: Callable[[int], None]
    ) -> Iterator[ReleasedRow]:
        """The shard's rows as they are released, a few at a time in memory: what `map` and `chain`
        have handed over they hold no longer, as the variable of a loop would."""
        made = map(partial(self._made, tally, progress), self._held(shard, tally))
        return chain.from_iterable(made)

    def _made(
        self, tally: _Tally, progress: Callable[[int], None], held: list[Held]
    ) -> list[ReleasedRow]:
        """These rows protected, encoded and checked; as pixels they are nowhere afterwards."""
        rows, clean = [row for row, _ in held], [image for _, image in held]
        held.clear()  # or the pixels would be in memory while the rows are written
        protected = self._protect(rows, clean, partial(_after, progress, tally.done))
        encoded = encode_all(protected, self.plan.encoding)
        del protected
        tally.visibility = tally.visibility.merge(self._check(rows, clean, encoded))
        tally.unprotected += [self._number(r) for r in rows if not self._is_selected(r)]
        tally.done += len(rows)
        return [self._released(row, data) for row, data in zip(rows, encoded, strict=True)]

    def _held(self, shard: ShardSpec, tally: _Tally) -> Iterator[list[Held]]:
        """The shard's good rows with their pixels, as many as are in memory together: where they
        are of one size, whole batches of them."""
        held: list[Held] = []
        size = 0
        for row in self._read(shard):
            if not self.survey.good[row.number]:
                continue
            held.append((replace(row, image=b""), _pixels(row, tally)))
            size += held[-1][1].nbytes
            are_whole = len(held) % self.plan.batch_size == 0
            if size >= 2 * _HELD_BYTES or (size >= _HELD_BYTES and are_whole):
                yield held
                held, size = [], 0
        if held:
            yield held

    def _read(self, shard: ShardSpec) -> Iterator[Row]:
        """The shard's rows, each still what it was when the source was surveyed."""
        try:
            for row in self.source.rows(self.plan.split, shard.start, shard.stop):
                if row_digest(row) != self.survey.digests[row.number].tobytes():
                    raise InputError(
                        f"row {row.number} of {self.source.spec} changed since the run began: let "
                        "the source rest, then run the same command again"
                    )
                yield row
        except OSError as problem:
            raise InputError(
                f"{self.source.spec} could not be read ({problem.strerror or problem}): see that "
                "it is there, then run the same command again; finished shards are kept"
            ) from None

    def _protect(
        self, rows: list[Row], clean: list[np.ndarray], progress: Callable[[int], None]
    ) -> list[np.ndarray]:
        """Protected pixels (H,W,C) of each row; rows that are not selected stay as they are."""
        pixels = list(clean)
        chosen = [at for at, row in enumerate(rows) if self._is_selected(row)]
        done = len(rows) - len(chosen)
        for batch in _batches(chosen, clean, self.plan.batch_size):
            made = self._protect_batch([rows[at] for at in batch], [clean[at] for at in batch])
            for at, image in zip(batch, made, strict=True):
                pixels[at] = image
            done += len(batch)
            progress(done)
        return pixels

    def _protect_batch(self, rows: list[Row], images: list[np.ndarray]) -> Sequence[np.ndarray]:
        """Protected pixels of images of one size."""
        if images[0].size > ALONE:
            (row,), (image,), budget = rows, images, self._method.budget
            where = self.ctx.device
            return [protect_alone(self._crafter, budget, row.number, image, row.label, where)]
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(255)
        labels = [row.label for row in rows if row.label is not None]
        y = torch.tensor(labels) if labels else None
        batch = Batch(torch.tensor([row.number for row in rows]), x, y).to(self.ctx.device)
        made = protect(self._crafter, self._method.budget, batch)
        return list(made.permute(0, 2, 3, 1).cpu().numpy())

    def _is_selected(self, row: Row) -> bool:
        return is_selected(self.plan, self.ctx, row.number, row.label)

    def _check(self, rows: list[Row], clean: list[np.ndarray], encoded: list[bytes]) -> Visibility:
        """How far the encoded images lie from the clean ones; ReleaseError where that is beyond
        the budget, which would be a bug."""
        shipped = [decode(data).pixels for data in encoded]
        for row, before, after in zip(rows, clean, shipped, strict=True):
            budget = self._method.budget if self._is_selected(row) else UNCHANGED
            if not _is_within(budget, before, after):
                raise ReleaseError(
                    f"row {row.number} left its budget {budget} in method {self.plan.method}: "
                    "nothing was published; please report this as a bug"
                )
        return measure(_alike(clean, shipped), shipped)

    def _released(self, row: Row, data: bytes) -> ReleasedRow:
        number = self._number(row)
        split = self.plan.split.replace(".", "-")  # a tar's key ends at the first dot
        key = f"{split}-{number:08d}"
        return ReleasedRow(number, key, data, row.label, row.kept)

    def _number(self, row: Row) -> int:
        """Its number in the dataset, whose earlier releases come before it."""
        return self.plan.first_row + row.number


def _pixels(row: Row, tally: _Tally) -> np.ndarray:
    image = decode(row.image)
    tally.conversions.update([image.converted] if image.converted else [])
    return image.pixels


def _after(progress: Callable[[int], None], before: int, count: int) -> None:
    progress(before + count)


def is_selected(plan: ReleasePlan, ctx: Context, row: int, label: int | None) -> bool:
    """Whether the owner wants this row protected. A share is drawn by each row's own digest, so
    that it does not depend on the rows around it."""
    if plan.protect_classes is not None and label not in plan.protect_classes:
        return False
    if plan.protect_share is None:
        return True
    drawn = ctx.noise(torch.tensor([row]), "protect-share", (1,), "uniform")
    return float(drawn) * 0.5 + 0.5 < plan.protect_share


def _batches(chosen: list[int], clean: list[np.ndarray], most: int) -> Iterator[list[int]]:
    """Positions of images of one shape each, in order, at most `most` together, and fewer of large
    ones."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at in chosen:
        alike[clean[at].shape].append(at)
    for shape, positions in alike.items():
        size = batch_size(most, math.prod(shape))
        for start in range(0, len(positions), size):
            yield positions[start : start + size]


def batch_size(most: int, values: int) -> int:
    """How many images of so many values each are crafted together: of images of ordinary size
    `most`; of large ones as many as take about 640 MB, ten times what they are as float32; of very
    large ones one."""
    if values > ALONE:
        return 1
    return max(4, min(most, _LARGEST_BATCH // (4 * values)))


def _alike(clean: list[np.ndarray], shipped: list[np.ndarray]) -> list[np.ndarray]:
    """Clean images with as many channels as they are shipped with: WebP has no greyscale."""
    pairs = zip(clean, shipped, strict=True)
    return [np.broadcast_to(before, after.shape) for before, after in pairs]


def _is_within(budget: Budget, before: np.ndarray, after: np.ndarray) -> bool:
    if before.shape[:2] != after.shape[:2]:
        return False
    if before.shape[2] == 1 < after.shape[2]:  # one channel, which WebP stores three times
        if (after != after[..., :1]).any():
            return False
        after = after[..., :1]
    return holds(budget, before, after)
