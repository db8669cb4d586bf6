"""Tells a job what a push came to: its summary, its outputs, and one line where it failed.

    summarise.py TARGET CODE FOLDER

CODE is the exit code of `protect-release push --json`. FOLDER holds result.json (its stdout),
said.txt (its stderr) and release/, its WORKDIR. Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

GATE_MISSED = 3
COLUMNS = {
    "victim": "victim",
    "rows": "rows",
    "countermeasure": "countermeasure",
    "seed": "seed",
    "clean": "clean twin",
    "protected": "final",
    "peak": "peak",
    "renamed": "renamed",
}
SHARES = ("clean", "protected", "peak", "renamed")


def main(target: str, code: int, folder: Path) -> None:
    """The files named by GITHUB_OUTPUT and GITHUB_STEP_SUMMARY have what this push came to."""
    result = read_result(folder / "result.json")
    said = last_words(folder / "said.txt") if code else ""
    report = folder / "release/report"
    has_report = bool(result.get("trials")) and (report / "report.json").is_file()
    artifact = re.sub(r"[^\w.-]", "-", f"protect-release-{target}")
    outputs = {
        "changed": "true" if result.get("changed") else "false",
        "release": result.get("release") if result.get("changed") else "",
        "url": result.get("published") or "",
        "report": report if has_report else "",
        "artifact": artifact,
    }
    lines = [f"## {plain(headline(target, code, result))}", "", *story(result, said)]
    if has_report:
        lines += ["", f"The report is the artifact `{artifact}`."]
    append("GITHUB_OUTPUT", [f"{name}={one_line(value)}" for name, value in outputs.items()])
    append("GITHUB_STEP_SUMMARY", lines)
    if code:
        print(f"::error title=protect-release::{in_a_command(said or headline(target, code, {}))}")


def read_result(file: Path) -> dict[str, Any]:
    """The object that push printed; an empty one where it printed none."""
    try:
        result = json.loads(file.read_text())
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def last_words(file: Path) -> str:
    """The error that push ended with, or else the last line it said."""
    lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")


def headline(target: str, code: int, result: dict[str, Any]) -> str:
    """What happened, in a few words."""
    if code == GATE_MISSED:
        return f"{target}: the release does not hold, and was not published"
    if code:
        return f"{target}: the push failed with exit code {code}"
    if not result.get("changed"):
        return f"{target}: nothing new"
    return f"{target}: {result['release']}"


def story(result: dict[str, Any], said: str) -> list[str]:
    """The error or the sentence, the trials as a table, and where to look."""
    lines = [plain(said or result.get("sentence") or "Every row of the source is published.")]
    if result.get("trials"):
        lines += ["", row(COLUMNS.values()), row("---" for _ in COLUMNS)]
        lines += [row(plain(cell(trial, name)) for name in COLUMNS) for trial in result["trials"]]
    if result.get("published"):
        lines += ["", f"[Look at it]({one_line(result['published'])})"]
    return lines


def cell(trial: dict[str, Any], name: str) -> str:
    """One value of a trial, accuracies in percent."""
    value = trial.get(name)
    if value is None:
        return ""
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value}, held out" if name == "victim" and trial.get("held_out") else str(value)


def row(cells: Any) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", one_line(text))


def in_a_command(text: str) -> str:
    """Text that a workflow command carries as it is."""
    return one_line(text).replace("%", "%25")


def append(variable: str, lines: list[str]) -> None:
    """The file that an environment variable names ends with these lines."""
    with open(os.environ[variable], "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
