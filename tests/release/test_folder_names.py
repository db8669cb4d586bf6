"""Whatever a folder is called, it is that folder that is read, or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clean_data import Run

CHEAP = ("--method", "random-noise", "--workers", "1")


@pytest.mark.parametrize("name", ["fl [12]", "f*", "fl ?", "a::b"])
def test_a_source_that_reads_like_a_pattern_is_refused(
    run: Run, small: Path, out: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(small, tmp_path / "fl 1")
    folder = tmp_path / name
    (folder / "data").mkdir(parents=True)
    shutil.copy(small / "data/test-0.parquet", folder / "data/train-0.parquet")
    told = run("push", folder, "--to", out, "--workdir", tmp_path / "work", "--no-verify", *CHEAP)
    assert told.exit_code == 2, told.output
    assert f"{folder} has " in told.stderr
    assert "rename the folder" in told.stderr


def test_a_target_that_reads_like_a_pattern_is_refused(
    run: Run, small: Path, tmp_path: Path
) -> None:
    told = run("push", small, "--to", tmp_path / "out [1]", "--no-verify", *CHEAP)
    assert told.exit_code == 2, told.output
    assert "out [1] has [ in its path" in told.stderr
