"""A manifest accounts for every row, says nothing secret, and any damage to a dataset is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_releases import build, save, second, shard, two_releases
from source_files import png

from release.chain import Chain
from release.check import check
from release.errors import InputError, ReleaseError, ShardCorrupt
from release.manifest import Manifest, digest
from release.shards import ShardRecord

LATER = f"reports/verified-2026-02-01-{digest(b'{}')[:8]}"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A dataset of rows 0..7 without row 3 in its first release, 8 and 9 in its second, with a
    report of a verification since."""
    folder = two_releases(tmp_path / "release")
    (folder / LATER).mkdir()
    (folder / LATER / "report.json").write_text("{}")
    return folder


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


def reword(path: Path, old: str = "linf:8", new: str = "linf:4") -> None:
    path.write_text(path.read_text().replace(old, new))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


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
    "no page": (lambda r: (r / "reports/r0001/report.html").unlink(), "is missing"),
    "page": (lambda r: cut(r / "reports/r0002/report.html"), "report.html is not the file"),
    "picture": (lambda r: flip(r / "reports/r0001/images.png"), "images.png is not the file"),
    "later report": (lambda r: cut(r / f"{LATER}/report.json"), "report.json is not the file"),
    "no later report": (lambda r: (r / f"{LATER}/report.json").unlink(), "is missing"),
    "no card": (lambda r: (r / "README.md").unlink(), "README.md is missing"),
    "empty card": (lambda r: (r / "README.md").write_text("\n"), "README.md is empty"),
    "cut card": (lambda r: cut(r / "README.md"), "README.md has lost the line"),
    "older card": (lambda r: reword(r / "README.md", "r0002", "r0001"), "does not tell of r0002"),
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


def test_a_manifest_lists_no_report_elsewhere(tmp_path: Path) -> None:
    manifest = build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])])
    for path in ("../secret", "reports/r0001/../../secret", "reports/r0002/report.json"):
        save(tmp_path, replace(manifest, report_files={path: "0" * 64}))
        with pytest.raises(ShardCorrupt, match="which is no report"):
            check(tmp_path)


def test_a_manifest_from_before_reports_had_digests_is_checked_by_the_one_it_has(
    tmp_path: Path,
) -> None:
    save(tmp_path, build([shard(tmp_path, 0, [0, 1, 2, 4, 5, 6, 7])]))
    path = tmp_path / "releases/r0001.json"
    values = json.loads(path.read_text())
    del values["report_files"]
    path.write_text(json.dumps(values))
    (tmp_path / "reports/r0001/report.html").unlink()
    assert check(tmp_path).last.report_files == {}
    (tmp_path / "reports/r0001/report.json").write_text("{ }")
    with pytest.raises(ShardCorrupt, match=r"report\.json is not the file"):
        check(tmp_path)


def test_lines_of_the_owner_and_later_reports_leave_a_release_whole(release: Path) -> None:
    card = (release / "README.md").read_text()
    (release / "README.md").write_text(card.replace("license: mit", "zone: 1") + "\nby hand\n")
    (release / "reports/verified-by-hand").mkdir()
    assert len(check(release)) == 2


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
