"""Small whole datasets of one release or two, put together from their parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from source_files import NAMES, png

from cards.kept import marked
from release import shards
from release.columns import Columns
from release.manifest import Manifest, digest
from release.shards import ReleasedRow, ShardRecord

PLAN = {"method": "sep-fa-vr", "budget": "linf:8", "split": "train"}
BAD = [(3, "no image")]
REPORT = {"report.json": b"{}", "report.html": b"<p>", "images.png": png(0)}
FORMATS = ("parquet", "webdataset")


def shard(
    folder: Path, index: int, rows: list[int], release: str = "r0001", **change: Any
) -> ShardRecord:
    """A finished shard of these rows in both formats."""
    made = [
        replace(ReleasedRow(row, f"train-{row:08d}", png(row), row % 3), **change) for row in rows
    ]
    columns = Columns("img", "label", NAMES)
    writers = {"parquet": shards.write_parquet, "webdataset": shards.write_webdataset}
    files = tuple(
        writers[name](
            folder, shards.shard_path(name, "train", index, release), made, columns, "png"
        )
        for name in FORMATS
    )
    return ShardRecord(index, min(rows), max(rows) + 1, tuple(rows), files, {}, 0.0)


def build(records: list[ShardRecord], source_rows: int = 8, **more: Any) -> Manifest:
    facts: dict[str, Any] = {
        "version": "0.1",
        "id": "0123456789abcdef",
        "date": "2026-01-31",
        "previous": None,
        "plan": PLAN,
        "class_names": NAMES,
        "first_row": 0,
        "source_rows": source_rows,
        "records": records,
        "quarantined": BAD,
        "unprotected": 0,
        "removed": 0,
        "source_is_public": False,
        "report_sha256": digest(REPORT["report.json"]),
        "measured": (),
    }
    manifest = Manifest.build(**(facts | more))
    reports = {f"reports/{manifest.release}/{name}": digest(REPORT[name]) for name in REPORT}
    return replace(manifest, report_files=reports)


def save(folder: Path, manifest: Manifest) -> None:
    """The manifest and its report lie in the folder, under a card that tells of it."""
    reports = folder / "reports" / manifest.release
    reports.mkdir(parents=True, exist_ok=True)
    for path, data in REPORT.items():
        (reports / path).write_bytes(data)
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n\n{marked(manifest.release)}\n")
    (folder / "releases").mkdir(exist_ok=True)
    (folder / f"releases/{manifest.release}.json").write_bytes(manifest.to_bytes())


def second(folder: Path, first: Manifest, **more: Any) -> Manifest:
    facts = {
        "release": "r0002",
        "previous": digest(first.to_bytes()),
        "first_row": 8,
        "source_rows": 2,
        "records": [shard(folder, 0, [8, 9], release="r0002")],
        "quarantined": (),
    }
    return build(**(facts | more))


def two_releases(folder: Path) -> Path:
    """A dataset of rows 0..7 without row 3 in its first release, 8 and 9 in its second."""
    first = build([shard(folder, 0, [0, 1, 2]), shard(folder, 1, [4, 5, 6, 7])])
    save(folder, first)
    save(folder, second(folder, first))
    return folder
