"""Promise 1: the same plan gives the same bytes, whoever does the work and however often it is
stopped. Real processes, really killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clean_data import Run
from stage_process import (
    PATIENCE_SECONDS,
    crafting,
    is_alive,
    planned,
    ranks,
    wait_for,
)


@pytest.fixture(scope="module")
def expected(run: Run, fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards as two undisturbed workers make them."""
    workdir = shutil.copytree(fitted, tmp_path_factory.mktemp("undisturbed") / "w")
    assert run("craft", "--workdir", workdir).exit_code == 0
    shards = _shards(workdir)
    assert len(shards) == 24
    return shards


def _shards(workdir: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(workdir.glob("shards/*/data/**/*"))
        if path.is_file()
    }


def _records(workdir: Path) -> list[Path]:
    return list(workdir.glob("shards/*/records/**/*.json"))


def test_one_worker_makes_the_same_bytes(
    run: Run, small: Path, workdir: Path, expected: dict[str, bytes]
) -> None:
    assert run(*planned(small, workdir, workers=1)).exit_code == 0
    assert run("craft", "--workdir", workdir).exit_code == 0
    assert (workdir / "progress/0.json").exists()
    assert not (workdir / "progress/1.json").exists()
    assert _shards(workdir) == expected


def test_a_killed_worker_is_started_again_and_the_other_goes_on(
    workdir: Path, expected: dict[str, bytes]
) -> None:
    with crafting(workdir) as parent:
        before = wait_for(lambda: _records(workdir), parent)
        other, killed = ranks(parent)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: set(ranks(parent)) - {other, killed}, parent)
        assert is_alive(other)
        assert parent.wait(PATIENCE_SECONDS) == 0, parent.stderr.read()  # type: ignore[union-attr]
    assert 0 < len(before) < 24
    assert _shards(workdir) == expected


def test_a_killed_parent_takes_its_workers_along_and_is_resumed(
    run: Run, workdir: Path, expected: dict[str, bytes]
) -> None:
    with crafting(workdir) as parent:
        wait_for(lambda: _records(workdir), parent)
        started = ranks(parent)
        parent.kill()
        wait_for(lambda: not any(is_alive(rank) for rank in started))
    finished = _times(_records(workdir))
    assert 0 < len(finished) < 24
    assert run("craft", "--workdir", workdir).exit_code == 0
    assert _shards(workdir) == expected
    assert finished.items() <= _times(_records(workdir)).items(), "a finished shard was made again"


@pytest.mark.parametrize("begun", [ranks, _records], ids=["ranks", "shards"])
def test_control_c_is_one_line_and_leaves_nobody_behind(
    workdir: Path, begun: Callable[[object], object]
) -> None:
    with crafting(workdir) as parent:
        wait_for(lambda: begun(parent if begun is ranks else workdir), parent)
        started = ranks(parent)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=PATIENCE_SECONDS)
        wait_for(lambda: not any(is_alive(rank) for rank in started))
    assert parent.returncode == 130
    assert len(said.splitlines()) == 1
    assert "run the same command again" in said


_LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    # --cpu would start one process; our ranks find out for themselves that there is no GPU.
    "accelerate": ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
}


@pytest.mark.parametrize(
    "launcher", ["torchrun", pytest.param("accelerate", marks=pytest.mark.slow)]
)
def test_it_joins_a_world_that_was_started_already(
    workdir: Path, expected: dict[str, bytes], launcher: str
) -> None:
    command = [sys.executable, "-m", *_LAUNCHERS[launcher], "-m", "release", "craft", "--workdir"]
    joined = subprocess.run(
        [*command, str(workdir)], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert joined.returncode == 0, joined.stderr
    assert {path.name for path in workdir.glob("progress/*.json")} == {"0.json", "1.json"}
    assert _shards(workdir) == expected


@pytest.mark.slow
def test_two_ranks_fit_the_same_state_each_time(run: Run, small: Path, tmp_path: Path) -> None:
    states = []
    for name in ("a", "b"):
        arguments = (*planned(small, tmp_path / name, workers=2), "--fit-workers", "2")
        assert run(*arguments).exit_code == 0
        assert run("fit", "--workdir", tmp_path / name).exit_code == 0
        states.append({p.name: p.read_bytes() for p in (tmp_path / name).glob("state/*/*")})
    assert set(states[0]) == {f"checkpoint-0{k}.safetensors" for k in (0, 1)} | {
        "centres.safetensors"
    }
    assert states[0] == states[1]


def _times(paths: list[Path]) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in paths}
