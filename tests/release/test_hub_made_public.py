"""A target that its owner makes public while a release is made that not everybody may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, TARGET, Digits, put_rows

from tests.hub.server import Hub


@pytest.fixture
def push(hub: Hub, run: Run, digits: Digits, tmp_path: Path) -> Any:
    """push("--create-pr"): what the source has is pushed, unverified, from a WORKDIR of the test's
    own; it has 40 rows more each time."""
    pushes = iter(range(9))

    def pushed(*more: object) -> Any:
        first = 40 * next(pushes)
        rows = slice(first, first + 40)
        put_rows(hub, SOURCE, f"data/train-{first}.parquet", digits, rows, tmp_path)
        asked = ("--incremental-method", "random-noise", *more)
        return run("push", SOURCE, "--workdir", tmp_path / "work", *CHEAP, *asked)

    return pushed


def _open(hub: Hub) -> None:
    hub.repo(TARGET).private = False


@pytest.mark.parametrize("how", [(), ("--create-pr",)], ids=["commit", "pull request"])
def test_what_is_not_for_everybody_is_not_published_where_everybody_looks(
    hub: Hub, push: Any, how: tuple[str, ...]
) -> None:
    """The state's commit is the last step before what may take hours: that files are sent."""
    assert push().exit_code == 0
    hub.faults.meanwhile("commit", lambda: _open(hub))
    result = push(*how)
    assert result.exit_code == 2
    said = result.stderr.splitlines()[-1]
    assert "was made public meanwhile" in said
    assert "it was never verified: nothing was published" in said
    repo = hub.repo(TARGET)
    assert "releases/r0002.json" not in repo.files("main")
    assert not repo.pulls
    repo.private = True
    assert push(*how).exit_code == 0


def test_a_target_made_public_in_the_moment_of_the_commit_is_private_again(
    hub: Hub, push: Any
) -> None:
    hub.faults.meanwhile("commit", lambda: _open(hub), nth=2)  # the first one is the state's
    result = push()
    assert result.exit_code == 2
    assert "it is private again" in result.stderr.splitlines()[-1]
    repo = hub.repo(TARGET)
    assert repo.private
    assert "releases/r0001.json" in repo.files("main")
    assert list(repo.tags) == ["r0001"]
    assert push().exit_code == 0


@pytest.mark.slow
def test_a_release_by_a_typed_seed_is_not_published_there_either(hub: Hub, push: Any) -> None:
    verified = ("--verify", "--victim-epochs", "1", "--max-accuracy", "1")
    assert push(*verified, "--seed", "7").exit_code == 0
    hub.faults.meanwhile("commit", lambda: _open(hub))
    result = push(*verified)
    assert result.exit_code == 2
    assert "its seed was typed and can be guessed" in result.stderr.splitlines()[-1]
    assert "releases/r0002.json" not in hub.repo(TARGET).files("main")
