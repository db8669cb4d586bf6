"""One shard at a time: decode, protect, encode, and prove on the encoded bytes that the budget
holds, before the shard gets its name."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crafting.batch import Batch
from crafting.budget import Budget, Linf
from crafting.method import Context, State
from crafting.runner import protect
from evaluation.integrity import Visibility, measure
from release.encode import encode_all
from release.errors import InputError, ReleaseError
from release.images import decode
from release.plan import ReleasePlan
from release.shards import ReleasedRow, ShardSpec, write_shard
from release.source import Row, Source
from release.survey import Survey, row_digest

UNCHANGED = Linf(0)


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
        self._method = self.plan.configured()
        self._crafter = self._method.crafter(self.state, self.ctx)

    def craft(self, shard: ShardSpec, progress: Callable[[int], None]) -> None:
        """The shard's files and its record are in place; `progress` was told the rows done."""
        started = time.monotonic()
        rows = [row for row in self._read(shard) if self.survey.good[row.number]]
        decoded = [decode(row.image) for row in rows]
        clean = [image.pixels for image in decoded]
        encoded = encode_all(self._protect(rows, clean, progress), self.plan.encoding)
        visibility = self._check(rows, clean, encoded)
        released = [self._released(row, data) for row, data in zip(rows, encoded, strict=True)]
        write_shard(
            self.folder,
            shard,
            released,
            source=self.source,
            split=self.plan.split,
            formats=self.plan.formats,
            encoding=self.plan.encoding,
            measured={
                "visibility": visibility.to_json(),
                "conversions": dict(Counter(i.converted for i in decoded if i.converted)),
                "unprotected": [self._number(r) for r in rows if not self._is_selected(r)],
            },
            seconds=time.monotonic() - started,
        )

    def _read(self, shard: ShardSpec) -> Iterator[Row]:
        """The shard's rows, each still what it was when the source was surveyed."""
        for row in self.source.rows(self.plan.split, shard.start, shard.stop):
            if row_digest(row) != self.survey.digests[row.number].tobytes():
                raise InputError(
                    f"row {row.number} of {self.source.spec} changed since the run began: let the "
                    "source rest, then run the same command again"
                )
            yield row

    def _protect(
        self, rows: list[Row], clean: list[np.ndarray], progress: Callable[[int], None]
    ) -> list[np.ndarray]:
        """Protected pixels (H,W,C) of each row; rows that are not selected stay as they are."""
        pixels = list(clean)
        done = len(rows)
        chosen = [at for at, row in enumerate(rows) if self._is_selected(row)]
        done -= len(chosen)
        for batch in _batches(chosen, clean, self.plan.batch_size):
            images = np.stack([clean[at] for at in batch])
            made = self._protect_batch([rows[at] for at in batch], images)
            for at, image in zip(batch, made, strict=True):
                pixels[at] = image
            done += len(batch)
            progress(done)
        return pixels

    def _protect_batch(self, rows: list[Row], images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
        labels = [row.label for row in rows if row.label is not None]
        y = torch.tensor(labels) if labels else None
        batch = Batch(torch.tensor([row.number for row in rows]), x, y).to(self.ctx.device)
        made = protect(self._crafter, self._method.budget, batch)
        return made.permute(0, 2, 3, 1).cpu().numpy()

    def _is_selected(self, row: Row) -> bool:
        return is_selected(self.plan, self.ctx, row.number, row.label)

    def _check(self, rows: list[Row], clean: list[np.ndarray], encoded: list[bytes]) -> Visibility:
        """How far the encoded images lie from the clean ones; ReleaseError where that is beyond
        the budget, which would be a bug."""
        shipped = [decode(data).pixels for data in encoded]
        for row, before, after in zip(rows, clean, shipped, strict=True):
            budget = self._method.budget if self._is_selected(row) else UNCHANGED
            if not _holds(budget, before, after):
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


def is_selected(plan: ReleasePlan, ctx: Context, row: int, label: int | None) -> bool:
    """Whether the owner wants this row protected. A share is drawn by each row's own digest, so
    that it does not depend on the rows around it."""
    if plan.protect_classes is not None and label not in plan.protect_classes:
        return False
    if plan.protect_share is None:
        return True
    drawn = ctx.noise(torch.tensor([row]), "protect-share", (1,), "uniform")
    return float(drawn) * 0.5 + 0.5 < plan.protect_share


def _batches(chosen: list[int], clean: list[np.ndarray], size: int) -> Iterator[list[int]]:
    """Positions of images of one shape each, in order, at most `size` together."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at in chosen:
        alike[clean[at].shape].append(at)
    for positions in alike.values():
        for start in range(0, len(positions), size):
            yield positions[start : start + size]


def _alike(clean: list[np.ndarray], shipped: list[np.ndarray]) -> list[np.ndarray]:
    """Clean images with as many channels as they are shipped with: WebP has no greyscale."""
    pairs = zip(clean, shipped, strict=True)
    return [np.broadcast_to(before, after.shape) for before, after in pairs]


def _holds(budget: Budget, before: np.ndarray, after: np.ndarray) -> bool:
    if before.shape[:2] != after.shape[:2]:
        return False
    if before.shape[2] == 1 < after.shape[2]:  # one channel, which WebP stores three times
        if (after != after[..., :1]).any():
            return False
        after = after[..., :1]
    delta = torch.from_numpy(after.astype(np.float32) - before.astype(np.float32)) / 255
    return bool(budget.holds(delta.permute(2, 0, 1)[None]))
