"""What each part of the self-ensemble methods brings, at an equal number of gradient passes.

    python -m benchmarks.ablation SOURCE [--rows 5000] [--seed 0]

One surrogate and one pair of clean twins serve all rows of the table. Prints the table, writes
benchmarks/results/ablation.json and docs/ablation.md. Resumable: --workdir keeps what is finished.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import record

PASSES = 90
METHODS: dict[str, tuple[str, ...]] = {
    "sep-fa-mi": (f"steps={PASSES}", "step_levels=1"),
    "sep-fa-mi, 15 passes": (),
    "sep-fa-vr": ("checkpoints=5", "steps=10", "inner_steps=5"),
    "sep-fa": ("checkpoints=5", f"steps={PASSES // 5}"),
    "sep": ("checkpoints=5", f"steps={PASSES // 5}"),
    "tap": (f"steps={PASSES}",),
    "random-noise": (),
}
_DOCS = Path(__file__).parents[1] / "docs/ablation.md"


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset.")],
    rows: Annotated[int, typer.Option(help="Train rows.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of surrogate and noise.")] = 0,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder)
        pushed = {name: _push(name, source, rows, seed, place) for name in METHODS}
    lines = [_line(name, told) for name, told in pushed.items()]
    table = Table(*_HEADER)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    figures = {name: told["trials"] for name, told in pushed.items()}
    shape = {"rows": rows, "seed": seed, "passes": PASSES, "budget": "linf:8"}
    print(record.write("ablation", shape | {"trials": figures}))
    _DOCS.write_text(_page(lines, source, rows, seed))


def _push(name: str, source: str, rows: int, seed: int, place: Path) -> dict[str, Any]:
    method = name.partition(",")[0]
    settings = [part for setting in METHODS[name] for part in ("--set", setting)]
    command = [
        *(sys.executable, "-m", "release", "push", source, "--to", str(place / name)),
        *("--workdir", str(place / "work"), "--method", method, *settings, "--rows", str(rows)),
        *("--seed", str(seed), "--preset", "quick", "--max-accuracy", "1", "--json"),
    ]
    print(f"{name} ...", file=sys.stderr)
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    return told


_HEADER = ("method", "victim", "clean", "final", "peak", "renamed")


def _line(name: str, told: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table: both victims' figures, the surrogate's architecture first."""
    trials = told["trials"]

    def both(figure: str) -> str:
        return " / ".join(f"{trial[figure]:.1%}" for trial in trials)

    victims = " / ".join(trial["victim"] for trial in trials)
    return (name, victims, both("clean"), both("protected"), both("peak"), both("renamed"))


def _page(lines: list[tuple[str, ...]], source: str, rows: int, seed: int) -> str:
    header = f"| {' | '.join(_HEADER)} |\n|{'---|' * len(_HEADER)}\n"
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    name = Path(source).name
    return _TEXT.format(passes=PASSES, source=name, rows=rows, seed=seed, table=header + body)


_TEXT = """# Ablation

The self-ensemble methods, their ancestor and random noise at {passes} gradient passes an image
(`random-noise` takes none; `sep-fa-mi` is shown at its own 15 too), all within linf:8, with one
vgg-w16 surrogate of 20 epochs; {rows} training rows of {source}, seed {seed}.

Victims train for 20 epochs: vgg-w16, which has the surrogate's architecture, and resnet10-w16,
which is held out. Accuracy on the clean test split after the last epoch (final), at the best epoch
(peak), and after the best one-to-one renaming of the classes (renamed). Differences under about 3
points are noise between seeds. Written by `python -m benchmarks.ablation`.

{table}"""


if __name__ == "__main__":
    typer.run(main)
