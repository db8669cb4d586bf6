"""Small sources of every kind, written by the libraries that owners write them with."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features
from datasets import Image as ImageFeature
from PIL import Image

NAMES = ("cat", "dog", "eel")


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    """A picture (width, height) of noise, different for every seed."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels, mode if mode in ("CMYK", "YCbCr", "HSV", "LAB") else None)


def file_of(image: Image.Image, format: str = "PNG", **settings: Any) -> bytes:
    """The image as a file in memory."""
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def png(seed: int, **more: Any) -> bytes:
    return file_of(picture(seed, **more))


def write_parquet_file(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None] | None,
    extra: dict[str, tuple[Any, list[Any]]] | None = None,
    row_group_size: int = 4,
) -> None:
    """A Parquet file with img, label and `extra` columns as `datasets` writes them."""
    features = Features({"img": ImageFeature()})
    columns: dict[str, list[Any]] = {
        "img": [None if image is None else {"bytes": image, "path": None} for image in images]
    }
    if labels is not None:
        features["label"] = ClassLabel(names=list(NAMES))
        columns["label"] = list(labels)
    for name, (feature, values) in (extra or {}).items():
        features[name], columns[name] = feature, values
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    pq.write_table(table, path, row_group_size=row_group_size)


def write_tar(path: Path, samples: Sequence[dict[str, bytes]]) -> Path:
    """A tar of samples, each a dict of file contents by extension, named 0000, 0001, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, files in enumerate(samples):
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{number:04d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path
