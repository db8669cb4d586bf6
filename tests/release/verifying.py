"""`verify RELEASE`, as tests ask for it."""

from __future__ import annotations

import json
from typing import Any

from clean_data import Run

ROWS, TESTED = 64, 40
FAST = ("--victim", "vgg-w16", "--epochs", "1", "--workers", "1", "--json")


def verify(run: Run, *arguments: object, code: int | None = None) -> Any:
    """What the command says: its JSON, whether or not the release holds (victims that hardly
    trained say little of that), or the one line of the error with this exit code."""
    result = run("verify", *arguments)
    assert result.exit_code in ((0, 3) if code is None else (code,)), result.output
    if code is None:
        return json.loads(result.stdout)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
