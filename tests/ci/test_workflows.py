"""The workflows ask for as little as they can, agree with each other, and name what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clean_data import Run
from github_job import ROOT

ACTION = ROOT / ".github/actions/protect-release/action.yml"
RELEASE = ROOT / ".github/workflows/release.yml"
TEMPLATE = ROOT / "docs/templates/protect-release.yml"
VERIFYING = ROOT / "docs/templates/verify-release.yml"
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yml")), TEMPLATE, VERIFYING]
OF_THE_JOB = {"runs-on", "timeout-minutes"}
SECRETS = {
    "PROTECT_RELEASE_KEY": "key",
    "PROTECT_RELEASE_SOURCE_TOKEN": "source-token",
    "PROTECT_RELEASE_STATE_TOKEN": "state-token",
    "HF_TOKEN": "hf-token",
}


def _load(path: Path) -> dict[str, Any]:
    """A workflow; YAML reads its key `on` as true."""
    read = yaml.safe_load(path.read_text())
    return {("on" if key is True else key): value for key, value in read.items()}


def _steps(path: Path) -> Iterator[dict[str, Any]]:
    """Every step, and every job that calls a workflow."""
    read = _load(path)
    yield from read.get("runs", {}).get("steps", [])
    for job in read.get("jobs", {}).values():
        yield from job.get("steps", [job])


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


everything = pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=_name)


@everything
def test_what_others_wrote_is_pinned(path: Path) -> None:
    used = [step["uses"] for step in _steps(path) if "uses" in step]
    assert used
    for name in used:
        assert re.fullmatch(r"\$/[\w./-]+|[\w./-]+@[0-9a-f]{40}", name), name


@everything
def test_versions_stand_beside_the_pins(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.search(r"uses: .*@", line):
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_one_action_has_one_pin() -> None:
    used = {
        step["uses"] for path in (ACTION, *WORKFLOWS) for step in _steps(path) if "uses" in step
    }
    names = [name.partition("@")[0] for name in used]
    assert len(names) == len(set(names))


@everything
def test_scripts_take_values_from_their_environment_only(path: Path) -> None:
    scripts = [step["run"] for step in _steps(path) if "run" in step]
    assert not [script for script in scripts if "${{" in script]


def test_scripts_stop_at_the_first_error() -> None:
    scripts = [step for step in _steps(ACTION) if "run" in step]
    assert len(scripts) == 2
    for step in scripts:
        assert step["shell"] == "bash"
        assert step["run"].startswith("set -euo pipefail\n")


@everything
def test_a_checkout_keeps_no_credentials(path: Path) -> None:
    for step in _steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", [RELEASE, TEMPLATE], ids=_name)
def test_permissions_are_the_least(path: Path) -> None:
    read = _load(path)
    assert read["permissions"] == {}
    [job] = read["jobs"].values()
    assert job["permissions"] == {"contents": "read", "id-token": "write"}


def test_releases_of_one_target_wait_for_each_other() -> None:
    job = _load(RELEASE)["jobs"]["release"]
    group = "protect-release-${{ inputs.target }}"
    assert job["concurrency"] == {"group": group, "cancel-in-progress": False}
    assert "concurrency" not in _load(TEMPLATE)["jobs"]["release"], "the two would wait for ever"


def test_called_and_started_by_hand_it_takes_the_same() -> None:
    on = _load(RELEASE)["on"]
    assert on["workflow_call"]["inputs"] == on["workflow_dispatch"]["inputs"]
    assert set(on) == {"workflow_call", "workflow_dispatch"}


def test_a_job_ends_before_github_ends_it() -> None:
    job, inputs = _load(RELEASE)["jobs"]["release"], _load(RELEASE)["on"]["workflow_call"]["inputs"]
    assert job["timeout-minutes"] == "${{ inputs.timeout-minutes }}"
    assert inputs["timeout-minutes"]["default"] < 360


def test_the_workflow_gives_the_action_every_input() -> None:
    [step] = _load(RELEASE)["jobs"]["release"]["steps"]
    assert step["uses"] == "$/.github/actions/protect-release"
    inputs = _load(RELEASE)["on"]["workflow_call"]["inputs"].keys() - OF_THE_JOB
    given = {name: f"${{{{ inputs.{name} }}}}" for name in inputs}
    given |= {name: f"${{{{ secrets.{secret} }}}}" for secret, name in SECRETS.items()}
    assert step["with"] == given
    assert given.keys() == _load(ACTION)["inputs"].keys()


def test_the_workflow_and_the_action_require_the_same() -> None:
    call, action = _load(RELEASE)["on"]["workflow_call"], _load(ACTION)["inputs"]
    for name, declared in call["inputs"].items():
        if name not in OF_THE_JOB:
            assert declared.get("required", False) == action[name].get("required", False)
            assert str(declared.get("default", "")).lower() == action[name].get("default", "")
    for secret, name in SECRETS.items():
        assert call["secrets"][secret]["required"] == action[name].get("required", False)
    assert call["secrets"].keys() == SECRETS.keys()


def test_outputs_are_handed_on() -> None:
    release, action = _load(RELEASE), _load(ACTION)
    names = list(action["outputs"])
    assert names == ["changed", "release", "url"]
    job = release["jobs"]["release"]["outputs"]
    assert job == {name: f"${{{{ steps.release.outputs.{name} }}}}" for name in names}
    called = release["on"]["workflow_call"]["outputs"]
    assert {name: output["value"] for name, output in called.items()} == {
        name: f"${{{{ jobs.release.outputs.{name} }}}}" for name in names
    }


def test_every_input_of_the_action_is_used() -> None:
    text = ACTION.read_text()
    used = set(re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", text))
    assert used == _load(ACTION)["inputs"].keys()


def test_the_options_of_the_action_exist(run: Run) -> None:
    offered = run("push", "--help").stdout
    [script] = [step["run"] for step in _steps(ACTION) if step.get("id") == "push"]
    options = set(re.findall(r"--[a-z-]+", script))
    assert {"--to", "--workdir", "--create-pr"} <= options
    assert not [option for option in options if not re.search(rf"{option}\b", offered)]


def test_the_template_calls_the_workflow_as_it_is() -> None:
    [job] = _load(TEMPLATE)["jobs"].values()
    path = job["uses"].removeprefix("OWNER/protect-release/").partition("@")[0]
    assert ROOT / path == RELEASE
    call = _load(RELEASE)["on"]["workflow_call"]
    required = {name for name, declared in call["inputs"].items() if declared.get("required")}
    assert required <= job["with"].keys() <= call["inputs"].keys()
    assert job["secrets"].keys() <= call["secrets"].keys()
    assert job["secrets"] == {name: f"${{{{ secrets.{name} }}}}" for name in job["secrets"]}


def test_the_monthly_verification_is_a_command_that_exists(run: Run) -> None:
    step = next(
        step for step in _steps(VERIFYING) if step.get("run", "").startswith("protect-release")
    )
    words = step["run"].split()
    assert words[:2] == ["protect-release", "verify"]
    offered = run("verify", "--help").stdout
    for option in (word for word in words if word.startswith("--")):
        assert option in offered
    assert "--publish" in words
    folders = {name for name, value in step["env"].items() if "runner.temp" in value}
    assert folders == {"HF_HOME", "XDG_CACHE_HOME"}
    assert set(step["env"]) - folders == {"HF_TOKEN", "PROTECT_RELEASE_SOURCE_TOKEN"}
    [install] = [step for step in _steps(VERIFYING) if "pip install" in step.get("run", "")]
    assert "--constraint" in install["run"]


@pytest.mark.parametrize("template", [TEMPLATE, VERIFYING], ids=_name)
def test_the_templates_run_off_the_hour(template: Path) -> None:
    on = _load(template)["on"]
    assert set(on) == {"schedule", "workflow_dispatch"}
    [schedule] = on["schedule"]
    assert int(schedule["cron"].split()[0]) % 15


def test_the_page_shows_the_template_and_names_its_secrets() -> None:
    page = (ROOT / "docs/scheduled-release.md").read_text()
    assert "(templates/protect-release.yml)" in page
    names = _load(RELEASE)["on"]["workflow_call"]
    for name in (*names["secrets"], *(set(names["inputs"]) - {"method"})):
        assert f"`{name}`" in page, name
