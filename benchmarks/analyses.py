"""What every analysis finds of releases: how alike gradients of nets are, how well noise alone
gives classes away, what victims come to know epoch by epoch.

    python -m benchmarks.analyses SOURCE [--method sep-fa-mi ...] [--rows 5000] [--workdir WORKDIR]

Each method protects the same rows within its own budget (`quick` preset, seed 0). What is found
goes to benchmarks/results/analyses.json, beside what was found of other methods on the same rows,
and to docs/analyses.md. Resumable: --workdir keeps what is finished.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import record
from benchmarks.potency_results import markdown
from benchmarks.potency_work import digest_of
from crafting.registry import registration

PAGE = Path(__file__).parents[1] / "docs/analyses.md"
METHODS = ("sep-fa-mi",)
Results = dict[str, Any]


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset with a test split.")],
    method: Annotated[list[str] | None, typer.Option(help="To release rows by; repeat.")] = None,
    rows: Annotated[int, typer.Option(help="Train rows.")] = 5000,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder).resolve()
        shape = {"source": Path(source).name, "rows": rows}
        releases = kept(results(), shape)
        for name in method or METHODS:
            releases[name] = measured(source, place, name, rows)
            print(record.write("analyses", shape | {"releases": releases}))
    PAGE.write_text(page(results()))


def results(folder: Path = record.RESULTS) -> Results | None:
    """What was found so far, if anything."""
    path = folder / "analyses.json"
    return json.loads(path.read_text()) if path.exists() else None


def kept(found: Results | None, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The releases of the same rows."""
    same = found is not None and all(found[name] == value for name, value in shape.items())
    return dict(found["releases"]) if found is not None and same else {}


def measured(source: str, place: Path, method: str, rows: int) -> dict[str, Any]:
    """What all analyses find of `rows` rows of SOURCE by this method, and within which budget."""
    budget = str(registration(method).quick.budget)
    name = f"{method}-{digest_of(source, rows)}"
    target, verified = place / f"{name}-released", place / f"{name}-verified"
    made = ("--to", target, "--workdir", place / "work", "--rows", rows, "--seed", 0)
    how = ("--method", method, "--budget", budget, "--preset", "quick", "--no-verify")
    if not target.exists():
        _run(place, "push", source, *made, *how)
    asked = ("--countermeasure", "none", "--analysis", "all", "--preset", "quick")
    looked_at = ("--clean", source, "--workdir", verified, "--max-accuracy", 1)
    _run(place, "verify", target, *looked_at, *asked)
    report = json.loads((verified / "report/report.json").read_text())
    return {"budget": budget, "findings": report["analyses"]}


def _run(place: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "release", *map(str, arguments)]
    # Keys and state lie beside the releases that they are of, not among those a person keeps.
    environment = os.environ | {"XDG_DATA_HOME": str(place / "data")}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def names(found: Results | None) -> set[str]:
    """The analyses that were made."""
    releases = [] if found is None else found["releases"].values()
    return {one["analysis"] for release in releases for one in release["findings"]}


def page(found: Results | None) -> str:
    """The page, in Markdown."""
    if found is None:
        return _TEXT.format(about="Not measured yet.\n", releases="")
    hardware = "{cores} cores of {processor}".format_map(found["measured_on"])
    about = f"`quick` preset, {found['rows']:,} rows of {found['source']}, seed 0, on {hardware}.\n"
    return _TEXT.format(about=about, releases="".join(_sections(found["releases"].items())))


def _sections(releases: Iterable[tuple[str, dict[str, Any]]]) -> Iterable[str]:
    for method, release in releases:
        lines = [[f"`{one['analysis']}`", one["sentence"]] for one in release["findings"]]
        yield f"\n## {method}, within {release['budget']}\n\n"
        yield markdown(("analysis", "what it found"), lines) + "\n"


_TEXT = """# What analyses find

`protect-release verify RELEASE --clean SOURCE --analysis all` asks more of a release than what
victims learn from it. Here every analysis was asked of releases made for it. `protect-release
analyses NAME` says what the parameters of one mean and which figure of which paper it follows.
Written by `python -m benchmarks.analyses SOURCE`; the figures behind the sentences lie in
benchmarks/results/analyses.json.

{about}{releases}"""


if __name__ == "__main__":
    typer.run(main)
