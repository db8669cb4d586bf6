"""How processes that were ranks end."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import atexit, sys
from release.ending import end_at_once

class Late:
    def __del__(self):
        print("finalised")

sys.modules["late"] = Late()  # goes with the interpreter's modules
code = 1
end_at_once(lambda: code)
atexit.register(print, "what is registered to run")
print("what was printed", end=", ")
code = 3
"""


def test_a_rank_ends_without_finalisation_with_its_own_code() -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True)
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout == "what was printed, what is registered to run\n"
