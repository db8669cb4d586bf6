"""What gives back the accuracy that protection takes: every countermeasure against every method.

    python -m benchmarks.countermeasures SOURCE [--rows 5000] [--method sep-fa-mi ...] [--seeds 3]

Each method protects the same rows within linf:8 (`quick` preset), a mixture also in one pixel.
First vgg-w16 is trained once under every countermeasure, part by part; then both small victims
from three seeds under the six that matter most. What was measured is kept in
benchmarks/results/countermeasures.json after each part, from which docs/verification.md is
written, and is not measured again unless a method's budget has changed; results of other rows are
never written over. WORKDIR keeps what is finished within a part, and all methods share it, so that
clean twins are trained once.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import record, unpublished
from benchmarks.verification_page import page

BUDGETS = dict.fromkeys(("sep-fa-mi", "sep-fa-vr", "tap", "random-noise"), "linf:8")
MIXTURE = "sep-fa-mi+ops"
BUDGETS[MIXTURE] = "linf:8+l0:1"
"""The methods, and within which budget each stays."""
OFTEN = ("none", "cutmix", "jpeg", "grayscale", "ueraser-lite", "at-linf:steps=3")
PARTS = (
    OFTEN,
    (
        *("cutout", "mixup", "gaussian-smoothing", "gaussian-smoothing:sigma=0.8,kernel=3"),
        *("mean-filter", "median-filter", "random-noise", "bit-depth"),
        *("jpeg:quality=50", "jpeg:quality=90"),
    ),
    (
        *("refit-head", "renamed", "dfr", "early-stop", "knn"),
        *("ortho-proj", "trimmed-loss", "abl", "dpa", "dpsgd"),
    ),
    # Beside `at-linf:steps=3`, whose radius is 4 grey levels.
    (
        *("at-linf:radius=8.0,steps=3", "at-linf:radius=2.0,steps=3"),
        *("at-linf:radius=1.0,steps=3", "at-l2:steps=3"),
    ),
    (
        *("simclr", "relabel", "mix-percent:share=50.0", "mix-percent", "class-wise"),
        *("noise-swap", "noise-swap:between=other-class"),
    ),
    ("ueraser-max", "deconv-at:steps=3"),
)
"""What is tried once, in the order of what it tells."""
CHANGES = tuple(name for part in PARTS for name in part)
OF_MIXTURE = (
    *("none", "renamed", "refit-head"),
    *(name for name in CHANGES if name.startswith(("at-linf", "at-l2"))),
)
"""What the mixture meets: it is there for the pixel that training against perturbations is known
not to undo, and that teaches nothing which new names for the classes could save."""
ASKED = {name: OF_MIXTURE if name == MIXTURE else CHANGES for name in BUDGETS}
DOCS = Path(__file__).parents[1] / "docs/verification.md"
Figures = dict[str, Any]


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset with a test split.")],
    rows: Annotated[int, typer.Option(help="Train rows.")] = 5000,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; repeat.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings under the six; 0 leaves them out.")] = 3,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    names = tuple(method or BUDGETS)
    small = ("vgg-w16",)
    asked: list[tuple[str, Sequence[str], int, Sequence[str]]] = [
        (name, small, 1, [one for one in part if one in ASKED[name]])
        for part in PARTS
        for name in names
    ]
    if seeds:
        both = (*small, "resnet10-w16")
        asked += [(name, both, seeds, OFTEN) for name in names if name != MIXTURE]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder).resolve()
        for name, victims, times, part in asked:
            wanted = _missing(_before(source, rows), name, victims, times, part)
            if wanted:
                # Plain training is what the gate judges; in one WORKDIR it is made once.
                tried = dict.fromkeys(("none", *wanted))
                trials = _trials(name, source, place, rows, victims, times, tried)
                _keep(source, rows, name, trials)


def _missing(
    kept: Iterable[Figures], method: str, victims: Sequence[str], seeds: int, part: Sequence[str]
) -> list[str]:
    """Those countermeasures that some victim did not yet meet from some seed."""
    found = {_key(trial) for trial in kept}
    return [
        name
        for name in part
        if not all(
            _key({"method": method, "victim": victim, "countermeasure": name, "seed": seed})
            in found
            for victim in victims
            for seed in range(seeds)
        )
    ]


def _trials(
    method: str,
    source: str,
    place: Path,
    rows: int,
    victims: Iterable[str],
    seeds: int,
    countermeasures: Iterable[str],
) -> list[Figures]:
    """The trials of an unpublished release by this method."""
    repeated = [("--victim", name) for name in victims]
    repeated += [("--countermeasure", text) for text in countermeasures]
    print(f"{method}, {seeds} seeds ...", file=sys.stderr)
    options = ("--victim-seeds", str(seeds), *(word for pair in repeated for word in pair))
    report = unpublished.report(
        source, place, method=method, budget=BUDGETS[method], rows=rows, options=options
    )
    trials: list[Figures] = report["trials"]
    return trials


_KEPT = ("victim", "countermeasure", "seed", "clean", "protected", "peak", "renamed")
_RESULTS = record.RESULTS / "countermeasures.json"


def _shape(source: str, rows: int) -> Figures:
    return {"source": Path(source).name, "rows": rows, "budgets": BUDGETS, "preset": "quick"}


def results_so_far() -> Figures:
    """What earlier runs left."""
    found: Figures = json.loads(_RESULTS.read_text())
    return found


def _before(source: str, rows: int) -> list[Figures]:
    """The trials of earlier runs by methods within the budgets that they still have. BadParameter
    where they are of other rows."""
    if not _RESULTS.exists():
        return []
    before, shape = results_so_far(), _shape(source, rows)
    if any(before[name] != shape[name] for name in ("source", "rows", "preset")):
        raise typer.BadParameter(
            f"{_RESULTS} holds what {before['rows']} rows of {before['source']} came to: ask for "
            "these, or move it away"
        )
    kept = {name for name, budget in BUDGETS.items() if before["budgets"].get(name) == budget}
    return [trial for trial in before["trials"] if trial["method"] in kept]


def _keep(source: str, rows: int, method: str, trials: list[Figures]) -> None:
    """What was measured is in the results, beside what was there, and on the page."""
    found = {_key(trial): trial for trial in _before(source, rows)}
    for trial in trials:
        made = {"method": method} | {name: trial[name] for name in _KEPT}
        found[_key(made)] = made
    ordered = sorted(found.values(), key=_key)
    record.write("countermeasures", _shape(source, rows) | {"trials": ordered})
    DOCS.write_text(page(results_so_far(), ASKED))


def _key(trial: Figures) -> tuple[int, str, str, int]:
    return (
        list(BUDGETS).index(trial["method"]),
        trial["victim"],
        trial["countermeasure"],
        trial["seed"],
    )


if __name__ == "__main__":
    typer.run(main)
