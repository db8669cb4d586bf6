"""A composite action run as GitHub runs it: each `run` step by bash, with files for its outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXPRESSION = re.compile(r"\$\{\{ ([\w.-]+) \}\}")
"""The only kind of expression that the action may use: the value of a name."""

_PYTHON = f"""#!/bin/sh
if [ "$2" = pip ]; then printf '%s\\n' "$@" >> "$RUNNER_TEMP/installed"; exit; fi
exec {sys.executable} "$@"
"""


@dataclass
class Job:
    """A job with one step, a composite action; nothing is installed, and `python` is this one.

    code: of the step that failed, else 0. said: everything it printed. outputs and summary as the
    workflow and people see them. artifacts: the inputs of each upload.
    """

    action: Path
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    code: int = 0
    said: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, str]] = field(default_factory=list)

    @property
    def programs(self) -> Path:
        """The folder that programs are looked for in first."""
        return _made(self.folder / "programs")

    @property
    def temporary(self) -> Path:
        return _made(self.folder / "temp")

    @property
    def summary(self) -> str:
        return (self.temporary / "summary").read_text()

    @property
    def installed(self) -> list[str]:
        """What pip was asked."""
        return (self.temporary / "installed").read_text().splitlines()

    def run(self, **inputs: str) -> Job:
        """The action ran with these inputs (underscores for hyphens) and the others' defaults."""
        self.code, self.said, self.artifacts = 0, "", []
        python = self.programs / "python"
        python.write_text(_PYTHON)
        python.chmod(0o700)
        (self.temporary / "summary").write_text("")
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        action = yaml.safe_load(self.action.read_text())
        assert given.keys() <= action["inputs"].keys()
        known = {
            f"inputs.{name}": given.get(name, d.get("default", "")) for name, d in _inputs(action)
        }
        for step in action["runs"]["steps"]:
            self._step(step, known)
        self.outputs = {name: _value(o["value"], known) for name, o in action["outputs"].items()}
        return self

    def _step(self, step: dict[str, Any], known: dict[str, str]) -> None:
        if "run" in step and not self.code:
            self._bash(step, known)
        elif "upload-artifact" in step.get("uses", ""):
            condition, asked = step["if"].split(" && ")
            name, nothing = asked.split(" != ")
            assert (condition, nothing) == ("always()", "''")
            if known.get(name):
                values = {key: str(value) for key, value in step["with"].items()}
                self.artifacts.append({key: _value(text, known) for key, text in values.items()})

    def _bash(self, step: dict[str, Any], known: dict[str, str]) -> None:
        script, outputs = self.temporary / "script.sh", self.temporary / "outputs"
        script.write_text(step["run"])
        outputs.write_text("")
        env = self._environment() | {
            name: _value(text, known) for name, text in step.get("env", {}).items()
        }
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=_made(self.folder / "workspace"),
            env=env | {"GITHUB_OUTPUT": str(outputs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.code, self.said = ran.returncode, self.said + ran.stdout
        for line in outputs.read_text().splitlines():
            name, _, value = line.partition("=")
            known[f"steps.{step['id']}.outputs.{name}"] = value

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(_made(self.folder / "home")),
            "RUNNER_TEMP": str(self.temporary),
            "GITHUB_STEP_SUMMARY": str(self.temporary / "summary"),
            "GITHUB_ACTION_PATH": str(self.action.parent),
            "GITHUB_ACTIONS": "true",
        } | self.env


def _inputs(action: dict[str, Any]) -> Any:
    return action["inputs"].items()


def _value(text: str, known: dict[str, str]) -> str:
    """The text with its expressions evaluated; an output that no step set is empty."""
    assert text.count("${{") == len(EXPRESSION.findall(text)), text

    def look_up(found: re.Match[str]) -> str:
        return known.get(found[1], "") if found[1].startswith("steps.") else known[found[1]]

    return EXPRESSION.sub(look_up, text)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
