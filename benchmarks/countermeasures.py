"""What gives back the accuracy that protection takes: every countermeasure against every method.

    python -m benchmarks.countermeasures SOURCE [--rows 5000] [--method sep-fa-mi ...] [--seeds 3]

Each method protects the same rows within linf:8 (`quick` preset). First vgg-w16 is trained once
under every countermeasure, then both small victims from three seeds under the six that matter
most. All methods share one WORKDIR, so that clean twins are trained once; what is finished is
kept there, and what was measured in benchmarks/results/countermeasures.json, from which
docs/verification.md is written after each method.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import record
from benchmarks.verification_page import page

METHODS = ("sep-fa-mi", "sep-fa-vr", "tap", "random-noise")
CHANGES = (
    *("none", "cutout", "cutmix", "mixup", "gaussian-smoothing"),
    *("gaussian-smoothing:sigma=0.8,kernel=3", "mean-filter", "median-filter", "random-noise"),
    *("jpeg", "jpeg:quality=50", "jpeg:quality=90", "grayscale", "bit-depth", "ueraser-lite"),
    *("ueraser-max", "at-linf:steps=3", "at-l2:steps=3", "dpsgd", "deconv-at:steps=3"),
    *("refit-head", "renamed", "dfr", "early-stop", "ortho-proj", "trimmed-loss", "abl", "dpa"),
    *("simclr", "knn", "relabel", "mix-percent:share=50", "mix-percent", "class-wise"),
    *("noise-swap", "noise-swap:between=other-class"),
)
RADII = tuple(f"at-linf:radius={radius},steps=3" for radius in ("1.0", "2.0", "8.0"))
"""Beside `at-linf:steps=3`, whose radius is 4 grey levels."""
OFTEN = ("none", "cutmix", "jpeg", "grayscale", "ueraser-lite", "at-linf:steps=3")
DOCS = Path(__file__).parents[1] / "docs/verification.md"
Figures = dict[str, Any]


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset with a test split.")],
    rows: Annotated[int, typer.Option(help="Train rows.")] = 5000,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; repeat.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings under the six; 0 leaves them out.")] = 3,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder).resolve()
        for name in method or METHODS:
            once = _trials(name, source, place, rows, ("vgg-w16",), 1, (*CHANGES, *RADII))
            _keep(source, rows, name, once)
        if seeds:
            for name in method or METHODS:
                both = ("vgg-w16", "resnet10-w16")
                _keep(source, rows, name, _trials(name, source, place, rows, both, seeds, OFTEN))


def _trials(
    method: str,
    source: str,
    place: Path,
    rows: int,
    victims: Iterable[str],
    seeds: int,
    countermeasures: Iterable[str],
) -> list[Figures]:
    """The trials of a release by this method."""
    repeated = [("--victim", name) for name in victims]
    repeated += [("--countermeasure", text) for text in countermeasures]
    print(f"{method}, {seeds} seeds ...", file=sys.stderr)
    subprocess.run(
        [
            *(sys.executable, "-m", "release", "push", source, "--to", str(place / method)),
            *("--workdir", str(place / "work"), "--method", method, "--budget", "linf:8"),
            *("--rows", str(rows), "--seed", "0", "--preset", "quick", "--max-accuracy", "1"),
            *("--victim-seeds", str(seeds), *(word for pair in repeated for word in pair)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    report = json.loads((place / "work/report/report.json").read_text())
    trials: list[Figures] = report["trials"]
    return trials


_KEPT = ("victim", "countermeasure", "seed", "clean", "protected", "peak", "renamed")


def _keep(source: str, rows: int, method: str, trials: list[Figures]) -> None:
    """What was measured is in the results, beside what was there, and on the page."""
    path = record.RESULTS / "countermeasures.json"
    before = json.loads(path.read_text())["trials"] if path.exists() else []
    found = {_key(trial): trial for trial in before}
    for trial in trials:
        made = {"method": method} | {name: trial[name] for name in _KEPT}
        found[_key(made)] = made
    shape = {"source": Path(source).name, "rows": rows, "budget": "linf:8", "preset": "quick"}
    ordered = sorted(found.values(), key=_key)
    record.write("countermeasures", shape | {"trials": ordered})
    DOCS.write_text(page(json.loads(path.read_text()), METHODS, (*CHANGES, *RADII)))


def _key(trial: Figures) -> tuple[int, str, str, int]:
    return (
        METHODS.index(trial["method"]),
        trial["victim"],
        trial["countermeasure"],
        trial["seed"],
    )


if __name__ == "__main__":
    typer.run(main)
