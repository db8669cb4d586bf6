"""Tiny splits and contexts that every test of the engine can use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crafting.batch import Batch, PixelSplit
from crafting.method import Context
from crafting.nets import Net, build, for_crafting

CLASSES, SIZE = 3, 16


def _toy_split(rows: int = 48, classes: int = CLASSES, size: int = SIZE) -> PixelSplit:
    rng = np.random.default_rng(0)
    targets = np.arange(rows) % classes
    pixels = rng.integers(0, 150, (rows, 3, size, size))
    pixels[np.arange(rows), targets % 3] += 60  # each class leans to one colour
    return PixelSplit(pixels.astype(np.uint8), np.arange(rows), targets, classes)


def _context(split: PixelSplit, seed: bytes = b"secret", **changes: Any) -> Context:
    def row_key(row: int) -> bytes:
        return hashlib.sha256(split.pixels[row].tobytes()).digest()

    known: dict[str, Any] = {
        "num_classes": split.num_classes,
        "shape": split.shape,
        "net_size": SIZE,
        "device": torch.device("cpu"),
        "seed": seed,
        "row_key": row_key,
    }
    return Context(**(known | changes))


@pytest.fixture
def toy_split() -> Callable[..., PixelSplit]:
    return _toy_split


@pytest.fixture
def context() -> Callable[..., Context]:
    return _context


@pytest.fixture
def split() -> PixelSplit:
    return _toy_split()


@pytest.fixture
def ctx(split: PixelSplit) -> Context:
    return _context(split)


@pytest.fixture
def kept(ctx: Context, tmp_path: Path) -> Context:
    """A context whose rounds stay on disk, on the device as a rank names it."""
    return replace(ctx, scratch=tmp_path / "scratch", device=torch.device("cpu", 0))


@pytest.fixture
def batch(split: PixelSplit) -> Batch:
    """The first 12 rows of the split."""
    return next(split.batches(12))


@pytest.fixture
def net() -> Net:
    """A small net as crafting runs it, untrained."""
    return for_crafting(build("vgg-w16", CLASSES, SIZE, seed=0), torch.device("cpu"))


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crafting and training compute in float32, as on a processor without bfloat16."""
    for module in ("crafting.nets.deploy", "crafting.training"):
        monkeypatch.setattr(f"{module}.compute_dtype", lambda device: torch.float32)
