"""What the action makes of each way in which `protect-release push` can end.

The command itself is a stand-in here, so that every ending is there; test_scheduled_release.py has
the real one.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from github_job import ROOT, Job

SECRETS = {
    "key": "a key of the state, 32 letters",
    "source_token": "hf_source",
    "state_token": "hf_state",
}
PUSH = {"source": "org/flowers", "target": "org/flowers-protected"} | SECRETS
URL = "https://hub.example/datasets/org/flowers-protected/commit/abc"
TRIAL = {
    "victim": "resnet10-w16",
    "held_out": True,
    "countermeasure": "none",
    "rows": "release",
    "seed": 0,
    "clean": 0.668,
    "protected": 0.166,
    "peak": 0.45,
    "renamed": None,
}
PUBLISHED = {
    "changed": True,
    "release": "r0002",
    "published": URL,
    "sentence": f"{URL}: r0002, 40 rows by alignment-online, holds",
    "trials": [TRIAL],
}
MISSED = {
    "changed": False,
    "release": "r0002",
    "published": None,
    "sentence": "nothing was published: it missed its gate",
    "trials": [TRIAL],
}
_STAND_IN = """#!/bin/sh
exec {python} - "$@" <<'END'
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
seen = {{"arguments": arguments, "env": dict(os.environ)}}
Path(os.environ["RUNNER_TEMP"], "seen.json").write_text(json.dumps(seen))
report = Path(arguments[arguments.index("--workdir") + 1], "report")
if {report}:
    report.mkdir(parents=True)
    (report / "report.json").write_text("the report")
print({stderr!r}, file=sys.stderr)
print({stdout!r}, end="")
sys.exit({code})
END
"""


@dataclass(frozen=True)
class StandIn:
    """`protect-release` as a script that ends as it is told, and keeps how it was called."""

    job: Job

    def ends(
        self, result: Any = None, code: int = 0, stderr: str = "reading", stdout: str = ""
    ) -> Job:
        """The command prints the result (or stdout) and stderr, and exits with the code."""
        printed = stdout if result is None else json.dumps(result)
        script = self.job.programs / "protect-release"
        script.write_text(
            _STAND_IN.format(
                python=shlex.quote(sys.executable),
                report=bool(result and result.get("trials")),
                stdout=printed,
                stderr=stderr,
                code=code,
            )
        )
        script.chmod(0o700)
        return self.job

    def seen(self) -> dict[str, Any]:
        """arguments and env of the call."""
        return json.loads((self.job.temporary / "seen.json").read_text())


@pytest.fixture
def push(job: Job) -> StandIn:
    return StandIn(job)


def test_a_release_is_told_in_outputs_and_summary(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(**PUSH)
    assert job.code == 0, job.said
    assert job.outputs == {"changed": "true", "release": "r0002", "url": URL}
    assert "## org/flowers-protected: r0002" in job.summary
    assert "40 rows by alignment-online, holds" in job.summary
    assert (
        "| resnet10-w16, held out | release | none | 0 | 66.8 % | 16.6 % | 45.0 % |  |"
        in job.summary
    )
    assert f"[Look at it]({URL})" in job.summary
    assert "reading" in job.said
    assert "::error" not in job.said


def test_the_report_goes_up_as_an_artifact(push: StandIn) -> None:
    [artifact] = push.ends(PUBLISHED).run(**PUSH).artifacts
    assert artifact["name"] == "protect-release-org-flowers-protected"
    assert (Path(artifact["path"]) / "report.json").read_text() == "the report"


def test_nothing_new_is_a_success_without_artifact(push: StandIn) -> None:
    job = push.ends({"changed": False}).run(**PUSH)
    assert job.code == 0, job.said
    assert job.outputs == {"changed": "false", "release": "", "url": ""}
    assert "org/flowers-protected: nothing new" in job.summary
    assert not job.artifacts


def test_a_missed_gate_fails_the_job_and_keeps_the_report(push: StandIn) -> None:
    why = "error: resnet10-w16 reaches 41.0 %, more than the 33.0 % allowed"
    job = push.ends(MISSED, code=3, stderr=f"fit\n{why}").run(**PUSH)
    assert job.code == 3
    assert job.outputs == {"changed": "false", "release": "", "url": ""}
    assert "the release does not hold, and was not published" in job.summary
    assert "more than the 33.0 % allowed" in job.summary
    assert "| 16.6 % |" in job.summary
    assert "::error title=protect-release::resnet10-w16 reaches 41.0 %25, more" in job.said
    assert [artifact["overwrite"] for artifact in job.artifacts] == ["True"]


@pytest.mark.parametrize("stdout", ["", "{half an obj", "[]"])
def test_a_crash_fails_the_job_with_its_last_words(push: StandIn, stdout: str) -> None:
    last = "Traceback (most recent call last):\n  ...\nRuntimeError: *out* of | memory\n"
    job = push.ends(code=1, stderr=last, stdout=stdout).run(**PUSH)
    assert job.code == 1
    assert job.outputs == {"changed": "false", "release": "", "url": ""}
    assert "the push failed with exit code 1" in job.summary
    assert r"RuntimeError: \*out\* of \| memory" in job.summary
    assert "::error title=protect-release::RuntimeError: *out* of | memory" in job.said
    assert not job.artifacts


def test_a_command_that_is_killed_fails_the_job(push: StandIn) -> None:
    job = push.ends(code=137, stderr="").run(**PUSH)
    assert job.code == 137
    assert "exit code 137" in job.summary
    assert "exit code 137" in job.said


def test_tokens_reach_the_command_apart_and_no_log(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(**PUSH)
    env = push.seen()["env"]
    assert env["PROTECT_RELEASE_SOURCE_TOKEN"] == "hf_source"
    assert env["PROTECT_RELEASE_STATE_TOKEN"] == "hf_state"
    assert env["PROTECT_RELEASE_KEY"] == SECRETS["key"]
    told = job.said + job.summary + json.dumps(push.seen()["arguments"])
    assert not [secret for secret in SECRETS.values() if secret in told]


def test_without_hf_token_the_job_logs_in_as_a_trusted_publisher(push: StandIn) -> None:
    push.ends(PUBLISHED).run(**PUSH)
    env = push.seen()["env"]
    assert env["HF_OIDC_RESOURCE"] == "datasets/org/flowers-protected"
    assert "HF_TOKEN" not in env


def test_with_hf_token_it_does_not(push: StandIn) -> None:
    push.job.env["HF_OIDC_RESOURCE"] = "datasets/org/other"
    push.ends(PUBLISHED).run(**PUSH | {"source_token": "", "state_token": ""}, hf_token="hf_all")
    env = push.seen()["env"]
    assert env["HF_TOKEN"] == "hf_all"
    absent = {"HF_OIDC_RESOURCE", "PROTECT_RELEASE_SOURCE_TOKEN", "PROTECT_RELEASE_STATE_TOKEN"}
    assert not absent & set(env)


def test_without_a_key_nothing_is_started(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(**PUSH | {"key": ""})
    assert job.code == 2
    assert "set the secret PROTECT_RELEASE_KEY" in job.said
    assert not (job.temporary / "seen.json").exists()


def test_what_is_read_lies_in_the_folder_that_github_empties(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(**PUSH)
    arguments, env = push.seen()["arguments"], push.seen()["env"]
    workdir = arguments[arguments.index("--workdir") + 1]
    assert Path(workdir).is_relative_to(job.temporary)
    assert Path(env["HF_HOME"]).is_relative_to(job.temporary)


def test_inputs_that_are_left_out_are_no_options(push: StandIn) -> None:
    push.ends(PUBLISHED).run(**PUSH)
    command, source, *options = push.seen()["arguments"]
    assert (command, source) == ("push", "org/flowers")
    assert [option for option in options if option.startswith("--")] == [
        "--to",
        "--workdir",
        "--json",
    ]


def test_inputs_become_options_whatever_is_in_them(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(
        **PUSH | {"source": "org/a b'$(touch here)\"`touch here`"},
        state="org/state",
        method="tap",
        incremental_method="sep-fa-mi",
        max_accuracy="0.3",
        workers="4",
        create_pr="true",
        source_is_public="true",
        arguments="--split=train 1\n\n--keep-column=*\n",
    )
    _, source, *options = push.seen()["arguments"]
    assert source == "org/a b'$(touch here)\"`touch here`"
    expected = "--json --state org/state --method tap --incremental-method sep-fa-mi"
    expected += " --max-accuracy 0.3 --workers 4 --create-pr --source-is-public"
    assert options[4:] == [*expected.split(), "--split=train 1", "--keep-column=*"]
    assert not list((job.folder / "workspace").iterdir())


def test_the_tool_that_is_installed_is_that_of_the_action(push: StandIn) -> None:
    job = push.ends(PUBLISHED).run(**PUSH)
    assert str(ROOT) in job.installed
    assert job.installed[-2:] == ["--constraint", str(ROOT / "constraints.txt")]
