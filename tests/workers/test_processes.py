"""What the processes of a stage open to others, what they know, and how they end."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run
from sockets import addresses
from stage_process import (
    PATIENCE_SECONDS,
    crafting,
    is_alive,
    planned,
    ranks,
    wait_for,
)

from release.processes import environment
from release.rank import Order, Seat

ROOT = Path(__file__).parents[2]
SECRETS = {
    "PROTECT_RELEASE_KEY": "marked-key-of-the-owner",
    "HF_TOKEN": "hf_marked",
    "PROTECT_RELEASE_STATE_TOKEN": "hf_marked_too",
    "GITHUB_TOKEN": "ghs_marked",
    "AWS_SECRET_ACCESS_KEY": "marked/aws",
}


def test_ranks_that_craft_open_no_socket_and_know_no_secret(workdir: Path) -> None:
    bound, seen = {}, set()
    with crafting(workdir, **SECRETS) as parent:
        while parent.poll() is None:
            mine = ranks(parent)
            seen |= set(mine)
            bound |= addresses([parent.pid, *mine])
            for pid in mine:
                assert "marked" not in _environ(pid)
        assert parent.returncode == 0, parent.stderr.read()  # type: ignore[union-attr]
    assert len(seen) == 2
    assert bound == {}


@pytest.mark.slow
def test_no_process_of_a_push_is_reached_from_another_machine(small: Path, tmp_path: Path) -> None:
    """From the plan to the published release, with ranks that fit together and victims."""
    command = [
        *(sys.executable, "-m", "release", "push", small, "--to", tmp_path / "out"),
        *planned(small, tmp_path / "work", workers=2)[4:],
        *("--fit-workers", "2", "--victim-epochs", "1", "--max-accuracy", "1"),
    ]
    bound: dict[tuple[str, int], bool] = {}
    arguments = [str(word) for word in command]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as parent:
        stages = set()
        while parent.poll() is None:
            mine = ranks(parent)
            stages |= {stage for pid in mine for stage in _stages_of(pid)}
            bound |= addresses([parent.pid, *mine])
        assert parent.returncode == 0, parent.stderr.read()  # type: ignore[union-attr]
    assert stages == {"fit", "craft", "verify"}
    assert {address for address, _ in bound} == {"127.0.0.1"}


def _stages_of(pid: int) -> list[str]:
    """The stage that a rank was told, while it runs."""
    path = Path(f"/proc/{pid}/cmdline")
    told = path.read_text().split("\0") if path.exists() else []
    return [json.loads(order)["stage"] for order in told[-2:-1]]


@pytest.fixture(scope="module")
def unfitted(run: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WORKDIR with a plan whose two ranks fit together."""
    workdir = tmp_path_factory.mktemp("unfitted")
    made = run(*planned(small, workdir, workers=2), "--fit-workers", "2")
    assert made.exit_code == 0, made.stderr
    return workdir


@pytest.mark.slow
def test_ranks_that_fit_together_are_reached_by_nobody_else(unfitted: Path, tmp_path: Path) -> None:
    states = []
    for visited in (False, True):
        workdir = Path(shutil.copytree(unfitted, tmp_path / f"visited-{visited}"))
        with crafting(workdir, "fit", **SECRETS) as parent:
            heard = wait_for(lambda: _listening(parent), parent)
            assert {address for address, _ in heard} <= {"127.0.0.1", "::1"}
            if visited:
                _visit(parent.pid, tmp_path / "reached", heard)
            assert parent.wait(PATIENCE_SECONDS) == 0, parent.stderr.read()  # type: ignore[union-attr]
        states.append({p.name: p.read_bytes() for p in workdir.glob("state/*/*")})
    assert not (tmp_path / "reached").exists()
    assert len(states[0]) == 3
    assert states[0] == states[1]


def _listening(parent: subprocess.Popen[str]) -> list[tuple[str, int]]:
    """Where both ranks listen, once they do."""
    each = [
        [place for place, listens in addresses([pid]).items() if listens] for pid in ranks(parent)
    ]
    return [place for places in each for place in places] if len(each) == 2 and all(each) else []


def _visit(parent: int, marker: Path, heard: list[tuple[str, int]]) -> None:
    """Another account does its worst."""
    marker.parent.chmod(0o777)
    ports = [str(port) for _, port in heard]
    said = [f"protect-release-{parent}", str(marker), *ports]
    subprocess.run(
        [sys.executable, "-m", "tests.workers.hostile", *said],
        cwd=ROOT,
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def test_a_parent_killed_while_its_ranks_start_takes_them_along(workdir: Path) -> None:
    for _ in range(3):
        with crafting(workdir) as parent:
            started = wait_for(lambda: ranks(parent), parent)
            parent.kill()
            parent.wait(PATIENCE_SECONDS)
            wait_for(partial(_are_gone, started))
        assert _are_gone(ranks(parent))


def _are_gone(pids: list[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


def test_a_rank_that_gives_up_ends_the_others(workdir: Path) -> None:
    """The first row, which is one of the first rank's, is no longer what was surveyed."""
    digests = np.load(workdir / "survey/train/digests.npy", mmap_mode="r+")
    digests[0] = 0
    digests.flush()
    with crafting(workdir) as parent:
        _, said = parent.communicate(timeout=PATIENCE_SECONDS)
    assert parent.returncode == 2
    assert len(said.splitlines()) == 1
    assert "row 0 of" in said
    others = list(workdir.glob("shards/*/records/**/*.json"))
    assert len(others) < 12, "the other rank made all of its shards"


def _environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has just ended


def _told(monkeypatch: pytest.MonkeyPatch, **order: object) -> set[str]:
    """The names among these variables that a rank of the stage has."""
    settings = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "elsewhere", "PMI_SIZE": "2"}
    settings |= {"ACCELERATE_USE_DEEPSPEED": "true", "HF_ENDPOINT": "http://127.0.0.1:1"}
    for name, value in (settings | SECRETS | {"PROTECT_RELEASE_SOURCE_TOKEN": "hf_s"}).items():
        monkeypatch.setenv(name, value)
    told = environment(Order("craft", "/w", 1, "cpu", 1.0, **order), Seat(0, 2, 1))  # type: ignore[arg-type]
    return set(told) & {*settings, *SECRETS, "PROTECT_RELEASE_SOURCE_TOKEN"}


def test_a_rank_is_told_of_no_world_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _told(monkeypatch) == {"HF_ENDPOINT"}


def test_a_rank_that_reads_from_the_hub_can_log_in_there(monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"HF_ENDPOINT", "HF_TOKEN", "PROTECT_RELEASE_SOURCE_TOKEN"}
    assert _told(monkeypatch, reads_hub=True) == login


@pytest.mark.slow
def test_ranks_that_die_for_good_are_told_of_in_one_line_and_the_log(workdir: Path) -> None:
    """What is no State is a bug's traceback in every rank, each time it is started."""
    for file in workdir.glob("state/*/*.safetensors"):
        file.write_bytes(b"cut")
    with crafting(workdir) as parent:
        _, said = parent.communicate(timeout=PATIENCE_SECONDS)
    assert parent.returncode == 1
    assert len(said.splitlines()) == 1
    assert f"see {workdir / 'workers.log'}" in said
    told = (workdir / "workers.log").read_text()
    ends = re.findall(r"^craft: rank [01] of 2 ended with 1$", told, re.MULTILINE)
    assert 1 < len(ends) <= told.count("Traceback")
    assert "header too small" in told
