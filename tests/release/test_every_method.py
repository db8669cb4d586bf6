"""Every method goes the whole way: planned, fitted and crafted by ranks, released, whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_data import Run

from crafting.registry import methods, registration

SMALL = {
    "surrogate_epochs": 2,
    "checkpoints": 2,
    "steps": 2,
    "inner_steps": 2,
    "candidates": 20,
    "nets": "vgg-w16,resnet10-w16",
    "seeds": 1,
    "robust_steps": 1,
    "rounds": 2,
    "inner_epochs": 1,
    "epochs": 2,
    "draws": 1,
    "validation": 8,
    "clusters": 3,
    "generator_epochs": 2,
}
"""Values for whatever options have these names."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*methods(), "tap+ops"])
def test_it_is_released(run: Run, small: Path, out: Path, name: str) -> None:
    options = registration(name).quick.options()
    known = {option: SMALL.get(option.split(".")[-1]) for option in options}
    chosen = [f"--set={o}={value}" for o, value in known.items() if value is not None]
    asked = ("--method", name, *chosen, "--no-verify", "--workers", "1")
    told = run("push", small, "--to", out, "--workdir", out.with_name("work"), *asked)
    assert told.exit_code == 0, told.output
    assert run("check", out).exit_code == 0
