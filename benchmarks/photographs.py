"""Peak memory of the parent and of each worker for photographs of 12 and of 50 megapixels.

    python -m benchmarks.photographs [--workers 1,2] [--megapixels 12,50]

Each photograph is of another size, so that none is crafted together with another. The source is a
gradient with noise, as JPEG; nothing of what a worker holds depends on what is in a picture.
"""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import record
from benchmarks.memory import peaks

_SIZES = {"12 megapixels": (4000, 3000, 6), "50 megapixels": (8160, 6120, 4)}
_METHODS = {
    "random-noise": (),
    "sep-both-mi": ("--set", "surrogate_epochs=2", "--set", "checkpoints=2"),
}


def main(
    workers: Annotated[str, typer.Option(help="Numbers of workers.")] = "1,2",
    megapixels: Annotated[str, typer.Option(help="Sizes.")] = "12,50",
) -> None:
    """Figures of other sizes and numbers of workers stay in the results."""
    found = _measured(megapixels.split(","), [int(count) for count in workers.split(",")])
    again = {_key(each) for each in found}
    path = record.RESULTS / "photographs.json"
    before = json.loads(path.read_text())["peak_resident"] if path.exists() else []
    found = sorted([*found, *(b for b in before if _key(b) not in again)], key=_key)
    table = Table("photographs", "method", "workers", "parent, MB", "largest worker, MB")
    for each in found:
        peak = each["peak_mb"]
        worker = max(mb for process, mb in peak.items() if "craft" in process)
        table.add_row(*map(str, _key(each)), f"{peak['parent']:.0f}", f"{worker:.0f}")
    Console().print(table)
    print(record.write("photographs", {"sizes": _SIZES, "peak_resident": found}))


def _key(measured: dict[str, Any]) -> tuple[str, str, int]:
    return measured["size"], measured["method"], measured["workers"]


def _measured(megapixels: list[str], workers: list[int]) -> list[dict[str, Any]]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (f"{each} megapixels" for each in megapixels):
            _write_source(Path(folder) / size, *_SIZES[size])
            for method, count in product(_METHODS, workers):
                peak = _peaks(Path(folder), size, method, str(count))
                found.append({"size": size, "method": method, "workers": count, "peak_mb": peak})
    return found


def _peaks(folder: Path, size: str, method: str, workers: str) -> dict[str, float]:
    """The most memory in MB that each process was ever resident in."""
    place = Path(tempfile.mkdtemp(dir=folder))
    command = [
        *("push", str(folder / size), "--to", str(place / "release"), "--no-verify"),
        *("--workdir", str(place / "work"), "--workers", workers, "--method", method),
        *_METHODS[method],
    ]
    return peaks(command, place / "work", place / "data", "VmHWM")


def _write_source(folder: Path, width: int, height: int, count: int) -> None:
    generator = np.random.default_rng(0)
    for row in range(count):
        high, wide = height - row, width + row
        slope = np.linspace(20, 230, wide, dtype=np.float32)[None, :, None]
        noise = generator.integers(-12, 13, (high, wide, 3), dtype=np.int8)
        path = folder / "train" / "ab"[row % 2] / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((slope + noise).astype(np.uint8)).save(path, quality=92)


if __name__ == "__main__":
    typer.run(main)
