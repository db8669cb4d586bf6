"""A source of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Value
from source_files import NAMES, file_of, picture, png, write_parquet_file, write_tar


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Train rows 0..9 in two files and test rows in one; the picture of train row N has seed N and
    label N % 3, and the kept column `age` is N."""
    folder = tmp_path / "parquet"
    for part, rows in enumerate((range(6), range(6, 10))):
        write_parquet_file(
            folder / f"data/train-{part:05d}-of-00002.parquet",
            [png(row) for row in rows],
            [row % 3 for row in rows],
            {"age": (Value("int64"), list(rows))},
        )
    write_parquet_file(
        folder / "data/test-00000-of-00001.parquet",
        [png(100 + row) for row in range(3)],
        [0, 1, 2],
        {"age": (Value("int64"), [1, 2, 3])},
    )
    return folder


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Twelve train pictures and three test ones in class folders, in three file formats."""
    formats = (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"))
    for split, count in (("train", 12), ("test", 3)):
        for row in range(count):
            extension, format = formats[row % 3]
            path = tmp_path / f"folders/{split}/{NAMES[row % 3]}/{row}.{extension}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file_of(picture(row), format))
    return tmp_path / "folders"


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Train rows 0..6 in two tars: PNG pictures of seed N, labels N % 3, a number in the JSON."""
    for part, rows in enumerate((range(4), range(4, 7))):
        samples = [
            {"png": png(row), "cls": str(row % 3).encode(), "json": b'{"age": %d}' % row}
            for row in rows
        ]
        write_tar(tmp_path / f"tars/train-{part:03d}.tar", samples)
    return tmp_path / "tars"
