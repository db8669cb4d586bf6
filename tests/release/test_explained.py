"""What the names mean that can be typed: every option is explained, and no name is cut."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP

from crafting.registry import methods
from evaluation.analyses import ANALYSES
from evaluation.countermeasures import COUNTERMEASURES


@pytest.mark.parametrize("name", methods())
def test_every_option_of_a_method_is_explained(run: Run, name: str) -> None:
    (told,) = json.loads(run("methods", name, "--json").stdout)
    silent = [
        option
        for option in told["options"]["paper"]
        if not re.search(rf"\b{option}\b", told["explained"])
    ]
    assert silent == []


def test_options_are_explained_with_the_values_they_may_have(run: Run) -> None:
    shown = " ".join(run("methods", "sep-fa-vr").stdout.split())
    assert "own, last" in shown
    assert "vr_center: whose centres these gradients are pulled to" in shown
    assert "checkpoints: how many states of it are kept" in shown
    mixed = run("methods", "tap+ops").stdout
    assert "deviation, variance" in mixed
    assert "spread is what a pixel's distance" in " ".join(mixed.split())


def test_whoever_names_no_option_is_sent_to_those_of_the_method(
    run: Run, small: Path, tmp_path: Path
) -> None:
    asked = ("push", small, "--to", tmp_path / "out", "--workdir", tmp_path / "work", *CHEAP)
    told = run(*asked, "--method", "lsp", "--set", "cell=3")
    assert told.exit_code == 2
    assert "(see `protect-release methods lsp`)" in told.stderr
    assert "(see `protect-release methods`)" in run(*asked, "--method", "lps").stderr


@pytest.mark.parametrize(
    ("command", "names"), [("countermeasures", COUNTERMEASURES), ("analyses", ANALYSES)]
)
def test_names_are_whole_on_a_narrow_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, names: dict[str, object]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(command).stdout
    assert [name for name in names if f"\u2502 {name} " not in shown] == []
    assert "\u2026" not in shown
