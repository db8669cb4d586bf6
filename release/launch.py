"""Starts ranks of this program as child processes and waits for them; the parent itself trains and
crafts nothing and never touches CUDA.

Where the command was already started by torchrun, `accelerate launch` or Slurm, it joins that world
instead (`JoinedWorld`).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from release.errors import KINDS, Interrupted, ReleaseError
from release.terminal import Terminal
from release.workdir import Workdir
from release.worker import Order

_WORLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class JoinedWorld:
    """The world this process was started in by torchrun, `accelerate launch` or Slurm: its first
    rank leads with `run` and `end`, the others `follow`. WORKDIR is on a disk they share."""

    def __init__(self) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        # Followers wait in a collective while the first rank plans and fits, however long it takes.
        patience = InitProcessGroupKwargs(timeout=timedelta(days=30))
        cpu = torch.cuda.device_count() == 0
        self._accelerator = Accelerator(cpu=cpu, kwargs_handlers=[patience])
        self.size = int(os.environ["WORLD_SIZE"])
        # On CPU an Accelerator that is not told so believes that it is alone: every row twice.
        assert self._accelerator.num_processes == self.size

    @property
    def is_first(self) -> bool:
        return bool(self._accelerator.is_main_process)

    def run(self, order: Order) -> None:
        """The stage has run on every rank; raises what any of them could not go on from."""
        self._send(order)
        self._take_part(order)
        raise_failure(Workdir(Path(order.workdir)))

    def end(self) -> None:
        """The followers are dismissed."""
        self._send(None)
        self._accelerator.end_training()

    def follow(self) -> None:
        """Every stage that the first rank called for has run here too."""
        while (order := self._send(None)) is not None:
            self._take_part(order)
        self._accelerator.end_training()

    def _take_part(self, order: Order) -> None:
        from release.worker import join, run_stage

        run_stage(order.stage, join(order))
        self._accelerator.wait_for_everyone()

    def _send(self, order: Order | None) -> Order | None:
        """What the first rank sends, on every rank."""
        from accelerate.utils import broadcast_object_list

        orders: list[Order | None] = broadcast_object_list([order])
        return orders[0]


def is_joined() -> bool:
    """Whether this process was started as one rank of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def run_ranks(order: Order, *, ranks: int, max_restarts: int) -> None:
    """The stage has run to its end on every rank; a rank that died was started again with all
    others up to `max_restarts` times. Raises what a rank could not go on from."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from release.worker import main

    workdir = Workdir(Path(order.workdir))
    # Left to itself the launcher makes a folder for its notes among the temporary files, for good.
    notes = tempfile.TemporaryDirectory(prefix="launcher-", dir=workdir.path)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=f"protect-release-{os.getpid()}",
        max_restarts=max_restarts,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(log_dir=notes.name),
    )
    try:
        with notes, _environment(order.threads), _logged(workdir.log):
            elastic_launch(config, main)(order)
    except ChildFailedError as died:
        rank, failure = died.get_first_failure()
        raise ReleaseError(
            f"a worker died in {order.stage} (rank {rank}, exit code {failure.exitcode}; see "
            f"{workdir.log}); what is finished is kept: run the same command again to go on"
        ) from None
    except SignalException as signalled:
        raise Interrupted(
            f"stopped by {signalled.sigval.name} in {order.stage}; what is finished is kept: run "
            "the same command again to go on"
        ) from None
    raise_failure(workdir)


def raise_failure(workdir: Workdir) -> None:
    """Raises in the parent what a rank wrote down before it gave up."""
    if workdir.failure.exists():
        failure = json.loads(workdir.failure.read_text())
        raise KINDS[failure["kind"]](failure["message"])


@dataclass(frozen=True)
class Launcher:
    """Starts the ranks of the stages of one WORKDIR and shows how far they are: in the joined
    world where there is one, else as processes of our own."""

    workdir: Workdir
    terminal: Terminal
    world: JoinedWorld | None = None

    def run(self, order: Order, *, ranks: int, unit: str, max_restarts: int) -> None:
        """The stage has run on every rank. Fitting alone must not run on more ranks than asked
        for, since a sum over others is another sum."""
        self.workdir.clear_progress()
        with self.terminal.watching(order.stage, self.workdir.progress, unit):
            if self.world is not None and (order.stage != "fit" or self.world.size == ranks):
                self.world.run(order)
            else:
                run_ranks(order, ranks=ranks, max_restarts=max_restarts)


@contextmanager
def opened(workdir: Workdir, terminal: Terminal) -> Iterator[Launcher | None]:
    """The launcher of a locked WORKDIR. Started as a rank that is not the first, this process does
    what the first one calls for, and then None is what is left to do."""
    if not is_joined():
        with workdir.locked():
            yield Launcher(workdir, terminal)
        return
    world = JoinedWorld()
    if not world.is_first:
        world.follow()
        yield None
        return
    try:
        with workdir.locked():
            yield Launcher(workdir, terminal, world)
    finally:
        world.end()


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What the launcher has to say of its ranks, tracebacks included, goes to a file."""
    log = logging.getLogger("torch.distributed.elastic")
    handler = logging.FileHandler(path, mode="w")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """The children see a world of their own and as many threads as planned."""
    before = dict(os.environ)
    for name in [*_WORLD, *(name for name in before if name.startswith("TORCHELASTIC_"))]:
        os.environ.pop(name, None)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # Threads that spin for long while they wait hold each other up wherever the machine has
    # anything else to do: beside two busy processes on 2 cores a training took 23 s, so 6 s; alone
    # it takes 2.3 s either way.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # glibc gives every large block back to the system at once, which clears it again for the next
    # batch: nets train 8 % and score 25 % faster on CPU where it keeps up to 4 GiB of them.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**32))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(2**26))
    # With the shared store, restarted gloo ranks find the addresses of the dead ones (torch 2.15).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
