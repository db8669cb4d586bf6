"""Releases that are verified and never published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def report(
    source: str, place: Path, *, method: str, budget: str, rows: int, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What report.json says of `rows` rows of SOURCE that the quick preset protected. `options` are
    more of those of `plan`; what is finished in `place` is not done again, and nothing is added to
    a release: to a second push of the same rows nothing would be new."""
    workdir = ("--workdir", str(place / "work"))
    planned = (
        *("plan", source, "--to", str(place / "unpublished"), *workdir, "--method", method),
        *("--budget", budget, "--rows", str(rows), "--seed", "0", "--preset", "quick"),
        *("--max-accuracy", "1", *options),
    )
    for stage in (planned, ("verify", *workdir)):
        command = [sys.executable, "-m", "release", *stage]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((place / "work/report/report.json").read_text())
    assert found["release"]["method"] == method
    return found
