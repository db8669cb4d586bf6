"""Whom the classes are taken for whose images were pulled towards chosen ones: Self-Ensemble
Protection, Figures 2b and 2c.

    python -m benchmarks.class_maps SOURCE [--method sep-fa-mi] [--rows 5000] [--workdir WORKDIR]

First the second half of the classes is protected, each pulled towards one of the first half; then
all but the first, pulled towards the first. A vgg-w16 learns from each, and what it takes clean
test images for goes to benchmarks/results/class_maps.json and docs/ablation.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import ablation_page, record, unpublished

VICTIM, BUDGET = "vgg-w16", "linf:8"


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset with a test split.")],
    method: Annotated[str, typer.Option(help="One that pulls towards classes.")] = "sep-fa-mi",
    rows: Annotated[int, typer.Option(help="Train rows.")] = 5000,
    classes: Annotated[int, typer.Option(help="How many there are.")] = 10,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder).resolve()
        found = [learnt(method, source, place, rows, towards) for towards in maps(classes)]
    shape = {"source": Path(source).name, "rows": rows, "method": method, "budget": BUDGET}
    print(record.write("class_maps", shape | {"victim": VICTIM, "preset": "quick", "maps": found}))
    ablation_page.main()


def maps(classes: int) -> list[dict[int, int]]:
    """The class that each protected class is pulled towards, in both experiments."""
    half = classes // 2
    return [{y: y - half for y in range(half, 2 * half)}, dict.fromkeys(range(1, classes), 0)]


def learnt(
    method: str, source: str, place: Path, rows: int, towards: Mapping[int, int]
) -> dict[str, Any]:
    """What the victim came to, on clean rows and on these."""
    options = (
        *("--victim", VICTIM, "--protect-classes", ",".join(map(str, towards))),
        *("--target-map", ",".join(f"{y}:{to}" for y, to in towards.items())),
    )
    report = unpublished.report(
        source, place, method=method, budget=BUDGET, rows=rows, options=options
    )
    trainings = {training["spec"]["data"]: training for training in report["trainings"]}
    return {"towards": {str(y): to for y, to in towards.items()}} | {
        data: trainings[data]["confusion"] for data in ("clean", "protected")
    }


if __name__ == "__main__":
    typer.run(main)
