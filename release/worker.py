"""One process of a stage, `python -m release.worker SEAT ORDER`, started by `release.processes`.

It ends with its parent, so that nothing goes on behind a killed command. That is arranged before
anything large is loaded, which takes seconds in which the parent may be gone already.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from release.rank import Order, Seat

_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def main(seat: str, order: str) -> None:
    """The stage is done on this rank, or its reason for giving up is in WORKDIR/failure.json."""
    _end_with(json.loads(seat)["parent"])
    from release.ending import end_at_once
    from release.rank import Order, Seat

    code = 1
    end_at_once(lambda: code)
    told = Order(**json.loads(order))
    _tell_of_bugs(told)
    _take_part(told, Seat(**json.loads(seat)))
    code = 0


def _take_part(order: Order, seat: Seat) -> None:
    from release.rank import run_stage, seated

    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    rank = seated(order, seat)
    run_stage(order.stage, rank)
    rank.accelerator.end_training()


def _tell_of_bugs(order: Order) -> None:
    """Tracebacks go to WORKDIR/workers.log rather than between the lines that a person reads."""
    from release.workdir import Workdir

    log = Workdir(Path(order.workdir)).log

    def note_down(
        kind: type[BaseException], problem: BaseException, at: TracebackType | None
    ) -> None:
        with open(log, "a") as file:
            traceback.print_exception(kind, problem, at, file=file)

    sys.excepthook = note_down


def _end_with(parent: int) -> None:
    """This process ends as soon as its parent has; at once where it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
