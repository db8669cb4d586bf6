"""A release folder that was moved can be added to: its state is known by its releases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clean_data import Run, write_split
from hub_source import CHEAP, Digits, of_four

from release.manifest import FOLDER
from release.vault import KEY_VARIABLE

Push = Callable[..., str]


@pytest.fixture
def push(run: Run, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    """push("out"): 20 rows more are released to this folder; says what the command said."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    pixels, labels = of_four(digits)

    def pushed(to: str, *more: object, code: int = 0) -> str:
        number = len(list((tmp_path / "clean").rglob("*.parquet")))
        rows = slice(20 * number, 20 * number + 20)
        write_split(tmp_path / f"clean/data/train-{number}.parquet", pixels[rows], labels[rows])
        asked = ("--to", tmp_path / to, *CHEAP, "--incremental-method", "random-noise")
        result = run("push", tmp_path / "clean", *asked, *more)
        assert result.exit_code == code, result.output
        return str(result.stderr)

    return pushed


def _releases(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / FOLDER).iterdir())


@pytest.mark.slow
def test_its_state_and_key_are_found_on_the_same_machine(push: Push, tmp_path: Path) -> None:
    push("old")
    (tmp_path / "old").rename(tmp_path / "new")
    push("new")
    assert _releases(tmp_path / "new") == ["r0001", "r0002"]
    assert len(list((tmp_path / "home/protect-release/state").iterdir())) == 1
    assert len(list((tmp_path / "home/protect-release/keys").iterdir())) == 1


@pytest.mark.slow
def test_elsewhere_they_are_named(
    push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the messages say to do is what helps."""
    state = ("--state", tmp_path / "state")
    push("old", *state)
    (tmp_path / "old").rename(tmp_path / "new")
    assert "name the --state that this release was made with" in push("new", code=2)
    told = push("new", *state, code=2)
    assert f"set {KEY_VARIABLE} to it, or put it into " in told
    missing = Path(told.partition("put it into ")[2].partition(";")[0])
    (key,) = missing.parent.iterdir()
    with monkeypatch.context() as typed:
        typed.setenv(KEY_VARIABLE, key.read_text())
        push("new", *state)
    shutil.copy(key, missing)
    push("new", *state)
    assert _releases(tmp_path / "new") == ["r0001", "r0002", "r0003"]


@pytest.mark.slow
def test_a_dataset_that_the_state_does_not_know_is_another(push: Push, tmp_path: Path) -> None:
    push("old")
    push("other")
    (state, *_) = sorted((tmp_path / "home/protect-release/state").iterdir(), key=os.path.getmtime)
    assert "old, not to" in push("other", "--state", state, code=2)
    assert "old, not to" in push("fresh", "--state", state, code=2)
