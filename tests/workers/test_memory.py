"""What photographs take: a real push, whose processes are asked what they ever took."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.memory import peaks

MOST_MB = 2000


@pytest.mark.slow
def test_workers_stay_below_two_gigabytes_whatever_a_photograph_has(tmp_path: Path) -> None:
    """One of 50 megapixels between two of 12, and a few small ones."""
    sizes = [(4000, 3000), (8160, 6120), (4000, 3000), *[(64, 48)] * 5]
    noise = np.random.default_rng(0).integers(0, 24, (6120, 8160, 3), np.uint8)
    for row, (width, height) in enumerate(sizes):
        path = tmp_path / f"clean/train/{'ab'[row % 2]}/{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise[:height, :width] + np.uint8(100)).save(path, quality=92)
    command = ["push", str(tmp_path / "clean"), "--to", str(tmp_path / "out"), "--no-verify"]
    command += ["--workdir", str(tmp_path / "work"), "--method", "random-noise", "--workers", "1"]
    found = peaks(command, tmp_path / "data", "VmHWM")
    assert {name.split()[0] for name in found} >= {"parent", "craft"}
    assert max(found.values()) < MOST_MB, found
    assert min(found["parent"], found["craft worker 0"]) > 100, "something else was measured"
