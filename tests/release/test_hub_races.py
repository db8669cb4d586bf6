"""Others push at the same time, the Hub goes away: nothing is lost, nothing is published twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, of_four, put_rows, released_rows
from huggingface_hub import HfApi

from tests.hub.server import Hub
from tests.hub.state import Request


@pytest.fixture
def source(hub: Hub, digits: Digits, tmp_path: Path) -> str:
    """A private clean dataset of 40 rows."""
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, 40), tmp_path)
    return SOURCE


@pytest.fixture
def push(run: Run, tmp_path: Path) -> Any:
    """push("--public"): the source is pushed from a WORKDIR of the test's own."""

    def pushed(*more: object, code: int = 0, source: str = SOURCE) -> Any:
        result = run("push", source, "--workdir", tmp_path / "work", *CHEAP, *more, "--json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.stderr

    return pushed


def _add(hub: Hub, digits: Digits, tmp_path: Path, rows: slice) -> None:
    put_rows(hub, SOURCE, f"data/train-{rows.start}.parquet", digits, rows, tmp_path)


@pytest.mark.slow
def test_a_source_cut_anew_releases_only_what_was_added(
    hub: Hub, push: Any, digits: Digits, tmp_path: Path
) -> None:
    """As `push_to_hub` does it: other files, other shards, and rows in another order."""
    from datasets import ClassLabel, Dataset, Features, Image

    pixels, labels = of_four(digits)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c", "d"])})
    columns = {"image": list(pixels[:700]), "label": labels[:700].tolist()}
    rows = Dataset.from_dict(columns, features=features)
    rows.select(range(400)).push_to_hub(SOURCE, private=True)
    assert push()["rows"] == 400
    rows.shuffle(seed=0).push_to_hub(SOURCE, num_shards=7)
    told = push("--incremental-method", "random-noise")
    assert (told["rows"], released_rows(hub, TARGET)) == (300, 700)


def _push_elsewhere(hub: Hub, source: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The same push by another process with a WORKDIR of its own."""
    command = [sys.executable, "-m", "release", "push", source, "--to", TARGET, *CHEAP, "--json"]
    more = ["--workdir", str(tmp_path / "other"), "--incremental-method", "random-noise"]
    return subprocess.run([*command, *more], env=os.environ, capture_output=True, text=True)


@pytest.mark.slow
def test_of_two_racing_runs_one_plans_again_and_loses_nothing(
    hub: Hub, source: str, push: Any, digits: Digits, tmp_path: Path
) -> None:
    push()
    _add(hub, digits, tmp_path, slice(40, 50))
    early = hub.repo(SOURCE).commits("main")[0].id
    _add(hub, digits, tmp_path, slice(50, 70))
    told, other = _raced(hub, push, f"{SOURCE}@{early}", tmp_path)
    assert other["rows"] == 10
    assert (told["release"], told["rows"]) == ("r0003", 20)
    assert list(hub.repo(TARGET).tags) == ["r0001", "r0002", "r0003"]
    assert released_rows(hub, TARGET) == 70
    assert push("--incremental-method", "random-noise") == {"changed": False}


@pytest.mark.slow
def test_a_run_that_another_one_left_nothing_to_do_changes_nothing(
    hub: Hub, source: str, push: Any, digits: Digits, tmp_path: Path
) -> None:
    push()
    _add(hub, digits, tmp_path, slice(40, 50))
    early = hub.repo(SOURCE).commits("main")[0].id
    _add(hub, digits, tmp_path, slice(50, 60))
    told, other = _raced(hub, push, SOURCE, tmp_path, f"{SOURCE}@{early}")
    assert other["rows"] == 20
    assert told == {"changed": False}
    titles = [commit.title for commit in hub.repo(TARGET).commits("main")]
    assert titles.count("protect-release r0002") == 1
    assert released_rows(hub, TARGET) == 60


def _raced(hub: Hub, push: Any, source: str, tmp_path: Path, own: str = SOURCE) -> tuple[Any, Any]:
    """What a push says, and another one of `source` that published just before it would have."""
    others: list[subprocess.CompletedProcess[str]] = []
    # The first commit of a push is that of the state.
    hub.faults.meanwhile(
        "commit", lambda: others.append(_push_elsewhere(hub, source, tmp_path)), nth=2
    )
    options = ("--to", TARGET, "--incremental-method", "random-noise", "--hub-patience", "120")
    told = push(*options, source=own)
    assert others[0].returncode == 0, others[0].stderr
    return told, json.loads(others[0].stdout)


@pytest.mark.parametrize(
    "commits",
    [
        pytest.param(1, id="before the release"),
        pytest.param(2, id="before its tag", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_is_gone_on_with(
    hub: Hub, source: str, push: Any, tmp_path: Path, commits: int
) -> None:
    """Killed once the state is kept, or once the release is made: it is made once."""
    command = [sys.executable, "-m", "release", "push", source, *CHEAP]
    command += ["--workdir", str(tmp_path / "work")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)

    def kill(request: Request) -> None:
        if len(hub.requests("commit")) == commits:
            process.kill()

    hub.on_request = kill
    process.communicate()
    hub.on_request = None
    assert process.returncode == -9
    told = push()
    assert told["changed"] == (commits == 1)
    repo = hub.repo(TARGET)
    assert released_rows(hub, TARGET) == 40
    assert [c.title for c in repo.commits("main")].count("protect-release r0001") == 1
    assert list(repo.tags) == ["r0001"]
    ledger = [path for path in hub.repo(STATE).files("main") if path.startswith("ledger/")]
    assert len(ledger) == 1


def test_a_pull_request_is_opened_for_review(
    hub: Hub, source: str, push: Any, digits: Digits, tmp_path: Path
) -> None:
    hub.repo(SOURCE).private = False
    told = push("--create-pr", "--source-is-public")
    assert told["published"].endswith("/discussions/1")
    repo = hub.repo(TARGET)
    card = repo.read("refs/pr/1", "README.md").decode()
    first = card.partition("\n# ")[2].partition("\n\n")[2].partition("\n")[0]
    assert "originals" in first
    assert "public" in first
    assert not [path for path in repo.files("main") if path.startswith("data/")]
    assert released_rows(hub, TARGET, "refs/pr/1") == 40
    HfApi().merge_pull_request(TARGET, 1, repo_type="dataset")
    merged = repo.branches["main"]
    again = push("--incremental-method", "random-noise", "--source-is-public")
    assert again == {"changed": False}
    assert repo.tags == {"r0001": merged}
    repo.tags.clear()  # as where new rows were there before another push
    _add(hub, digits, tmp_path, slice(40, 50))
    assert push("--incremental-method", "random-noise", "--source-is-public")["rows"] == 10
    assert repo.tags == {"r0001": merged, "r0002": repo.branches["main"]}
    assert released_rows(hub, TARGET, "r0001") == 40


@pytest.mark.parametrize("route", ["commit", pytest.param("resolve", marks=pytest.mark.slow)])
def test_a_hub_that_is_down_for_good_costs_nothing(
    hub: Hub, source: str, push: Any, route: str, digits: Digits, tmp_path: Path
) -> None:
    """Exit 5, nothing published; the same command goes on where it was."""
    hub.faults.fail(route, "503", nth=1, times=1000)
    assert "run the same command again" in push("--hub-patience", "1", code=5)
    hub.faults.clear()
    told = push()
    assert (told["rows"], released_rows(hub, TARGET)) == (40, 40)
    assert len(hub.repo(TARGET).tags) == 1
