"""What a process knows that takes part in a stage, and what it does there.

A rank is a process that `release.processes` started (`release.worker`), or one of a world that
torchrun, `accelerate launch` or Slurm started.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from release.errors import KINDS, ReleaseError
from release.plan import ReleasePlan
from release.verification.plan import VerificationPlan
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Order:
    """What the ranks of a stage are told: the stage, its WORKDIR, the threads that each may use,
    and what its plan says of where it runs. reads_hub: whether rows come from the Hub."""

    stage: str
    workdir: str
    threads: int
    device: str
    hub_patience: float
    reads_hub: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether its ranks work on one thing, so that none gets on without the others: a sum over
        gradients. In the other stages each has rows or trainings of its own, and asks nobody."""
        return self.stage == "fit"


@dataclass(frozen=True)
class Seat:
    """Which of the ranks a process is. parent: the id of the process that started it; store: the
    file by which the ranks of a joint stage find each other, None where there is nobody to find."""

    rank: int
    world: int
    parent: int
    store: str | None = None


@dataclass
class Rank:
    """What a stage knows about where it runs."""

    workdir: Workdir
    accelerator: Accelerator
    rank: int
    world: int
    _reported: float = field(default=0.0)

    @cached_property
    def plan(self) -> ReleasePlan:
        """The release that is being made in this WORKDIR."""
        return ReleasePlan.load(self.workdir.plan)

    @cached_property
    def verification(self) -> VerificationPlan:
        """The verification of something published that is made in this WORKDIR."""
        return VerificationPlan.load(self.workdir.verification)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.accelerator.device
        return device

    def tell(self, done: float, total: float) -> None:
        """The parent's progress bar learns that this rank has done `done` of its `total`."""
        now = time.monotonic()
        if done < total and now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        path = self.workdir.progress / f"{self.rank}.json"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps([done, total]))
        temporary.replace(path)


def run_stage(stage: str, rank: Rank) -> None:
    """The stage has run on this rank; an error that trying again cannot mend is written down
    for the parent rather than raised, since a rank that fails is started again."""
    from release.stages import STAGES

    try:
        STAGES[stage](rank)
    except ReleaseError as problem:
        kind = type(problem).__name__
        assert kind in KINDS, kind
        write_private(rank.workdir.failure, json.dumps({"kind": kind, "message": str(problem)}))


def raise_failure(workdir: Workdir) -> None:
    """Raises in the parent what a rank wrote down before it gave up."""
    if workdir.failure.exists():
        failure = json.loads(workdir.failure.read_text())
        raise KINDS[failure["kind"]](failure["message"])


def seated(order: Order, seat: Seat) -> Rank:
    """This process as the rank that `release.processes` started it as. Ranks of a joint stage are
    connected, by addresses of this machine's loopback alone; the others have no connection at
    all."""
    from accelerate import Accelerator

    _prepare(order)
    if seat.store is not None:
        _meet(order, seat, seat.store)
    elif order.device == "cuda":
        import torch

        torch.cuda.set_device(seat.rank % torch.cuda.device_count())
        os.environ["ACCELERATE_TORCH_DEVICE"] = f"cuda:{torch.cuda.current_device()}"
    accelerator = Accelerator(cpu=order.device == "cpu")
    # On CPU an Accelerator that is not told so believes that it is alone: every row twice.
    assert accelerator.num_processes == (1 if seat.store is None else seat.world)
    return Rank(Workdir(Path(order.workdir)), accelerator, seat.rank, seat.world)


def joined(order: Order, accelerator: Accelerator) -> Rank:
    """This process as a rank of the world that it was started in."""
    _prepare(order)
    place = accelerator.process_index, accelerator.num_processes
    return Rank(Workdir(Path(order.workdir)), accelerator, *place)


def _prepare(order: Order) -> None:
    """As many threads as planned, sums in one order, and the plan's patience."""
    import torch

    from release.hub_client import be_patient

    torch.set_num_threads(order.threads)
    be_patient(order.hub_patience)
    torch.backends.cudnn.deterministic = True


def _meet(order: Order, seat: Seat, store: str) -> None:
    """The ranks of a joint stage are connected. They meet in a file that nobody else may open; the
    launcher of torch would listen on every address of the machine, and unpickle what it hears."""
    import torch

    torch.distributed.init_process_group(
        "nccl" if order.device == "cuda" else "gloo",
        init_method=f"file://{store}",
        rank=seat.rank,
        world_size=seat.world,
    )
