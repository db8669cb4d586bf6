"""`craft` as a process, and the processes that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 120


def planned(source: Path, workdir: Path, workers: int) -> tuple[object, ...]:
    """The command that plans what takes a few seconds to craft, over 24 shards."""
    return (
        *("plan", source, "--to", workdir / "release", "--workdir", workdir, "--seed", "7"),
        *("--method", "sep-fa-vr", "--set", "surrogate_epochs=2", "--set", "checkpoints=2"),
        *("--set", "steps=12", "--rows-per-shard", "4", "--workers", workers),
    )


@contextmanager
def crafting(
    workdir: Path, stage: str = "craft", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The stage as a process that leads its own group; gone afterwards, whatever happened."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "release", stage, "--workdir", str(workdir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    )
    try:
        yield parent
    finally:
        for pid in (parent.pid, *ranks(parent)):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        parent.communicate()


def wait_for(condition: Callable[[], T], parent: subprocess.Popen[str] | None = None) -> T:
    """What `condition` gives once it is true."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends, "waited in vain"
        assert parent is None or parent.poll() is None, "it ended before it was stopped"
        time.sleep(0.01)
    return found


def ranks(parent: subprocess.Popen[str]) -> list[int]:
    """The processes that run a rank, in the order they were started."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return sorted(pid for pid in pids if "release.worker" in _command(pid))


def _command(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie that nobody asked after does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text()
