"""Peak anonymous memory of the parent and of each worker, for N and for 2N rows of one source.

    python -m benchmarks.memory [--rows 2000]

Flat memory means that the ratios stay near 1. The source is random noise, which nothing compresses;
the rows of a shard, which are held at once, are equally many in both runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import record

_SIDE = 64
_EVERY_SECONDS = 0.02


def main(rows: Annotated[int, typer.Option(min=500, help="N.")] = 2000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        peaks = [_peaks(Path(folder), count) for count in (rows, 2 * rows)]
    table = Table("process", f"{rows} rows, MB", f"{2 * rows} rows, MB", "ratio")
    figures = {}
    for process in peaks[0]:
        small, large = peaks[0][process], peaks[1][process]
        figures[process] = {"mb": small, "mb_at_twice": large, "ratio": round(large / small, 3)}
        table.add_row(process, f"{small:.0f}", f"{large:.0f}", f"{large / small:.2f}")
    Console().print(table)
    print(record.write("memory", {"rows": rows, "side": _SIDE, "peak_anonymous": figures}))


def _peaks(folder: Path, rows: int) -> dict[str, float]:
    """Peak anonymous memory in MB by process: the parent, and each worker of each stage."""
    source = folder / f"source-{rows}"
    _write_source(source, rows)
    workdir = folder / f"work-{rows}"
    command = [
        *("push", str(source), "--to", str(folder / f"r-{rows}"), "--workdir", str(workdir)),
        *("--workers", "2", "--method", "sep-fa-mi", "--set", "steps=5"),
        *("--set", "surrogate_epochs=1", "--set", "checkpoints=1", "--victim-epochs", "1"),
        *("--victim", "vgg-w16", "--max-accuracy", "1", "--seed", "0", "--rows-per-shard", "125"),
    ]
    return peaks(command, folder / "data", "RssAnon")


def peaks(command: list[str], data: Path, kind: str) -> dict[str, float]:
    """The most memory in MB that each process of a command of this program ever took, as the line
    `kind` of its status tells it."""
    # The key of a release that is thrown away is not left among those that a person keeps.
    environment = os.environ | {"XDG_DATA_HOME": str(data)}
    process = subprocess.Popen(
        [sys.executable, "-m", "release", *command], env=environment, stdout=subprocess.DEVNULL
    )
    found: dict[str, float] = defaultdict(float)
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, kind, found, done))
    sampler.start()
    code = process.wait()
    done.set()
    sampler.join()
    if code != 0:
        raise SystemExit(f"{command[0]} ended with {code}")
    return dict(sorted(found.items()))


def _write_source(folder: Path, rows: int) -> None:
    """Coloured noise in Parquet, encoded once, with the labels of four classes."""
    from release.columns import Columns
    from release.encode import encode
    from release.shards import ReleasedRow, write_parquet

    def made(split: str, count: int) -> Iterator[ReleasedRow]:
        generator = np.random.default_rng(count)
        for row in range(count):
            image = generator.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
            yield ReleasedRow(row, f"{split}-{row:08d}", encode(image), row % 4)

    columns = Columns("image", "label", ("a", "b", "c", "d"))
    for split, count in (("train", rows), ("test", 200)):
        write_parquet(folder, f"data/{split}.parquet", made(split, count), columns, "png")


def _sample(pid: int, kind: str, found: dict[str, float], done: threading.Event) -> None:
    """Looks at the parent and its ranks until they are done. A stage's ranks are told apart by
    their order."""
    while not done.wait(_EVERY_SECONDS):
        ranks = ((f"{_stage(rank)} worker {k}", rank) for k, rank in enumerate(_ranks(pid)))
        for name, each in (("parent", pid), *ranks):
            found[name] = max(found[name], _mb(each, kind))


def _stage(rank: int) -> str:
    """What a rank was told to do."""
    told = _read(rank, "cmdline").split("\0")[-2:-1]
    return next((json.loads(order)["stage"] for order in told), "ended")


def _ranks(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pids = [int(child) for child in children.read_text().split()]
    except FileNotFoundError:
        return []
    return sorted(child for child in pids if "release.worker" in _read(child, "cmdline"))


def _mb(pid: int, kind: str) -> float:
    for line in _read(pid, "status").splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1000
    return 0.0


def _read(pid: int, name: str) -> str:
    """A file of a process that may be gone by now."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


if __name__ == "__main__":
    typer.run(main)
