"""What is not fit to be seen by everybody is not made public."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clean_data import Run, write_split

from release.errors import InputError
from release.published import demand_for_everybody
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
    plan: Any = SimpleNamespace(public=public, target="org/name")
    if not refused:
        return demand_own_gate(plan, workdir)
    with pytest.raises(InputError, match="--max-accuracy"):
        demand_own_gate(plan, workdir)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["one-seed"], None),
        (["one-seed", "not-verified"], "never verified"),
        (["raised-gate"], "only a raised gate"),
        (["typed-seed"], "can be guessed"),
    ],
)
def test_one_release_that_is_not_fit_keeps_all_private(flags: list[str], says: str | None) -> None:
    reports = {"reports/r0001/report.json": flags, "reports/r0002/report.json": ["one-seed"]}

    def read(path: str, head: str) -> bytes:
        assert head == "c0ffee"
        return json.dumps({"flags": [{"id": flag} for flag in reports[path]]}).encode()

    target: Any = SimpleNamespace(name="org/name", read=read)
    chain: Any = SimpleNamespace(manifests=[SimpleNamespace(release=f"r000{n}") for n in (2, 1)])
    if says is None:
        return demand_for_everybody(target, chain, "c0ffee")
    with pytest.raises(InputError, match=f"r0001 of org/name .*{says}"):
        demand_for_everybody(target, chain, "c0ffee")


@pytest.mark.slow
def test_a_seed_that_was_typed_once_is_said_of_every_later_release(
    run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Later releases are made with the seed of the first, whether or not it is typed again."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    out = tmp_path / "out"
    pushed = ("push", tmp_path / "clean", "--to", out, "--workdir", tmp_path / "work")
    options = ("--method", "random-noise", "--incremental-method", "random-noise", "--no-verify")
    for rows, typed in ((slice(0, 24), ("--seed", "7")), (slice(24, 36), ())):
        path = tmp_path / f"clean/data/train-{rows.start}.parquet"
        write_split(path, pixels[rows], labels[rows])
        result = run(*pushed, *options, *typed)
        assert result.exit_code == 0, result.stderr
    reports = [json.loads(path.read_text()) for path in (out / "reports").glob("*/report.json")]
    told = ["typed-seed" in [flag["id"] for flag in report["flags"]] for report in reports]
    assert told == [True, True]
    shutil.rmtree(out)
    planned = run("plan", *pushed[1:], *options)
    assert planned.exit_code == 0, planned.stderr
    assert json.loads((tmp_path / "work/plan.json").read_text())["typed_seed"]
