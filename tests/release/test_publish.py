"""A local target sees a whole release or what was there before; --to says which target it is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from release import swapping
from release.errors import InputError, StorageError
from release.publish import HeadMoved, LocalTarget, target_of


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """The files that a second release adds."""
    return _release(tmp_path / "staged", "r0002")


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    """A folder that holds a first release."""
    return LocalTarget(_release(tmp_path / "target", "r0001"))


def _release(folder: Path, name: str) -> Path:
    (folder / "data/train").mkdir(parents=True)
    (folder / "releases").mkdir()
    (folder / f"releases/{name}.json").write_text(json.dumps({"made_by": "protect-release"}))
    (folder / f"data/train/{name}-00000.parquet").write_text(name)
    (folder / "README.md").write_text(f"card of {name}")
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FIRST = ["README.md", "data/train/r0001-00000.parquet", "releases/r0001.json"]
BOTH = [
    *("README.md", "data/train/r0001-00000.parquet", "data/train/r0002-00000.parquet"),
    *("releases/r0001.json", "releases/r0002.json"),
]


def test_a_first_release_makes_the_folder(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "deep/new")
    target.refuse("elsewhere")
    target.prepare()
    after = target.published()
    assert (after.head, after.releases, after.readme) == (None, {}, "")
    place = target.publish(_release(tmp_path / "staged", "r0001"), "r0001", after)
    assert place == str(target.path)
    assert _files(target.path) == FIRST


def test_a_second_release_adds_its_files_and_rewrites_the_card(
    staged: Path, target: LocalTarget, tmp_path: Path
) -> None:
    target.publish(staged, "r0002", target.published())
    assert _files(target.path) == BOTH
    assert list(target.published().releases) == ["r0001", "r0002"]
    assert target.published().readme == "card of r0002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]


def test_releases_are_in_the_order_of_their_numbers(target: LocalTarget) -> None:
    for name in ("r10000", "r9999", "notes"):
        (target.path / f"releases/{name}.json").write_text("{}")
    assert list(target.published().releases) == ["r0001", "r9999", "r10000"]


def test_publishing_again_changes_nothing(staged: Path, target: LocalTarget) -> None:
    before = target.published()
    target.publish(staged, "r0002", before)
    (target.path / "README.md").write_text("edited since")
    target.publish(staged, "r0002", before)
    assert target.published().readme == "edited since"


def test_a_release_by_somebody_else_meanwhile_is_left_alone(
    staged: Path, target: LocalTarget
) -> None:
    before = target.published()
    (target.path / "releases/r0002.json").write_text('{"by": "somebody else"}')
    with pytest.raises(HeadMoved):
        target.publish(staged, "r0002", before)
    assert not (target.path / "data/train/r0002-00000.parquet").exists()


def test_published_files_are_fetched_as_they_are(target: LocalTarget, tmp_path: Path) -> None:
    path = "data/train/r0001-00000.parquet"
    assert target.fetch(path, None, tmp_path / "here").read_text() == "r0001"
    assert target.read(path, None) == b"r0001"
    with pytest.raises(StorageError, match=r"has no data/train/r0009.* any more"):
        target.fetch("data/train/r0009-00000.parquet", None, tmp_path / "here")


def test_folders_that_few_may_read_stay_so(staged: Path, target: LocalTarget) -> None:
    modes = {".": 0o750, "data": 0o2750, "data/train": 0o700, "releases": 0o777}
    for folder, mode in modes.items():
        (target.path / folder).chmod(mode)
    target.publish(staged, "r0002", target.published())
    assert _files(target.path) == BOTH
    found = {folder: (target.path / folder).stat().st_mode & 0o7777 for folder in modes}
    assert found == modes


def test_a_full_disk_leaves_the_target_as_it_was(
    staged: Path, target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageError, match="No space left"):
        target.publish(staged, "r0002", target.published())
    assert _files(target.path) == FIRST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]


def test_a_swap_that_fails_halfway_leaves_the_target_as_it_was(
    staged: Path, target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fails_at_the_second(self: Path, to: Path) -> Path:
        if "incoming" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(swapping, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fails_at_the_second)
    with pytest.raises(StorageError, match="Input/output error"):
        target.publish(staged, "r0002", target.published())
    assert _files(target.path) == FIRST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]


def test_a_swap_killed_while_it_tidied_up_does_not_stop_the_next(
    staged: Path, target: LocalTarget
) -> None:
    rest = target.path.with_name(f".{target.path.name}.previous")
    rest.mkdir()
    (rest / "README.md").write_text("an older card")
    target.publish(staged, "r0002", target.published())
    assert set(_files(target.path)) > set(FIRST)
    assert not rest.exists()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("notes.txt", "mine"),
        ("releases/r0001.json", '{"made_by": "somebody"}'),
        ("releases/r0001.json", "[]"),
        ("releases/r0001.json", "not JSON"),
        ("manifest.json", '{"made_by": "protect-release"}'),
    ],
)
def test_what_another_program_wrote_is_refused(tmp_path: Path, path: str, text: str) -> None:
    theirs = tmp_path / "theirs" / path
    theirs.parent.mkdir(parents=True)
    theirs.write_text(text)
    with pytest.raises(InputError, match="not a release of this tool"):
        LocalTarget(tmp_path / "theirs").refuse("elsewhere")


def test_a_folder_is_not_opened_to_everybody(target: LocalTarget) -> None:
    with pytest.raises(InputError, match="only a dataset on the Hub"):
        target.open_to_everybody()


@pytest.mark.parametrize("written", ["./out", "out", "a/b/c", "/abs/out", "../out"])
def test_folders_are_targets(written: str) -> None:
    target = target_of(written, "source")
    assert (target.name, target.is_hub) == (str(Path(written).resolve()), False)


@pytest.mark.parametrize(
    ("to", "source", "name"),
    [
        ("org/name", "./flowers", "org/name"),
        ("hf://datasets/org/name", "./flowers", "org/name"),
        (None, "org/flowers", "org/flowers-protected"),
        (None, "org/flowers@v1", "org/flowers-protected"),
        (None, "hf://datasets/org/flowers@v1", "org/flowers-protected"),
    ],
)
def test_repositories_of_the_hub_are_targets(to: str | None, source: str, name: str) -> None:
    target = target_of(to, source)
    assert (target.name, target.is_hub) == (name, True)


@pytest.mark.parametrize(
    ("to", "source", "asked", "says"),
    [
        (None, "./data/flowers", {}, "--to ./flowers-protected"),
        (None, "sample:mnist", {}, "--to ./mnist-protected"),
        ("hf://org/name", "x", {}, "hf://datasets/org/name"),
        ("hf://datasets/org/name@v1", "x", {}, "--revision"),
        ("./out", "x", {"public": True}, "--public is for the Hub"),
        ("./out", "x", {"create_pr": True}, "--create-pr is for the Hub"),
        ("./out", "x", {"revision": "v1"}, "--revision is for the Hub"),
        ("./out", "x", {"gated": "auto"}, "--gated is for the Hub"),
        ("org/name", "x", {"gated": "yes"}, "neither auto nor manual"),
    ],
)
def test_other_targets_are_refused(
    to: str | None, source: str, asked: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        target_of(to, source, **asked)  # type: ignore[arg-type]


def test_a_folder_named_like_a_repository_is_ambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"\./org/name .* hf://datasets/org/name"):
        target_of("org/name", "x")
    assert not target_of("./org/name", "x").is_hub
    assert target_of("hf://datasets/org/name", "x").is_hub
    with pytest.raises(InputError, match=r"--to \./name-protected"):
        target_of(None, "org/name")


def test_nothing_is_asked_of_the_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        target_of("org/name", "x")
    assert not target_of("./org/name", "x").is_hub
