"""The processes of one stage on this machine: started, watched, started again where they die, and
gone when the stage ends, however it ends.

No socket of theirs is open but on the loopback, and none at all outside of a joint stage
(`Order.is_joint`) of several ranks. Torch's own launcher listens on every address and unpickles
what any client puts into its store.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from release.errors import Interrupted, ReleaseError
from release.rank import Order, Seat, raise_failure
from release.workdir import Workdir

_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OF_A_WORLD = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|(PMI|MV2|OMPI)_\w+"
    r"|(ACCELERATE|TORCHELASTIC|FSDP|PARALLELISM_CONFIG)_\w+"
)
"""Variables that say how this process was started, or what Accelerate shall make of it."""
_SECRET = re.compile(r"(\w+_)?(TOKEN|SECRET|PASSWORD|KEY|CREDENTIALS?)S?(_\w+)?")
_OF_THE_HUB = re.compile(r"(HF|HUGGING_?FACE|ACTIONS_ID_TOKEN)_\w+|PROTECT_RELEASE_SOURCE_TOKEN")
"""Variables that are read to log in where the source lies on the Hub."""


def run_ranks(order: Order, *, ranks: int, max_restarts: int) -> None:
    """The stage has run to its end on every rank. One that died was started again, in a joint stage
    with all others, up to `max_restarts` times in all. Raises what a rank could not go on from,
    which ends the others too, and Interrupted where a signal ended the stage."""
    workdir = Workdir(Path(order.workdir))
    workdir.log.write_text("")
    workdir.failure.unlink(missing_ok=True)
    running = _Running(order, ranks)
    with _raising_signals(order.stage), running:
        running.start(range(ranks))
        while (died := running.wait(workdir.failure)) is not None:
            rank, code = died
            with open(workdir.log, "a") as log:
                log.write(f"{order.stage}: rank {rank} of {ranks} ended with {code}\n")
            if max_restarts == 0:
                raise ReleaseError(
                    f"a worker died in {order.stage} (rank {rank}, exit code {code}; see "
                    f"{workdir.log}); what is finished is kept: run the same command again to go on"
                )
            max_restarts -= 1
            running.start(running.stop() if order.is_joint else [rank])
    raise_failure(workdir)


class _Running:
    """The ranks that run now. Leaving the context ends those that are left."""

    def __init__(self, order: Order, world: int) -> None:
        self._order, self._world = order, world
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._meetings = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def start(self, ranks: Iterable[int]) -> None:
        """These ranks run; those of a joint stage meet in a file that is new."""
        store = None
        if self._order.is_joint and self._world > 1:
            self._meetings += 1
            store = str(Workdir(Path(self._order.workdir)).progress / f"meeting-{self._meetings}")
        for rank in ranks:
            # Ctrl-C reaches every process of the terminal: what it means is for the parent to say,
            # here as soon as the rank is known, there never.
            with _held_back(signal.SIGINT):
                self._processes[rank] = self._started(Seat(rank, self._world, os.getpid(), store))

    def _started(self, seat: Seat) -> subprocess.Popen[bytes]:
        told = [json.dumps(asdict(seat)), json.dumps(asdict(self._order))]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "release.worker", *told],
            stdin=subprocess.DEVNULL,
            env=environment(self._order, seat),
        )

    def wait(self, failure: Path) -> tuple[int, int] | None:
        """None once every rank has ended well, or one has and `failure` is there; else a rank that
        died, with its exit code."""
        while self._processes:
            for rank, process in list(self._processes.items()):
                code = process.poll()
                if code is None:
                    continue
                del self._processes[rank]
                if code != 0:
                    return rank, code
                if failure.exists():
                    return None
            time.sleep(_POLL_SECONDS)
        return None

    def stop(self) -> range:
        """No rank runs; the ranks of the stage, to be started again."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        return range(self._world)


def environment(order: Order, seat: Seat) -> dict[str, str]:
    """What a rank is told by its environment: this program as the parent runs it, the threads
    planned, and no secret that it has no use for."""
    hub = _OF_THE_HUB.fullmatch if order.reads_hub else re.compile("(?!)").fullmatch
    kept = {
        name: value
        for name, value in os.environ.items()
        if not _OF_A_WORLD.fullmatch(name) and (not _SECRET.fullmatch(name) or hub(name))
    }
    # Threads that spin for long while they wait hold each other up wherever the machine has
    # anything else to do: beside two busy processes on 2 cores a training took 23 s, so 6 s; alone
    # it takes 2.3 s either way.
    kept.setdefault("GOMP_SPINCOUNT", "1000")
    # glibc gives every large block back to the system at once, which clears it again for the next
    # batch: nets train 8 % and score 25 % faster on CPU where it keeps up to 4 GiB of them.
    kept.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    kept.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
    kept.setdefault("MALLOC_TOP_PAD_", str(2**26))
    # Arrow's own allocator keeps what it was given, of a shard of photographs half a gigabyte.
    kept.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    kept["OMP_NUM_THREADS"] = str(order.threads)
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return kept | ({} if seat.store is None else _met_on_loopback(seat))


def _met_on_loopback(seat: Seat) -> dict[str, str]:
    """What Accelerate and the libraries that connect the ranks read."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    place = {"RANK": seat.rank, "LOCAL_RANK": seat.rank}
    size = {"WORLD_SIZE": seat.world, "LOCAL_WORLD_SIZE": seat.world}
    named = {name: str(value) for name, value in (place | size).items()}
    return named | {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """The signal is delivered at the end; a process that is started meanwhile never gets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _raising_signals(stage: str) -> Iterator[None]:
    """Signals that ask this process to end raise Interrupted, as far as this is the thread that
    may say so."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(
            f"stopped by {signal.Signals(number).name} in {stage}; what is finished is kept: run "
            "the same command again to go on"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored already, as under nohup, goes on being ignored; None is another program's.
    kept = (signal.SIG_IGN, None)
    heard = [number for number in _SIGNALS if signal.getsignal(number) not in kept]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
