"""Clean datasets on the test Hub."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clean_data import CLASSES, write_split

from tests.hub.server import Hub

Digits = tuple[np.ndarray, np.ndarray]
SOURCE, TARGET, STATE = "alice/digits", "alice/digits-protected", "alice/digits-protected-state"
CHEAP = ("--method", "random-noise", "--no-verify", "--workers", "1", "--hub-patience", "30")
"""Settings with which the whole way is gone in seconds: nothing is trained."""


def of_four(digits: Digits) -> Digits:
    """The digits of the four classes that tests use."""
    chosen = digits[1] < CLASSES
    return digits[0][chosen], digits[1][chosen]


def put_rows(hub: Hub, name: str, file: str, digits: Digits, rows: slice, tmp_path: Path) -> None:
    """A Parquet file of these digits is one more file of a private dataset on the Hub."""
    try:
        repo = hub.repo(name)
    except KeyError:
        repo = hub.add_repo(name, private=True)
    pixels, labels = of_four(digits)
    path = tmp_path / "one.parquet"
    write_split(path, pixels[rows], labels[rows])
    repo.put({file: path.read_bytes()})


def released_rows(hub: Hub, name: str, revision: str = "main") -> int:
    """How many rows the Parquet files of a release hold."""
    repo = hub.repo(name)
    paths = [path for path in repo.files(revision) if path.startswith("data/")]
    return sum(_rows(repo.read(revision, path)) for path in paths)


def _rows(data: bytes) -> int:
    return int(pq.ParquetFile(pa.BufferReader(io.BytesIO(data).getvalue())).metadata.num_rows)
