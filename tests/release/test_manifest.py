"""A manifest accounts for every row, says nothing secret, and any damage to a dataset is found."""

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
from release.chain import Chain
from release.check import check
from release.columns import Columns
from release.errors import InputError, ReleaseError, ShardCorrupt
from release.manifest import Manifest, digest
from release.shards import ReleasedRow, ShardRecord

PLAN = {"method": "sep-fa-vr", "budget": "linf:8", "split": "train"}
BAD = [(3, "no image")]
REPORT_SHA256 = hashlib.sha256(b"{}").hexdigest()
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
        "report_sha256": REPORT_SHA256,
        "measured": (),
    }
    return Manifest.build(**(facts | more))


def save(folder: Path, manifest: Manifest) -> None:
    """The manifest and its report lie in the folder."""
    reports = folder / "reports" / manifest.release
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "report.json").write_text("{}")
    (folder / "releases").mkdir(exist_ok=True)
    (folder / f"releases/{manifest.release}.json").write_bytes(manifest.to_bytes())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A dataset of rows 0..7 without row 3 in its first release, 8 and 9 in its second."""
    folder = tmp_path / "release"
    records = [shard(folder, 0, [0, 1, 2]), shard(folder, 1, [4, 5, 6, 7])]
    first = build(records)
    save(folder, first)
    save(folder, second(folder, first))
    return folder


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


def test_a_whole_release_passes(release: Path) -> None:
    told: list[tuple[int, int]] = []
    chain = check(release, progress=lambda *done: told.append(done))
    first, last = chain.manifests
    assert (first.num_rows, first.source_rows, len(first.files)) == (7, 8, 4)
    assert (last.release, last.first_row, last.released_rows()) == ("r0002", 8, [8, 9])
    assert first.quarantined == ((3, "no image"),)
    assert (first.method, first.budget, first.split) == ("sep-fa-vr", "linf:8", "train")
    assert (chain.num_rows, chain.next_name, chain.next_row) == (9, "r0003", 10)
    assert told == [(done, 18) for done in range(1, 19)]


def test_a_manifest_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    manifest = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data, "r0001.json") == manifest
    assert json.loads(data)["made_by"] == "protect-release"
    assert str(tmp_path) not in data.decode()


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


def reword(path: Path) -> None:
    path.write_text(path.read_text().replace("linf:8", "linf:4"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit": (lambda r: flip(r / "data/train/r0001-00001.parquet"), "is not the file"),
    "tar bit": (lambda r: flip(r / "webdataset/train/r0001-00000.tar"), "is not the file"),
    "gone": (lambda r: (r / "data/train/r0001-00000.parquet").unlink(), "is missing"),
    "stray": (lambda r: (r / "data/train/extra.parquet").write_bytes(b""), "is in no manifest"),
    "report": (lambda r: (r / "reports/r0001/report.json").write_text("{ }"), "is not the file"),
    "no report": (lambda r: (r / "reports/r0002/report.json").unlink(), "is missing"),
    "manifest": (lambda r: (r / "releases/r0001.json").write_text('{"made_by"'), "is damaged"),
    "first gone": (lambda r: (r / "releases/r0001.json").unlink(), "not every one from r0001 on"),
    "rewritten": (lambda r: reword(r / "releases/r0001.json"), "does not continue"),
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
    save(tmp_path, build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7], **change)]))
    with pytest.raises(ShardCorrupt, match=told):
        check(tmp_path)


def test_rows_other_than_the_manifest_says_are_found(tmp_path: Path) -> None:
    record = shard(tmp_path, 0, [0, 1, 2, 4, 5, 7, 6])
    manifest = build([replace(record, rows=(0, 1, 2, 4, 5, 6, 7))])
    save(tmp_path, manifest)
    with pytest.raises(ShardCorrupt, match="has row 7 in parquet where row 6 should be"):
        check(tmp_path)


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    manifest = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    for path in ("../secret", "/etc/hostname", "data/../../x", "README.md"):
        files = (replace(manifest.files[0], path=path),)
        save(tmp_path, replace(manifest, files=files))
        with pytest.raises(ShardCorrupt, match="is no data file"):
            check(tmp_path)


def test_a_folder_that_is_no_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no release"):
        check(tmp_path)
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/r0001.json").write_text('{"made_by": "another"}')
    with pytest.raises(InputError, match="made by another"):
        check(tmp_path)


@pytest.mark.parametrize(
    "change", [{"first_row": 9, "source_rows": 1}, {"previous": "0" * 64}, {"previous": None}]
)
def test_releases_have_to_continue_one_another(tmp_path: Path, change: dict[str, Any]) -> None:
    first = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    rows = [9] if "first_row" in change else [8, 9]
    after = second(tmp_path, first, records=[shard(tmp_path, 0, rows, release="r0002")], **change)
    releases = {"r0001": first.to_bytes(), "r0002": after.to_bytes()}
    with pytest.raises(ShardCorrupt, match="does not continue"):
        Chain.of(releases, "org/name")


def test_a_chain_knows_what_came_before(release: Path) -> None:
    chain = Chain.in_folder(release)
    before = chain.before("r0002")
    assert (len(before), before.last.release, chain.before("r0001").last_digest) == (
        1,
        "r0001",
        None,
    )
    assert before.with_last(chain.last) == chain
