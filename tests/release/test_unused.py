"""Options that change nothing are named, and nothing is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clean_data import Run

from release.chain import Chain
from release.options import ReleaseOptions
from release.unused import without_effect

FIRST: Any = SimpleNamespace(
    release="r0001",
    method="sep-fa-mi",
    budget="linf:8",
    plan={"preset": "quick", "settings": {"steps": "3"}, "net_size": 32},
)
GROWN: Any = SimpleNamespace(manifests=(FIRST,), next_row=40)


@pytest.mark.parametrize(
    ("options", "chain", "said"),
    [
        ({}, Chain(), []),
        ({"victim": ["vgg16"], "max_accuracy": 0.0}, Chain(), []),
        (
            {"verify": False, "victim": ["vgg16"], "max_accuracy": 0.0},
            Chain(),
            ["--victim with --no-verify", "--max-accuracy with --no-verify"],
        ),
        (
            {"verify": False, "victim_epochs": 3, "victim_seeds": 3, "verify_rows": 9},
            Chain(),
            [f"--{name} with --no-verify" for name in ("victim-seeds", "victim-epochs")]
            + ["--verify-rows with --no-verify"],
        ),
        ({"preset": "paper", "set_": ["steps=9"], "net_size": 64, "fit_rows": 9}, Chain(), []),
        ({"preset": "quick", "set_": ["steps=3"], "net_size": 32}, GROWN, []),
        (
            {"preset": "paper", "set_": ["steps=9"], "net_size": 64},
            GROWN,
            [f"--{name} for added rows, which keep" for name in ("preset", "set", "net-size")],
        ),
        ({"fit_rows": 9}, GROWN, ["--fit-rows for added rows, whose method is fitted on"]),
        ({"show_rows": "3,39"}, Chain(), []),
        ({"show_rows": "40,55"}, GROWN, []),
        ({"show_rows": "3,40,39"}, GROWN, ["--show-rows 3,39 for rows of earlier releases"]),
        ({"budget": "linf:4"}, GROWN, []),
        ({"budget": "linf:8", "incremental_method": "sep-fa-mi"}, GROWN, []),
        ({"budget": "linf:4", "incremental_method": "sep-fa-mi"}, GROWN, ["--budget for added"]),
    ],
)
def test_what_has_no_effect_is_named(options: dict[str, Any], chain: Any, said: list[str]) -> None:
    found = without_effect(ReleaseOptions(source="org/name", **options), chain)
    assert [one[: len(words)] for one, words in zip(found, said, strict=True)] == said


def test_whoever_gave_it_is_told(run: Run, small: Path, out: Path) -> None:
    asked = ("plan", small, "--to", out, "--workdir", out.with_name("w"), "--victim", "vgg-w16")
    assert "without effect" not in run(*asked).stderr
    told = run(*asked, "--no-verify")
    assert told.exit_code == 0
    assert "without effect here: --victim with --no-verify" in told.stderr
