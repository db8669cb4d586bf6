"""The documents tell the truth about the command line and the files."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from statistics import fmean

import pytest
from clean_data import Run

from benchmarks.countermeasures import results_so_far
from crafting.registry import methods

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^    protect-release (.+)$", README, re.MULTILINE)


def test_every_command_has_an_example_in_the_readme(run: Run) -> None:
    shown = run("--help").stdout
    commands = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    assert {"push", "check", "preview"} <= set(commands)
    missing = {c for c in commands if not any(line.startswith(c) for line in EXAMPLES)}
    assert missing <= {"countermeasures"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_use_options_that_exist(run: Run, example: str) -> None:
    command, *arguments = shlex.split(example)
    offered = run(command, "--help").stdout
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", offered), f"{command} has no {option}"


@pytest.mark.parametrize("victim", ["vgg-w16", "resnet10-w16"])
def test_the_first_figures_are_those_that_were_measured(victim: str) -> None:
    trials = results_so_far()["trials"]
    asked = {"method": "sep-fa-vr", "victim": victim, "countermeasure": "none"}
    found = [t for t in trials if asked.items() <= t.items()]
    assert len(found) == 3
    means = (fmean(t[name] for t in found) for name in ("clean", "protected", "peak", "renamed"))
    shown = " | ".join(f"{100 * mean:.1f} %" for mean in means)
    [line] = re.findall(rf"^\| {victim}, .*$", README, re.MULTILINE)
    assert line.endswith(f" | {shown} |")


def test_the_memory_that_photographs_take_is_what_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks/results/photographs.json").read_text())["peak_resident"]
    page = (ROOT / "docs/large-images.md").read_text()
    for run in found:
        peak = run["peak_mb"]
        worker = max(mb for process, mb in peak.items() if "craft" in process)
        figures = f"{peak['parent'] / 1000:.2f} GB | {worker / 1000:.2f} GB"
        assert f"| {run['size']} | `{run['method']}` | {run['workers']} | {figures} |" in page
        assert worker < 2000
    assert found


def test_links_lead_to_files() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_the_changelog_names_every_method() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert not [name for name in methods() if f"`{name}`" not in changelog]


def test_every_flag_is_explained_in_the_order_of_its_check() -> None:
    from evaluation.flags import CHECKS

    explained = re.findall(
        r"^\| `([a-z-]+)` \|", (ROOT / "docs/flags.md").read_text(), re.MULTILINE
    )
    assert explained == list(CHECKS)


def test_constraints_hold_names_and_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", line), line


def test_the_workflow_calls_the_same_targets_as_a_person() -> None:
    import yaml

    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    ran = [step["run"] for step in steps if "run" in step]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ran == ["make check", "make test"]
    assert {command.split()[1] for command in ran} <= set(targets)
