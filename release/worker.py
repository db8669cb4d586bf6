"""One process of a stage: joins its world, does its part, and says how far it is.

It ends as soon as its parent is gone, so that nothing goes on behind a killed command.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from release.ending import end_at_once
from release.errors import KINDS, ReleaseError
from release.plan import ReleasePlan
from release.verification.plan import VerificationPlan
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Order:
    """What a rank is told when it is started: the stage, its WORKDIR, the threads it may use, and
    what its plan says of where it runs."""

    stage: str
    workdir: str
    threads: int
    device: str
    hub_patience: float


@dataclass
class Rank:
    """What a stage knows about where it runs."""

    workdir: Workdir
    accelerator: Accelerator
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
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        return int(self.accelerator.num_processes)

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


def main(order: Order) -> None:
    """The stage is done on this rank, or its reason for giving up is in WORKDIR/failure.json."""
    # The parent has the last word on Ctrl-C; a traceback of every rank would drown it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    code = 1
    end_at_once(lambda: code)
    rank = join(order)
    run_stage(order.stage, rank)
    rank.accelerator.end_training()
    code = 0


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


def join(order: Order) -> Rank:
    """This process as a rank of the world it was started in, with its own number of threads."""
    import torch
    from accelerate import Accelerator

    from release.hub_client import be_patient

    torch.set_num_threads(order.threads)
    be_patient(order.hub_patience)
    torch.backends.cudnn.deterministic = True
    accelerator = Accelerator(cpu=order.device == "cpu")
    # On CPU an Accelerator that is not told so believes that it is alone: every row twice.
    assert accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
    return Rank(Workdir(Path(order.workdir)), accelerator)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
