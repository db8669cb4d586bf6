"""Starts ranks of this program as child processes and waits for them; the parent itself trains and
crafts nothing and never touches CUDA.

Where the command was already started by torchrun, `accelerate launch` or Slurm, it joins that world
instead (`JoinedWorld`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from release.processes import run_ranks
from release.rank import Order, joined, raise_failure, run_stage
from release.terminal import Terminal
from release.workdir import Workdir


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
        run_stage(order.stage, joined(order, self._accelerator))
        self._accelerator.wait_for_everyone()

    def _send(self, order: Order | None) -> Order | None:
        """What the first rank sends, on every rank. It goes as text: objects would be unpickled."""
        text = json.dumps(None if order is None else asdict(order)).encode()
        length = self._sent([len(text)])
        found = self._sent([*text] if self.is_first else [0] * length[0])
        told = json.loads(bytes(found))
        return None if told is None else Order(**told)

    def _sent(self, numbers: list[int]) -> list[int]:
        """The first rank's numbers, on every rank; as many as there are here."""
        import torch
        from accelerate.utils import broadcast

        values = torch.tensor(numbers, device=self._accelerator.device)
        received: list[int] = broadcast(values).tolist()
        return received


def is_joined() -> bool:
    """Whether this process was started as one rank of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


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
            if self.world is not None and (not order.is_joint or self.world.size == ranks):
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
