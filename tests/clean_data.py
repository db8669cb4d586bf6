"""Clean datasets for tests to protect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import Result

Run = Callable[..., Result]
CLASSES = 4


def write_split(path: Path, pixels: np.ndarray, labels: np.ndarray, **columns: Any) -> None:
    """A Parquet file with an image, a label 0 to 3 and what else is given."""
    from datasets import ClassLabel, Dataset, Features, Image, Value
    from PIL import Image as Pillow

    kinds = {"caption": Value("string"), "writer": Value("int32"), "thumb": Value("binary")}
    features = Features({"image": Image(), "label": ClassLabel(names=["none", "one", "two", "3"])})
    features.update({name: kinds[name] for name in columns})
    images = [Pillow.fromarray(image) for image in pixels]
    values = {"image": images, "label": labels.tolist()} | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(values, features=features).to_parquet(path)
