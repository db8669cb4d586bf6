"""Chosen rows of a split, decoded once and resized to the size that nets take.

pixels.npy (N,C,S,S) uint8     rows.npy (N,) int64     targets.npy (N,) int64, where labelled
split.json   number of classes and seed
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from crafting.batch import PixelSplit
from crafting.nets.resize import resized
from evaluation.delivery import Delivery
from release.arrays import create, whole_folder
from release.errors import InputError
from release.images import BadImage, decode
from release.readers import file_size
from release.source import Row, Source
from release.survey import Progress, Survey
from release.threads import in_order

_AS_IT_IS = Delivery()
_MANY_VALUES = 48_000_000
"""Of an image of 16 megapixels."""


def sample(survey: Survey, num_rows: int, seed: str) -> np.ndarray:
    """At most `num_rows` of the survey's good rows, ascending, drawn from the seed (hex)."""
    rows = survey.rows()
    if len(rows) <= num_rows:
        return rows
    generator = np.random.default_rng(int(seed[:16], 16))
    return np.sort(generator.choice(rows, num_rows, replace=False))


def build(
    source: Source,
    *,
    split: str,
    survey: Survey,
    rows: Sequence[int] | np.ndarray,
    net_size: int,
    folder: Path,
    num_classes: int,
    seed: int,
    numbers: np.ndarray | None = None,
    delivered: Delivery = _AS_IT_IS,
    progress: Progress = lambda done, total: None,
) -> PixelSplit:
    """The split over `rows` (each once, good in the survey) is in `folder`, which appears whole.

    Rows are ascending, and known by their place in the source, unless `numbers` (ascending) are
    given; each image is `delivered` before it is resized. Pixels are (N,C,net_size,net_size),
    rounded to 8 bit; C is 1 where every chosen image has one channel, else 3. InputError where the
    source is no longer what was surveyed, StorageError where the disk is full.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    channels = int(survey.sizes[chosen, 0].max(initial=1))
    with whole_folder(folder, "make room, or lower --fit-rows") as making:
        small = partial(_resized, channels=channels, net_size=net_size, delivered=delivered)
        pixels = create(making / "pixels.npy", np.uint8, (len(chosen), channels, *[net_size] * 2))
        places = np.argsort(chosen)
        read = _chosen(source, split, chosen[places])
        # Each thread holds the pixels of an image.
        threads = 1 if survey.sizes[chosen].prod(axis=1).max(initial=0) > _MANY_VALUES else 4
        made = in_order(small, read, threads=threads, ahead=32, size=file_size)
        for done, image in enumerate(made):
            pixels[places[done]] = image
            progress(done + 1, len(chosen))
        pixels.flush()
        np.save(making / "rows.npy", chosen if numbers is None else numbers)
        if source.label_column is not None:
            np.save(making / "targets.npy", survey.labels[chosen])
        (making / "split.json").write_text(json.dumps({"num_classes": num_classes, "seed": seed}))
    return PixelSplit.load(folder)


def _chosen(source: Source, split: str, rows: np.ndarray) -> Iterator[Row]:
    if not len(rows):
        return
    wanted = np.zeros(int(rows[-1]) + 1, dtype=np.bool_)
    wanted[rows] = True
    for row in source.rows(split, int(rows[0]), len(wanted)):
        if wanted[row.number]:
            yield row


def _resized(row: Row, channels: int, net_size: int, delivered: Delivery) -> np.ndarray:
    """(C,net_size,net_size) uint8."""
    try:
        pixels = delivered(decode(row.image).pixels)
    except BadImage as problem:
        raise InputError(
            f"row {row.number} became unreadable ({problem}) since the run began: let the source "
            "rest, then run the same command again"
        ) from None
    small = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], net_size)
    return small[0].expand(channels, -1, -1).numpy()
