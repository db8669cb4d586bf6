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
    if code is None:
        told = json.loads(result.stdout)
        assert result.exit_code == (3 if told["holds"] is False else 0), result.output
        return told
    assert result.exit_code == code, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line
