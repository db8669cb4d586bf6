"""What a release says about itself in manifest.json: public facts, and the digest of every file.

It holds no seed, no path of the machine that made it, and no digest of a clean image or source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from release.errors import InputError, ReleaseError, ShardCorrupt
from release.images import BadImage, decode
from release.shards import FIRST_RELEASE, ReleasedRow, ShardFile, ShardRecord, read_shard, sha256
from release.threads import in_order

MADE_BY = "protect-release"
NAME = "manifest.json"
REPORT = "verification/report.json"
_DATA_FOLDERS = ("data", "webdataset")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A release's public facts.

    num_rows: rows released; source_rows: these and the quarantined ones, which are listed with
    their reasons; unprotected: rows released unchanged at the owner's wish; plan: the plan's
    public view; report_sha256: of verification/report.json, None where nothing was verified.
    """

    made_by: str = MADE_BY
    version: str
    release: str = FIRST_RELEASE
    method: str
    budget: str
    split: str
    class_names: tuple[str, ...]
    num_rows: int
    source_rows: int
    unprotected: int
    quarantined: tuple[tuple[int, str], ...]
    files: tuple[ShardFile, ...]
    report_sha256: str | None
    plan: Mapping[str, Any]

    @classmethod
    def build(
        cls,
        *,
        version: str,
        plan: Mapping[str, Any],
        class_names: Sequence[str],
        source_rows: int,
        records: Sequence[ShardRecord],
        quarantined: Iterable[tuple[int, str]],
        unprotected: int,
        report_sha256: str | None,
    ) -> Manifest:
        """The manifest of finished shards; ReleaseError where a source row is neither in exactly
        one of them nor quarantined."""
        bad = tuple((int(row), reason) for row, reason in quarantined)
        released = [row for record in records for row in record.rows]
        _demand_every_row_once(released, [row for row, _ in bad], source_rows)
        return cls(
            version=version,
            method=plan["method"],
            budget=plan["budget"],
            split=plan["split"],
            class_names=tuple(class_names),
            num_rows=len(released),
            source_rows=source_rows,
            unprotected=unprotected,
            quarantined=bad,
            files=tuple(file for record in records for file in record.files),
            report_sha256=report_sha256,
            plan=dict(plan),
        )

    def released_rows(self) -> list[int]:
        """The numbers of the released rows, in order."""
        bad = {row for row, _ in self.quarantined}
        return [row for row in range(self.source_rows) if row not in bad]

    def save(self, folder: Path) -> None:
        """manifest.json lies in `folder`."""
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a release folder; InputError where there is none, ShardCorrupt where it
        is damaged."""
        path = folder / NAME
        if not path.is_file():
            raise InputError(f"{folder} is no release: it has no {NAME}")
        try:
            values = json.loads(path.read_text())
            if values["made_by"] != MADE_BY:
                raise InputError(f"{path} was made by {values['made_by']}, not by {MADE_BY}")
            files = tuple(ShardFile(**file) for file in values.pop("files"))
            bad = tuple((int(row), str(reason)) for row, reason in values.pop("quarantined"))
            names = tuple(values.pop("class_names"))
            return cls(**values, files=files, quarantined=bad, class_names=names)
        except (ValueError, KeyError, TypeError) as problem:
            raise ShardCorrupt(f"{path} is damaged ({problem}): fetch the release again") from None


def _demand_every_row_once(released: list[int], bad: list[int], source_rows: int) -> None:
    seen = sorted(released + bad)
    if seen == list(range(source_rows)) and released == sorted(released):
        return
    missing = sorted(set(range(source_rows)) - set(seen))[:5]
    twice = sorted({row for row, after in pairwise(seen) if row == after})[:5]
    alien = [row for row in seen if not 0 <= row < source_rows][:5]
    raise ReleaseError(
        f"the shards do not hold every row once, in order (missing {missing}, twice {twice}, not "
        f"of the source {alien}): delete the shards of this work folder and run again"
    )


def check(folder: Path, progress: Progress = lambda done, total: None) -> Manifest:
    """The manifest of a release folder that is whole: every file is there with its digest and no
    other, every row is there once and in order, decodes, and has a known label.

    Raises InputError where `folder` is no release, else ShardCorrupt with the first problem.
    """
    manifest = Manifest.load(folder)
    _check_names(folder, manifest)
    if manifest.report_sha256 is not None:
        _check_digest(folder / REPORT, manifest.report_sha256)
    formats = list(dict.fromkeys(file.format for file in manifest.files))
    expected = manifest.released_rows()
    if manifest.num_rows != len(expected):
        raise _corrupt(f"{folder / NAME} counts {manifest.num_rows} rows, not {len(expected)}")
    done = 0
    for name in formats:
        files = [file for file in manifest.files if file.format == name]
        for row, wanted in zip_longest(_checked_rows(folder, files, manifest), expected):
            if row != wanted:
                raise _corrupt(f"{folder} has row {row} in {name} where row {wanted} should be")
            done += 1
            progress(done, len(expected) * len(formats))
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    listed = {file.path for file in manifest.files}
    for path in sorted(listed):
        # A manifest from elsewhere must not lead out of its folder.
        if not re.fullmatch(r"(data|webdataset)(/[\w-][\w.-]*)+", path):
            raise _corrupt(f"{folder / NAME} lists {path!r}, which is no data file")
        if not (folder / path).is_file():
            raise _corrupt(f"{folder / path} is missing")
    there = {
        str(path.relative_to(folder))
        for name in _DATA_FOLDERS
        for path in (folder / name).rglob("*")
        if path.is_file()
    }
    if there - listed:
        raise _corrupt(f"{folder / min(there - listed)} is not in {NAME}")


def _check_digest(path: Path, digest: str) -> None:
    if not path.is_file():
        raise _corrupt(f"{path} is missing")
    if sha256(path) != digest:
        raise _corrupt(f"{path} is not the file that {NAME} describes")


def _checked_rows(folder: Path, files: Sequence[ShardFile], manifest: Manifest) -> Iterator[int]:
    look = partial(_checked_row, num_classes=len(manifest.class_names))
    for file in files:
        _check_digest(folder / file.path, file.sha256)
        yield from in_order(look, read_shard(folder / file.path))


def _checked_row(row: ReleasedRow, num_classes: int) -> int:
    try:
        decode(row.image)
    except BadImage as problem:
        raise _corrupt(f"row {row.row} does not decode ({problem})") from None
    if num_classes and (row.label is None or not 0 <= row.label < num_classes):
        raise _corrupt(f"row {row.row} has the label {row.label}, not one of 0..{num_classes - 1}")
    return row.row


def _corrupt(problem: str) -> ShardCorrupt:
    return ShardCorrupt(f"{problem}: fetch or make the release again")
