"""Does it protect? The embedded digits, as `make demo` protects them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run


@pytest.mark.slow
def test_digits_hold_as_in_the_demo(run: Run, tmp_path: Path) -> None:
    arguments = ("--to", tmp_path / "out", "--workdir", tmp_path / "w", "--workers", "2")
    method = ("--method", "tap", "--budget", "linf:16", "--set", "step_levels=2")
    result = run("push", "sample:mnist5k", *arguments, *method, "--seed", "1", "--json")
    assert result.exit_code == 0, result.stderr
    trials = json.loads(result.stdout)["trials"]
    assert len(trials) == 2
    for trial in trials:
        assert trial["clean"] > 0.9
        assert trial["protected"] < 0.35


@pytest.mark.slow
def test_random_noise_is_not_published(run: Run, tmp_path: Path) -> None:
    arguments = ("--to", tmp_path / "out", "--workdir", tmp_path / "w", "--workers", "2")
    method = ("--method", "random-noise", "--victim", "vgg-w16", "--victim-epochs", "10")
    result = run("push", "sample:mnist5k", *arguments, *method, "--seed", "1", "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["verdict"] == "missed"
    assert told["trials"][0]["protected"] > 0.8
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_victims_rows_alone_are_read_back(run: Run, small: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    asked = ("--method", "random-noise", "--fit-rows", "20", "--victim", "vgg-w16")
    asked += ("--victim-epochs", "1", "--max-accuracy", "1", "--workers", "1")
    told = run("push", small, "--to", tmp_path / "out", "--workdir", work, *asked)
    assert told.exit_code == 0, told.stderr
    (protected,) = work.glob("protected/*/rows.npy")
    (clean,) = work.glob("cache/*/train/rows.npy")
    assert np.load(protected).tolist() == np.load(clean).tolist()
    assert len(np.load(protected)) == 20
