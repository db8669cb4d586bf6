"""What a release says about itself in releases/NAME.json: public facts, and the digest of every
file it added. Each names the digest of the one before, so that the releases of a dataset are a
chain (`release.chain`) in which nothing can be changed unseen.

It holds no seed, no path of the machine that made it, and no digest of a clean image or source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from release.errors import InputError, ReleaseError, ShardCorrupt
from release.shards import FIRST_RELEASE, ShardFile, ShardRecord

MADE_BY = "protect-release"
FOLDER = "releases"


def manifest_path(release: str) -> str:
    """Where a release's manifest lies within the dataset."""
    return f"{FOLDER}/{release}.json"


def report_path(release: str) -> str:
    """Where a release's report lies within the dataset; its pictures lie beside it."""
    return f"reports/{release}/report.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A release's public facts.

    release: its name; id: tells this run's release from any other of that name; date: YYYY-MM-DD;
    previous: the sha256 of the manifest before it, None for the first; first_row: the number of its
    first row, its rows being numbered from there; num_rows: rows released; source_rows: these and
    the quarantined ones, which are listed with their reasons; unprotected: rows released unchanged
    at the owner's wish; removed: published rows that the source no longer had; source_is_public:
    whether the owner said that anyone can read the clean source; measured: the report's summaries;
    plan: the plan's public view; report_sha256: of its report; report_files: the sha256 of every
    file of reports/NAME/ by its path, empty in manifests that were written before there was this.
    """

    made_by: str = MADE_BY
    version: str
    release: str = FIRST_RELEASE
    id: str
    date: str
    previous: str | None
    method: str
    budget: str
    split: str
    class_names: tuple[str, ...]
    first_row: int
    num_rows: int
    source_rows: int
    unprotected: int
    removed: int
    source_is_public: bool
    quarantined: tuple[tuple[int, str], ...]
    files: tuple[ShardFile, ...]
    report_sha256: str
    report_files: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any]

    @classmethod
    def build(
        cls,
        *,
        plan: Mapping[str, Any],
        first_row: int,
        source_rows: int,
        records: Sequence[ShardRecord],
        quarantined: Iterable[tuple[int, str]],
        class_names: Sequence[str],
        **facts: Any,
    ) -> Manifest:
        """The manifest of finished shards; ReleaseError where a row is neither in exactly one of
        them nor quarantined. Rows are numbered as released."""
        bad = tuple((int(row), reason) for row, reason in quarantined)
        released = [row for record in records for row in record.rows]
        rows = range(first_row, first_row + source_rows)
        _demand_every_row_once(released, [row for row, _ in bad], rows)
        return cls(
            method=plan["method"],
            budget=plan["budget"],
            split=plan["split"],
            class_names=tuple(class_names),
            first_row=first_row,
            num_rows=len(released),
            source_rows=source_rows,
            quarantined=bad,
            files=tuple(file for record in records for file in record.files),
            plan=dict(plan),
            **facts,
        )

    @property
    def next_row(self) -> int:
        """The number of the first row of whatever release follows."""
        return self.first_row + self.source_rows

    @property
    def formats(self) -> list[str]:
        """The formats its rows are there in."""
        return list(dict.fromkeys(file.format for file in self.files))

    def of_format(self, name: str) -> list[ShardFile]:
        """Its files in one format, in row order."""
        return [file for file in self.files if file.format == name]

    def released_rows(self) -> list[int]:
        """The numbers of the released rows, in order."""
        bad = {row for row, _ in self.quarantined}
        return [row for row in range(self.first_row, self.next_row) if row not in bad]

    def to_bytes(self) -> bytes:
        """The file as it is published."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The manifest in a file's bytes; InputError where another program made it, ShardCorrupt
        where it is damaged. `where` is what people call the file."""
        try:
            values = json.loads(data)
            if values["made_by"] != MADE_BY:
                raise InputError(f"{where} was made by {values['made_by']}, not by {MADE_BY}")
            files = tuple(ShardFile(**file) for file in values.pop("files"))
            bad = tuple((int(row), str(reason)) for row, reason in values.pop("quarantined"))
            names, measured = tuple(values.pop("class_names")), tuple(values.pop("measured"))
            reports = {str(k): str(v) for k, v in dict(values.pop("report_files", {})).items()}
            return cls(
                **values,
                files=files,
                quarantined=bad,
                class_names=names,
                measured=measured,
                report_files=reports,
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise ShardCorrupt(f"{where} is damaged ({problem}): fetch the release again") from None


def digest(data: bytes) -> str:
    """The sha256 by which the next release names a manifest."""
    return hashlib.sha256(data).hexdigest()


def _demand_every_row_once(released: list[int], bad: list[int], rows: range) -> None:
    seen = sorted(released + bad)
    if seen == list(rows) and released == sorted(released):
        return
    missing = sorted(set(rows) - set(seen))[:5]
    twice = sorted({row for row, after in pairwise(seen) if row == after})[:5]
    alien = [row for row in seen if row not in rows][:5]
    raise ReleaseError(
        f"the shards do not hold every row once, in order (missing {missing}, twice {twice}, not "
        f"of the source {alien}): delete the shards of this work folder and run again"
    )
