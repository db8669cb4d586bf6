"""Images a second of the methods that train nothing: what their crafters do, before encoding.

Generated colour images of 32x32 in ten classes, batches of 500, rows that nothing was drawn for
before. Seconds are those of one processor thread, so that what else the machine does hardly counts;
the best of several rounds stands. Fit is timed apart.

    python -m benchmarks.model_free [--rows 2000] [--rounds 3]

Prints a table and writes benchmarks/results/model_free.json.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import record
from crafting.batch import PixelSplit
from crafting.method import Context
from crafting.registry import methods
from crafting.runner import protect

NAMES = ("cuda", "lsp", "ar", "ops", "ops-m", "random-noise", "random-noise-class")
CLASSES, SIZE, BATCH = 10, 32, 500
TARGET = 5000


def main(
    rows: Annotated[int, typer.Option(help="Images of a round.")] = 2000,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 3,
) -> None:
    torch.set_num_threads(1)
    split = _split(rows)
    figures = {name: _measured(name, split, rounds) for name in NAMES}
    table = Table("method", "images/s", "with rounding", "fit, s")
    for name, figure in figures.items():
        table.add_row(name, *(f"{value:,.1f}" for value in figure.values()))
    Console().print(table)
    slow = [name for name, figure in figures.items() if figure["images_per_second"] < TARGET]
    print(f"under {TARGET} images/s: {', '.join(slow) or 'none'}")
    shape = {"rows": rows, "rounds": rounds, "size": SIZE, "batch": BATCH, "threads": 1}
    print(record.write("model_free", shape | {"target": TARGET, "methods": figures}))


def _split(rows: int) -> PixelSplit:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, 3, SIZE, SIZE), dtype=np.uint8)
    return PixelSplit(pixels, np.arange(rows), np.arange(rows) % CLASSES, CLASSES)


def _measured(name: str, split: PixelSplit, rounds: int) -> dict[str, Any]:
    method = methods()[name].quick
    keys = [f"image {row}".encode() for row in split.rows]
    ctx = Context(
        CLASSES, split.shape, SIZE, torch.device("cpu"), b"benchmark", lambda row: keys[row]
    )
    began = time.process_time()
    crafter = method.crafter(method.fit(split, ctx), ctx)
    fit_seconds = time.process_time() - began
    batches = list(split.batches(BATCH))
    crafted, protected = [], []
    for _ in range(rounds):
        began = time.process_time()
        for batch in batches:
            crafter(batch)
        crafted.append(time.process_time() - began)
        began = time.process_time()
        for batch in batches:
            protect(crafter, method.budget, batch)
        protected.append(time.process_time() - began)
    return {
        "images_per_second": round(len(split) / min(crafted), 1),
        "with_rounding": round(len(split) / min(protected), 1),
        "fit_seconds": round(fit_seconds, 2),
    }


if __name__ == "__main__":
    typer.run(main)
