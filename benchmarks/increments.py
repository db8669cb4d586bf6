"""What rows added later do to the protection of a dataset, by the method that protects them.

    python -m benchmarks.increments SOURCE [--rows 4000] [--added 500] [--increments 2] [--seed 0]

A batch release of the first rows, then increments, once for each way of protecting new rows;
victims train on old and new rows together, and on the new rows alone, beside clean twins of equal
size. All ways share one WORKDIR, so that twins are trained once. Prints the table, writes
benchmarks/results/increments.json and docs/increments.md. Resumable: --workdir keeps what is
finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import record

METHOD = "sep-fa-mi"
WAYS: dict[str, tuple[str, ...]] = {
    "alignment-online": ("--incremental-method", "alignment-online"),
    "sep-fa-mi": ("--incremental-method", "sep-fa-mi"),
    "unprotected": ("--incremental-method", "sep-fa-mi", "--protect-share", "0"),
}
_KEPT = ("release", "method", "rows", "total", "craft_seconds_per_row", "seconds", "trials")
_DOCS = Path(__file__).parents[1] / "docs/increments.md"
Told = dict[str, Any]


def main(
    source: Annotated[str, typer.Argument(help="Clean dataset with a test split.")],
    rows: Annotated[int, typer.Option(help="Rows of the batch release.")] = 4000,
    added: Annotated[int, typer.Option(help="Rows that each increment adds.")] = 500,
    increments: Annotated[int, typer.Option(help="How many follow.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of surrogates and noise.")] = 0,
    workdir: Annotated[str | None, typer.Option(help="Keeps finished work.")] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(workdir or folder).resolve()
        shape = {"rows": rows, "added": added, "increments": increments, "seed": seed}
        ways = {way: _way(way, source, place, shape) for way in WAYS}
    lines = _lines(ways)
    table = Table(*_HEADER)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    print(record.write("increments", shape | {"method": METHOD, "ways": ways}))
    _DOCS.write_text(_page(lines, source, shape))


def _way(way: str, source: str, place: Path, shape: dict[str, int]) -> list[Told]:
    """What each push said: the batch release, and then as many increments."""
    rows, added, increments, seed = shape.values()
    named = json.dumps([source, rows, added, seed]).encode()
    name = f"{way}-{hashlib.sha256(named).hexdigest()[:8]}"
    target, log = place / f"protected-{name}", place / f"{name}.json"
    told: list[Told] = json.loads(log.read_text()) if log.exists() else []
    for number in range(len(told), 1 + increments):
        more = WAYS[way] if number else ("--method", METHOD)
        upto = rows + number * added
        print(f"{way}: release {number + 1}, {upto} rows ...", file=sys.stderr)
        said = _push(source, target, place / "work", upto, seed, more)
        if not said["changed"]:
            raise SystemExit(f"{log} lacks a release of {target}: remove both and run this again")
        told.append({figure: said[figure] for figure in _KEPT})
        log.write_text(json.dumps(told))
    return told


def _push(
    source: str, target: Path, work: Path, rows: int, seed: int, more: tuple[str, ...]
) -> Told:
    command = [
        *(sys.executable, "-m", "release", "push", source, "--to", str(target)),
        *("--workdir", str(work), "--rows", str(rows), "--seed", str(seed)),
        *("--preset", "quick", "--max-accuracy", "1", "--json", *more),
    ]
    # Keys and state lie beside the releases that they are of, not among those a person keeps.
    environment = os.environ | {"XDG_DATA_HOME": str(target.parent / "data")}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
    told: Told = json.loads(done.stdout)
    return told


_HEADER = (
    *("release", "new rows by", "victim", "all rows", "its twin", "new alone", "its twin"),
    "ms an image",
)


def _lines(ways: dict[str, list[Told]]) -> list[tuple[str, ...]]:
    """The batch release once, then each increment by each way."""
    first = next(iter(ways.values()))[0]
    lines = [_line("r0001", METHOD, first)]
    for number in range(1, len(next(iter(ways.values())))):
        lines += [_line(f"r{number + 1:04d}", way, told[number]) for way, told in ways.items()]
    return lines


def _line(release: str, way: str, told: Told) -> tuple[str, ...]:
    def both(rows: str, figure: str) -> str:
        found = [f"{t[figure]:.1%}" for t in told["trials"] if t["rows"] == rows]
        return " / ".join(found) or "-"

    victims = " / ".join(t["victim"] for t in told["trials"] if t["rows"] == "release")
    figures = (both(r, f) for r in ("release", "new") for f in ("protected", "clean"))
    return (release, way, victims, *figures, f"{1000 * told['craft_seconds_per_row']:.0f}")


def _page(lines: list[tuple[str, ...]], source: str, shape: dict[str, Any]) -> str:
    header = f"| {' | '.join(_HEADER)} |\n|{'---|' * len(_HEADER)}\n"
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return _TEXT.format(source=Path(source).name, method=METHOD, table=header + body, **shape)


_TEXT = """# Rows added later

A batch release of {rows} rows of {source} by {method} within linf:8, then {increments} increments
of {added} rows, each protected in one of three ways: by `alignment-online` (its own surrogate and
target gradient, fitted on 10 % of the source at the first increment), by {method} from the State
that the batch release left, or not at all. `quick` preset, seed {seed}.

Victims train for 20 epochs (vgg-w16, which has the surrogate's architecture, and resnet10-w16,
which is held out) on old and new rows together, and on the new rows alone for as many steps as on
the batch release; their clean twins on the same rows unprotected. Accuracy on the clean test split
after the last epoch. Differences under about 3 points are noise between seeds. The time to protect
an image is that of one core, decoding and encoding included, without the fit. Written by
`python -m benchmarks.increments`.

{table}"""


if __name__ == "__main__":
    typer.run(main)
