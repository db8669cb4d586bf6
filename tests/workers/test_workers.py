"""Promise 1: the same plan gives the same bytes, whoever does the work and however often it is
stopped. Real processes, really killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clean_data import Run

_PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def fitted(run: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WORKDIR with a State and no shards; crafting takes a few seconds, over 24 shards."""
    workdir = tmp_path_factory.mktemp("fitted")
    planned = run(*_plan(small, workdir, workers=2))
    assert planned.exit_code == 0, planned.stderr
    assert run("fit", "--workdir", workdir).exit_code == 0
    return workdir


def _plan(source: Path, workdir: Path, workers: int) -> tuple[object, ...]:
    return (
        *("plan", source, "--to", workdir / "release", "--workdir", workdir, "--seed", "7"),
        *("--method", "sep-fa-vr", "--set", "surrogate_epochs=2", "--set", "checkpoints=2"),
        *("--set", "steps=12", "--rows-per-shard", "4", "--workers", workers),
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


@pytest.fixture
def workdir(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "w"))


def test_one_worker_makes_the_same_bytes(
    run: Run, small: Path, workdir: Path, expected: dict[str, bytes]
) -> None:
    assert run(*_plan(small, workdir, workers=1)).exit_code == 0
    assert run("craft", "--workdir", workdir).exit_code == 0
    assert (workdir / "progress/0.json").exists()
    assert not (workdir / "progress/1.json").exists()
    assert _shards(workdir) == expected


def test_a_killed_worker_is_started_again(workdir: Path, expected: dict[str, bytes]) -> None:
    with _crafting(workdir) as parent:
        before = _wait_for(lambda: _records(workdir), parent)
        os.kill(_ranks(parent)[1], signal.SIGKILL)
        assert parent.wait(_PATIENCE_SECONDS) == 0, parent.stderr.read()  # type: ignore[union-attr]
    assert 0 < len(before) < 24
    assert _shards(workdir) == expected


def test_a_killed_parent_takes_its_workers_along_and_is_resumed(
    run: Run, workdir: Path, expected: dict[str, bytes]
) -> None:
    with _crafting(workdir) as parent:
        _wait_for(lambda: _records(workdir), parent)
        ranks = _ranks(parent)
        parent.kill()
        _wait_for(lambda: not any(_is_alive(rank) for rank in ranks))
    finished = _times(_records(workdir))
    assert 0 < len(finished) < 24
    assert run("craft", "--workdir", workdir).exit_code == 0
    assert _shards(workdir) == expected
    assert finished.items() <= _times(_records(workdir)).items(), "a finished shard was made again"


def test_control_c_is_one_line_and_leaves_nobody_behind(workdir: Path) -> None:
    with _crafting(workdir) as parent:
        _wait_for(lambda: _records(workdir), parent)
        ranks = _ranks(parent)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=_PATIENCE_SECONDS)
        _wait_for(lambda: not any(_is_alive(rank) for rank in ranks))
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
        [*command, str(workdir)], capture_output=True, text=True, timeout=_PATIENCE_SECONDS
    )
    assert joined.returncode == 0, joined.stderr
    assert {path.name for path in workdir.glob("progress/*.json")} == {"0.json", "1.json"}
    assert _shards(workdir) == expected


@pytest.mark.slow
def test_two_ranks_fit_the_same_state_each_time(run: Run, small: Path, tmp_path: Path) -> None:
    states = []
    for name in ("a", "b"):
        arguments = (*_plan(small, tmp_path / name, workers=2), "--fit-workers", "2")
        assert run(*arguments).exit_code == 0
        assert run("fit", "--workdir", tmp_path / name).exit_code == 0
        states.append({p.name: p.read_bytes() for p in (tmp_path / name).glob("state/*/*")})
    assert set(states[0]) == {f"checkpoint-0{k}.safetensors" for k in (0, 1)} | {
        "centres.safetensors"
    }
    assert states[0] == states[1]


@contextmanager
def _crafting(workdir: Path) -> Iterator[subprocess.Popen[str]]:
    """`craft` as a process that leads its own group; gone afterwards, whatever happened."""
    command = [sys.executable, "-m", "release", "craft", "--workdir", str(workdir)]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield parent
    finally:
        for pid in (parent.pid, *_ranks(parent)):
            if _is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        parent.communicate()


def _wait_for(
    condition: Callable[[], object], parent: subprocess.Popen[str] | None = None
) -> object:
    """What `condition` gives once it is true."""
    ends = time.monotonic() + _PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends, "waited in vain"
        assert parent is None or parent.poll() is None, "it ended before it was stopped"
        time.sleep(0.01)
    return found


def _ranks(parent: subprocess.Popen[str]) -> list[int]:
    """The processes that run a rank, in the order they were started."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return sorted(pid for pid in pids if "spawn_main" in _command(pid))


def _command(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def _is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie that nobody asked after does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()


def _times(paths: list[Path]) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in paths}
