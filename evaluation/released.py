"""Finished shards read back as any reader would, through `datasets`, for victims to train on."""

from __future__ import annotations

import glob
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from crafting.batch import PixelSplit
from crafting.nets.resize import resized

if TYPE_CHECKING:
    from datasets import Dataset

Format = Literal["parquet", "webdataset"]
_CHUNK = 256
_CHUNK_BYTES = 64 << 20
_SAMPLES = 8
_IMAGE_KEYS = ("png", "webp")
"""What a WebDataset sample calls its image, by encoding."""


def read_release(
    files: Sequence[Path],
    format: Format,
    *,
    image_column: str,
    label_column: str | None,
    num_classes: int,
    net_size: int,
    folder: Path,
    seed: int = 0,
    pairs: np.ndarray | None = None,
) -> PixelSplit:
    """The rows of these shards at net size, memory-mapped uint8 (N,C,S,S), in the order of rows.

    C is 1 where every image has one channel, else 3. A row is known by the digits that end its
    image's name or its key; where `pairs` (M,2) int64 are given, only rows numbered as in the
    second column are read, and are known by the first from then on. `folder` appears only when
    complete: pixels.npy, rows.npy, targets.npy where labelled, split.json. ValueError for rows
    without a number, with the same one, or that are not there. Memory does not grow with the number
    of rows.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    data = _open(files, format, part / "arrow")
    columns = _columns(data.column_names, format, image_column, label_column)
    data = _without_pixels(data, columns)
    numbers = np.fromiter(_numbers(data, columns), dtype=np.int64, count=len(data))
    if pairs is not None:
        data, numbers = _paired(data, numbers, pairs)
    _write(data, numbers, columns, part, net_size)
    (part / "split.json").write_text(json.dumps({"num_classes": num_classes, "seed": seed}))
    del data  # its Arrow files are mapped, and are removed next
    shutil.rmtree(part / "arrow")
    part.rename(folder)
    return PixelSplit.load(folder)


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str | None
    key: str | None


def _columns(
    present: Sequence[str], format: Format, image_column: str, label_column: str | None
) -> _Columns:
    """What the columns are called: WebDataset names them by file extension."""
    if format == "parquet":
        return _Columns(image_column, label_column, None)
    image = next(key for key in _IMAGE_KEYS if key in present)
    return _Columns(image, "cls" if "cls" in present else None, "__key__")


def _open(files: Sequence[Path], format: Format, cache: Path) -> Dataset:
    import datasets

    paths = [glob.escape(str(path)) for path in files]  # or a folder `w [1]` is taken for `w 1`
    # Of tars it holds so many samples before it writes them; by default 100, however large.
    few = {"writer_batch_size": _SAMPLES} if format == "webdataset" else {}
    return datasets.load_dataset(
        format, data_files=paths, split="train", cache_dir=str(cache), **few
    )


def _without_pixels(data: Dataset, columns: _Columns) -> Dataset:
    """Only what is read here, its images as they are in the files."""
    import datasets

    kept = [name for name in (columns.image, columns.label, columns.key) if name is not None]
    return data.select_columns(kept).cast_column(columns.image, datasets.Image(decode=False))


def _paired(data: Dataset, numbers: np.ndarray, pairs: np.ndarray) -> tuple[Dataset, np.ndarray]:
    """The rows that are paired, and the numbers that they are known by."""
    known = dict(zip(pairs[:, 1].tolist(), pairs[:, 0].tolist(), strict=True))
    chosen = [place for place, number in enumerate(numbers.tolist()) if number in known]
    if len(chosen) != len(known):
        raise ValueError(
            f"{len(known)} rows are to be read from the shards, and {len(chosen)} of them are "
            "there: craft them again"
        )
    renumbered = [known[number] for number in numbers[chosen].tolist()]
    return data.select(chosen), np.asarray(renumbered, dtype=np.int64)


def _write(
    data: Dataset, numbers: np.ndarray, columns: _Columns, folder: Path, net_size: int
) -> None:
    shape = (len(data), _channels(data, columns.image), net_size, net_size)
    places = _places(numbers)
    pixels = np.lib.format.open_memmap(
        folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
    )
    for start, chunk in _chunks(data):
        for at, group in _held_together(chunk[columns.image]):
            images = [_decode(data, shape[1]) for data in group]
            where = places[start + at : start + at + len(images)]
            pixels[where] = _at_net_size(images, net_size)
    pixels.flush()
    np.save(folder / "rows.npy", np.sort(numbers))
    if columns.label is not None:
        labels = np.empty(len(data), dtype=np.int64)
        labels[places] = data[columns.label][:]
        np.save(folder / "targets.npy", labels)


def _places(numbers: np.ndarray) -> np.ndarray:
    """Where each row goes when they are sorted by number."""
    order = np.argsort(numbers, kind="stable")
    places = np.empty(len(numbers), dtype=np.int64)
    places[order] = np.arange(len(numbers))
    repeated = np.flatnonzero(np.diff(numbers[order]) == 0)
    if len(repeated):
        raise ValueError(
            f"row {numbers[order][repeated[0]]} is there twice in the shards: craft them again"
        )
    return places


def _chunks(data: Dataset) -> Iterator[tuple[int, Mapping[str, list[Any]]]]:
    """Runs of rows whose files are in memory together."""
    rows = max(1, min(_CHUNK, _CHUNK_BYTES * len(data.data) // max(1, data.data.nbytes)))
    for start in range(0, len(data), rows):
        yield start, data[start : start + rows]


def _held_together(images: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, list[bytes]]]:
    """Of files of a chunk, runs whose pixels are in memory together, and where each begins; a
    protected image is hardly smaller as a file."""
    start, size = 0, 0
    for at, image in enumerate(images):
        size += len(image["bytes"])
        if size >= _CHUNK_BYTES or at + 1 == len(images):
            yield start, [each["bytes"] for each in images[start : at + 1]]
            start, size = at + 1, 0


def _numbers(data: Dataset, columns: _Columns) -> Iterator[int]:
    for _, chunk in _chunks(data):
        paths = [image["path"] for image in chunk[columns.image]]
        named = paths if columns.key is None else chunk[columns.key]
        for name in named:
            digits = re.search(r"(\d+)(\.\w+)?$", name or "")
            if digits is None:
                raise ValueError(
                    f"an image of the shards is called {name!r}, which ends in no row number: "
                    "craft them again"
                )
            yield int(digits[1])


def _channels(data: Dataset, image_column: str) -> int:
    """1 where every image has one channel, else 3; reads the files' headers only."""
    for _, chunk in _chunks(data):
        for image in chunk[image_column]:
            with Image.open(BytesIO(image["bytes"])) as opened:
                if opened.mode != "L":
                    return 3
    return 1


def _decode(data: bytes, channels: int) -> np.ndarray:
    """(H,W,C) uint8."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(
            image.height, image.width, channels
        )


def _at_net_size(images: list[np.ndarray], size: int) -> np.ndarray:
    """(B,C,size,size) uint8; images of one size are resized together."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, image in enumerate(images):
        alike[image.shape].append(at)
    made = np.empty((len(images), images[0].shape[2], size, size), dtype=np.uint8)
    for positions in alike.values():
        x = torch.from_numpy(np.stack([images[at] for at in positions])).permute(0, 3, 1, 2)
        made[positions] = resized(x, size).numpy()
    return made
