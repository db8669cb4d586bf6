"""How a process that was a rank ends.

A rank with all its work done aborted now and then on a busy machine ("terminate called without an
active exception"). pytorch/pytorch#179291 describes how that comes about: gloo's threads may hold
the tensors of the last collective a moment longer than its caller waits, and where that moment
falls into the finalisation of the interpreter they find none to give them back to.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable


def end_at_once(exit_code: Callable[[], int]) -> None:
    """This process will end with that code after whatever else is registered to run at its exit
    from now on, without the interpreter's finalisation; what was printed is flushed."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code())

    atexit.register(end)  # what is registered first runs last
