"""`verify RELEASE`, as tests ask for it."""

from __future__ import annotations

import json
from typing import Any

from clean_data import Run

ROWS, TESTED = 64, 40
FAST = ("--victim", "vgg-w16", "--epochs", "1", "--workers", "1", "--json")


def verify(run: Run, *arguments: object, code: int = 0) -> Any:
    """What the command says: its JSON, or the one line of an error."""
    result = run("verify", *arguments)
    assert result.exit_code == code, result.output
    if code == 0:
        return json.loads(result.stdout)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
