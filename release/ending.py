"""How a process that was a rank ends.

gloo's threads may hold the tensors of the last collective a moment longer than its caller waits.
Where that moment falls into the finalisation of the interpreter, they find no interpreter to give
them back to, and the process aborts with all its work done ("terminate called without an active
exception"), now and then on a busy machine; pytorch/pytorch#179291 has the like.
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
