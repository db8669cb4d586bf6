"""What is not fit to be seen by everybody is not made public."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from release.errors import InputError
from release.transaction import demand_own_gate
from release.workdir import Workdir


@pytest.mark.parametrize(
    ("public", "flags", "refused"),
    [
        (True, ["one-seed", "raised-gate"], True),
        (False, ["raised-gate"], False),
        (True, ["one-seed"], False),
    ],
)
def test_a_raised_gate_lets_nothing_out_to_everybody(
    tmp_path: Path, public: bool, flags: list[str], refused: bool
) -> None:
    workdir = Workdir(tmp_path)
    workdir.report.mkdir()
    report = {"flags": [{"id": flag, "text": ""} for flag in flags]}
    (workdir.report / "report.json").write_text(json.dumps(report))
    plan: Any = SimpleNamespace(public=public)
    if not refused:
        return demand_own_gate(plan, workdir)
    with pytest.raises(InputError, match="--max-accuracy"):
        demand_own_gate(plan, workdir)
