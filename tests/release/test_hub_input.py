"""What the Hub would refuse, or what would give the protection away, is refused before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, put_rows

from tests.hub.server import Hub


@pytest.fixture
def source(hub: Hub, digits: Digits, tmp_path: Path) -> str:
    """A private clean dataset of 12 rows."""
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, 12), tmp_path)
    return SOURCE


@pytest.fixture
def refused(run: Run, hub: Hub, tmp_path: Path) -> Any:
    """refused(*options): what push says that ends with an exit code before it wrote anything."""

    def push(*options: object, code: int = 2, source: str = SOURCE) -> str:
        before = {repo.id: repo.commits("main")[0].id for repo in hub.repos.all()}
        result = run("push", source, "--workdir", tmp_path / "work", *CHEAP, *options)
        assert result.exit_code == code, result.output
        assert {repo.id: repo.commits("main")[0].id for repo in hub.repos.all()} == before
        assert not (tmp_path / "work/shards").exists()
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, result.stderr
        return lines[0]

    return push


def test_no_token(source: str, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refused()


def test_a_token_that_is_not_known(
    source: str, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "hf auth login" in refused(code=5)


def test_a_token_that_only_reads(
    hub: Hub, source: str, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo(TARGET, private=True)
    hub.add_token("alice", "hf_reader", role="read")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    told = refused(code=5)
    assert "write access" in told
    assert TARGET in told


def test_a_target_of_another_kind(hub: Hub, source: str, refused: Any) -> None:
    hub.add_repo(TARGET, private=True, kind="model")
    assert "is a model" in refused()


def test_a_target_with_other_files(hub: Hub, source: str, refused: Any) -> None:
    hub.add_repo(TARGET, private=True).put({"data/train.csv": b"a,b"})
    assert "no release of this tool" in refused()


def test_a_public_target(hub: Hub, source: str, refused: Any) -> None:
    hub.add_repo(TARGET)
    assert "--public" in refused()


def test_a_public_state(hub: Hub, source: str, refused: Any) -> None:
    hub.add_repo(STATE)
    assert f"{STATE} is public" in refused(code=5)


def test_a_public_source(hub: Hub, source: str, refused: Any) -> None:
    hub.repo(SOURCE).private = False
    assert "--source-is-public" in refused()


def test_a_revision_that_is_gone(source: str, refused: Any) -> None:
    assert "no revision 'v9'" in refused(source=f"{SOURCE}@v9")


def test_a_source_that_is_its_own_target(source: str, refused: Any) -> None:
    assert "is the source itself" in refused("--to", SOURCE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--public",), "--no-verify"),
        (("--public", "--verify", "--seed", "3"), "can be guessed"),
        (("--gated", "perhaps"), "auto nor manual"),
        (("--state", TARGET), "readers would get it"),
        (("--incremental-set", "steps"), "NAME=VALUE"),
        (("--fit-share", "some"), "share such as 1%"),
        (("--fit-share", "0%"), "is above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_options_that_do_not_go_together(
    source: str, refused: Any, options: tuple[str, ...], says: str
) -> None:
    assert says in refused(*options)


@pytest.mark.parametrize("options", [("--public",), ("--create-pr",), ("--revision", "draft")])
def test_what_folders_do_not_have(run: Run, small: Path, out: Path, options: Any) -> None:
    result = run("push", small, "--to", out, *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr


def test_a_gated_source_needs_an_account_that_may_read_it(
    hub: Hub, source: str, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.repo(SOURCE)
    repo.private, repo.gated = False, "manual"
    hub.add_user("bob", "hf_bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    assert "is gated" in refused("--to", "bob/out", code=5)


@pytest.mark.slow
def test_a_hub_that_is_switched_off(small: Path, hub: Hub) -> None:
    for source, to in ((SOURCE, "./out"), (str(small), "alice/out")):
        command = [sys.executable, "-m", "release", "push", source, "--to", to]
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        ended = subprocess.run(command, env=env, capture_output=True, text=True)
        assert ended.returncode == 2, ended.stderr
        assert "HF_HUB_OFFLINE" in ended.stderr
