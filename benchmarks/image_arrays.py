"""Datasets as arrays: an .npz file of images and labels, or a clean source made into one.

    python -m benchmarks.image_arrays SOURCE FILE.npz

x_train, x_test: (N,H,W,C) or (N,C,H,W) uint8, C 1 or 3; y_train, y_test: (N,) integers from 0.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from crafting.batch import PixelSplit

Arrays = dict[str, np.ndarray]


def read(source: str) -> tuple[str, Arrays]:
    """The dataset's name and its arrays, images as (N,C,H,W). ValueError for a file without them;
    any other source than an .npz file needs all that protect-release is installed with."""
    path = Path(source)
    if path.suffix != ".npz":
        return path.name, _converted(source)
    with np.load(path) as file:
        missing = {"x_train", "y_train", "x_test", "y_test"} - set(file.files)
        if missing:
            raise ValueError(f"{source} has no array {', '.join(sorted(missing))}: add it")
        return path.stem, {name: _arranged(name, file[name]) for name in file.files}


def _arranged(name: str, values: np.ndarray) -> np.ndarray:
    if name.startswith("y_"):
        return values.reshape(-1).astype(np.int64)
    if values.dtype != np.uint8 or values.ndim != 4:
        raise ValueError(f"{name} is {values.dtype} {values.shape}: images are uint8 with 4 axes")
    in_last_axis = values.shape[3] in (1, 3) and values.shape[1] not in (1, 3)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if in_last_axis else values)


def _converted(source: str) -> Arrays:
    from release.images import decode
    from release.source import open_source, protected_split, test_splits_of

    opened = open_source(source)
    train = protected_split(opened, None)
    test = next(iter(test_splits_of(opened, train)), None)
    if test is None:
        raise ValueError(f"{source} has no test split: victims cannot be scored")
    arrays: Arrays = {}
    for part, split in (("train", train), ("test", test)):
        rows = list(opened.rows(split))
        images = np.stack([decode(row.image).pixels for row in rows])
        arrays[f"x_{part}"] = _arranged(f"x_{part}", images)
        arrays[f"y_{part}"] = np.array([row.label for row in rows], dtype=np.int64)
    return arrays


def keep(arrays: Arrays, rows: int | None, place: Path) -> Path:
    """The folder under `place` that holds these rows as `train` and all test rows as `test`
    (`PixelSplit.load` reads them), the same one for the same rows. Training rows are drawn once,
    as many of each class as the dataset has in proportion."""
    x, y = arrays["x_train"], arrays["y_train"]
    chosen = np.arange(len(y)) if rows is None or rows >= len(y) else _drawn(y, rows)
    digest = hashlib.sha256(x[chosen].tobytes() + y[chosen].tobytes())
    digest.update(arrays["x_test"].tobytes() + arrays["y_test"].tobytes())
    folder = place / f"data-{digest.hexdigest()[:12]}"
    if not folder.exists():
        making = folder.with_suffix(".tmp")
        shutil.rmtree(making, ignore_errors=True)
        classes = int(y.max()) + 1
        _save(making / "train", x[chosen], y[chosen], classes)
        _save(making / "test", arrays["x_test"], arrays["y_test"], classes)
        making.rename(folder)
    return folder


def _drawn(labels: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) ascending: every class keeps its share, to within one row."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picked: np.ndarray = by_class[np.linspace(0, len(labels) - 1, rows).round().astype(np.int64)]
    return np.sort(picked)


def _save(folder: Path, pixels: np.ndarray, targets: np.ndarray, classes: int) -> None:
    folder.mkdir(parents=True)
    save_split(folder, PixelSplit(pixels, np.arange(len(targets)), targets, classes))


def save_split(folder: Path, split: PixelSplit) -> None:
    """`PixelSplit.load(folder)` is this split."""
    np.save(folder / "pixels.npy", split.pixels)
    np.save(folder / "rows.npy", split.rows)
    assert split.targets is not None
    np.save(folder / "targets.npy", split.targets)
    facts = {"num_classes": split.num_classes, "seed": split.seed}
    (folder / "split.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **read(sys.argv[1])[1])  # type: ignore[arg-type]
