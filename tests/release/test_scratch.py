"""What fit keeps on this machine reaches crafting: the noise of every row, in WORKDIR/scratch."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from clean_data import Run, write_split
from PIL import Image

from crafting.noisebank import NoiseBank


@pytest.mark.slow
def test_rows_are_released_with_the_noise_that_fit_left(run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(20, 230, (20, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(20) % 4
    write_split(tmp_path / "clean/data/train-0.parquet", pixels[:12], labels[:12])
    write_split(tmp_path / "clean/data/test-0.parquet", pixels[12:], labels[12:])
    workdir = tmp_path / "work"
    settings = (f"--set={name}" for name in ("rounds=2", "round_steps=1", "steps=2"))
    planned = run(
        *("plan", tmp_path / "clean", "--to", tmp_path / "out", "--workdir", workdir),
        *("--method", "em", "--seed", "7", "--workers", "1", *settings),
    )
    assert planned.exit_code == 0, planned.stderr
    for stage in ("fit", "craft"):
        assert run(stage, "--workdir", workdir).exit_code == 0
    (kept,) = workdir.glob("scratch/*/*/round-*")
    assert all(path.stat().st_mode & 0o77 == 0 for path in (kept, kept.parent, kept.parent.parent))
    bank = NoiseBank.open(kept)
    assert len(bank) == 12
    added = _released(workdir).astype(int) - pixels[:12]
    noises = np.asarray(bank.levels).reshape(12, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(added, noises)
    # Without it the rows would be crafted from one round of steps: fit makes it again.
    shutil.rmtree(workdir / "scratch")
    shutil.rmtree(workdir / "shards")
    assert run("craft", "--workdir", workdir).exit_code == 0
    assert np.array_equal(_released(workdir).astype(int) - pixels[:12], added)


def _released(workdir: Path) -> np.ndarray:
    """(N,H,W,C) uint8, in the order of the rows."""
    (shard,) = workdir.glob("shards/*/data/**/*.parquet")
    images = pq.read_table(shard)["image"].to_pylist()
    return np.stack([np.array(Image.open(io.BytesIO(image["bytes"]))) for image in images])
