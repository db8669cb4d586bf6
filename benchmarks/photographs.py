"""Peak memory of the parent and of each worker for photographs of 12 and of 50 megapixels.

    python -m benchmarks.photographs [--workers 1,2]

Each photograph is of another size, so that none is crafted together with another. The source is a
gradient with noise, as JPEG; nothing of what a worker holds depends on what is in a picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

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


def main(workers: Annotated[str, typer.Option(help="Numbers of workers.")] = "1,2") -> None:
    table = Table("photographs", "method", "workers", "parent, MB", "largest worker, MB")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in _SIZES:
            _write_source(Path(folder) / size, *_SIZES[size])
            for method in _METHODS:
                for count in workers.split(","):
                    peak = _peaks(Path(folder), size, method, count)
                    parent, worker = peak["parent"], max(v for k, v in peak.items() if "work" in k)
                    table.add_row(size, method, count, f"{parent:.0f}", f"{worker:.0f}")
                    found.append(
                        {"size": size, "method": method, "workers": int(count), "peak_mb": peak}
                    )
    Console().print(table)
    print(record.write("photographs", {"sizes": _SIZES, "peak_resident": found}))


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
