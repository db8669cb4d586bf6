"""A local target sees a whole release or what was there before."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from release.errors import InputError, StorageError
from release.publish import LocalTarget, target_of


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return _release(tmp_path / "staged", "new")


def _release(folder: Path, text: str) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"made_by": "protect-release"}))
    (folder / "data/shard").write_text(text)
    return folder


def _shard(target: LocalTarget) -> str:
    return (target.path / "data/shard").read_text()


def test_a_release_replaces_an_older_one(staged: Path, tmp_path: Path) -> None:
    target = LocalTarget(_release(tmp_path / "target", "old"))
    target.publish(staged)
    assert _shard(target) == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]


def test_a_full_disk_leaves_the_target_as_it_was(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = LocalTarget(_release(tmp_path / "target", "old"))
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageError, match="No space left"):
        target.publish(staged)
    assert _shard(target) == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["staged", "target"]


def test_a_swap_killed_halfway_is_undone(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    target = LocalTarget(_release(tmp_path / "target", "old"))
    rename = Path.rename

    def killed_at_the_second(self: Path, to: Path) -> Path:
        if "incoming" in self.name:
            raise Killed
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", killed_at_the_second)
    with pytest.raises(Killed):
        target.publish(staged)
    monkeypatch.undo()
    assert not target.path.exists()
    target.refuse("elsewhere")
    assert _shard(target) == "old"


def test_what_another_program_wrote_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "manifest.json").write_text('{"made_by": "somebody"}')
    with pytest.raises(InputError, match="not a release of this tool"):
        LocalTarget(theirs).refuse("elsewhere")


@pytest.mark.parametrize("written", ["./out", "out", "a/b/c", "/abs/out", "../out"])
def test_folders_are_targets(written: str) -> None:
    assert target_of(written, "source").path == Path(written).resolve()


@pytest.mark.parametrize(("to", "says"), [("org/name", "./org/name"), (None, "--to ./flowers")])
def test_other_targets_are_refused(to: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        target_of(to, "./data/flowers")
