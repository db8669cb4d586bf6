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
    """Each figure is kept as soon as it is measured; those of other sizes and numbers stay."""
    with tempfile.TemporaryDirectory() as folder:
        for size in (f"{each} megapixels" for each in megapixels.split(",")):
            _write_source(Path(folder) / size, *_SIZES[size])
            for method, count in product(_METHODS, workers.split(",")):
                peak = _peaks(Path(folder), size, method, count)
                _keep({"size": size, "method": method, "workers": int(count), "peak_mb": peak})
    table = Table("photographs", "method", "workers", "parent, MB", "largest crafting worker, MB")
    for each in _kept():
        peak = each["peak_mb"]
        worker = max(mb for process, mb in peak.items() if "craft" in process)
        table.add_row(*map(str, _key(each)), f"{peak['parent']:.0f}", f"{worker:.0f}")
    Console().print(table)


def _keep(measured: dict[str, Any]) -> None:
    others = [each for each in _kept() if _key(each) != _key(measured)]
    found = sorted([*others, measured], key=_key)
    record.write("photographs", {"sizes": _SIZES, "peak_resident": found})


def _kept() -> list[dict[str, Any]]:
    path = record.RESULTS / "photographs.json"
    found: list[dict[str, Any]] = (
        json.loads(path.read_text())["peak_resident"] if path.exists() else []
    )
    return found


def _key(measured: dict[str, Any]) -> tuple[str, str, int]:
    return measured["size"], measured["method"], measured["workers"]


def _peaks(folder: Path, size: str, method: str, workers: str) -> dict[str, float]:
    """The most memory in MB that each process was ever resident in."""
    place = Path(tempfile.mkdtemp(dir=folder))
    command = [
        *("push", str(folder / size), "--to", str(place / "release"), "--no-verify"),
        *("--workdir", str(place / "work"), "--workers", workers, "--method", method),
        *_METHODS[method],
    ]
    return peaks(command, place / "data", "VmHWM")


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
