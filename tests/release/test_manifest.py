"""A manifest accounts for every row, says nothing secret, and any damage is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from source_files import NAMES, png

from release import shards
from release.columns import Columns
from release.errors import InputError, ReleaseError, ShardCorrupt
from release.manifest import Manifest, check
from release.shards import ReleasedRow, ShardRecord

PLAN = {"method": "sep-fa-vr", "budget": "linf:8", "split": "train"}
BAD = [(3, "no image")]
FORMATS = ("parquet", "webdataset")


def shard(folder: Path, index: int, rows: list[int], **change: Any) -> ShardRecord:
    """A finished shard of these rows in both formats."""
    made = [
        replace(ReleasedRow(row, f"train-{row:08d}", png(row), row % 3), **change) for row in rows
    ]
    columns = Columns("img", "label", NAMES)
    writers = {"parquet": shards.write_parquet, "webdataset": shards.write_webdataset}
    files = tuple(
        writers[name](folder, shards.shard_path(name, "train", index), made, columns, "png")
        for name in FORMATS
    )
    return ShardRecord(index, min(rows), max(rows) + 1, tuple(rows), files, {}, 0.0)


def build(records: list[ShardRecord], source_rows: int = 8, **more: Any) -> Manifest:
    facts: dict[str, Any] = {
        "version": "0.1",
        "plan": PLAN,
        "class_names": NAMES,
        "source_rows": source_rows,
        "records": records,
        "quarantined": BAD,
        "unprotected": 0,
        "report_sha256": None,
    }
    return Manifest.build(**(facts | more))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of rows 0..7 without row 3, with a report."""
    folder = tmp_path / "release"
    records = [shard(folder, 0, [0, 1, 2]), shard(folder, 1, [4, 5, 6, 7])]
    (folder / "verification").mkdir()
    (folder / "verification/report.json").write_text("{}")
    build(records, report_sha256=hashlib.sha256(b"{}").hexdigest()).save(folder)
    return folder


def test_a_whole_release_passes(release: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = check(release, progress=lambda *done: told.append(done))
    assert (manifest.num_rows, manifest.source_rows, len(manifest.files)) == (7, 8, 4)
    assert manifest.quarantined == ((3, "no image"),)
    assert (manifest.method, manifest.budget, manifest.split) == ("sep-fa-vr", "linf:8", "train")
    assert told == [(done, 14) for done in range(1, 15)]


def test_a_manifest_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    manifest = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["made_by"] == "protect-release"
    assert str(tmp_path) not in (tmp_path / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[0, 1, 2], [5, 6, 7]], r"missing \[4\]"),
        ([[0, 1, 2], [2, 4, 5, 6, 7]], r"twice \[2\]"),
        ([[0, 1, 2, 3], [4, 5, 6, 7]], r"twice \[3\]"),
        ([[0, 1, 2], [4, 5, 6, 7, 8]], r"of the source \[8\]"),
        ([[4, 5, 6, 7], [0, 1, 2]], "in order"),
        ([[0, 1]], r"missing \[2, 4, 5, 6, 7\]"),
    ],
)
def test_every_row_is_demanded_exactly_once(rows: list[list[int]], told: str) -> None:
    records = [
        ShardRecord(index, part[0], part[-1] + 1, tuple(part), (), {}, 0.0)
        for index, part in enumerate(rows)
    ]
    with pytest.raises(ReleaseError, match=told):
        build(records)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit": (lambda r: flip(r / "data/train/r0001-00001.parquet"), "is not the file"),
    "tar bit": (lambda r: flip(r / "webdataset/train/r0001-00000.tar"), "is not the file"),
    "gone": (lambda r: (r / "data/train/r0001-00000.parquet").unlink(), "is missing"),
    "stray": (lambda r: (r / "data/train/extra.parquet").write_bytes(b""), "is not in manifest"),
    "report": (lambda r: (r / "verification/report.json").write_text("{ }"), "is not the file"),
    "no report": (lambda r: (r / "verification/report.json").unlink(), "is missing"),
    "manifest": (lambda r: (r / "manifest.json").write_text('{"made_by": "pro'), "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(release: Path, damage: str) -> None:
    spoil, told = DAMAGE[damage]
    spoil(release)
    with pytest.raises(ShardCorrupt, match=told):
        check(release)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"image": png(1)[:60]}, "does not decode"), ({"label": 3}, "has the label 3")],
)
def test_rows_that_readers_cannot_use_are_found(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7], **change)]).save(tmp_path)
    with pytest.raises(ShardCorrupt, match=told):
        check(tmp_path)


def test_rows_other_than_the_manifest_says_are_found(tmp_path: Path) -> None:
    record = shard(tmp_path, 0, [0, 1, 2, 4, 5, 7, 6])
    manifest = build([replace(record, rows=(0, 1, 2, 4, 5, 6, 7))])
    manifest.save(tmp_path)
    with pytest.raises(ShardCorrupt, match="has row 7 in parquet where row 6 should be"):
        check(tmp_path)


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    manifest = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    for path in ("../secret", "/etc/hostname", "data/../../x", "README.md"):
        files = (replace(manifest.files[0], path=path),)
        replace(manifest, files=files).save(tmp_path)
        with pytest.raises(ShardCorrupt, match="is no data file"):
            check(tmp_path)


def test_a_folder_that_is_no_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no release"):
        check(tmp_path)
    (tmp_path / "manifest.json").write_text('{"made_by": "another"}')
    with pytest.raises(InputError, match="made by another"):
        check(tmp_path)
