"""Ranks that fit together: real processes, for every method that fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crafting.registry import methods

FITTING = [name for name, entry in methods().items() if entry.quick.has_fit]


@pytest.mark.slow
def test_two_ranks_leave_one_state_and_the_same_again(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ranks = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.workers.fitting", str(tmp_path), *FITTING],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ranks.returncode == 0, ranks.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first.keys() == set(FITTING)
    assert first == second
    for name, (once, again) in first.items():
        assert once == again, name
