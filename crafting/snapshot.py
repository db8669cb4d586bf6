"""A training between two epochs, as values: an interrupted one goes on from there, and ends as if
nothing had happened."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

Snapshot = dict[str, Any]
"""Tensors and plain values, as `torch.save` writes and `torch.load` reads them."""


class Keeper(Protocol):
    """Where the latest snapshot of one training is kept; it may interrupt by raising on `save`."""

    def load(self) -> Snapshot | None: ...

    def save(self, snapshot: Snapshot) -> None: ...


class InFile:
    """Keeps the latest snapshot of a training in a file: the first `seconds` after it was made, and
    then at most so often, since writing a large net takes its time."""

    def __init__(self, path: Path, seconds: float = 0.0) -> None:
        self.path = path
        self.seconds = seconds
        self._latest = time.monotonic()

    def load(self) -> Snapshot | None:
        if not self.path.exists():
            return None
        kept: Snapshot = torch.load(self.path, map_location="cpu")
        return kept

    def save(self, snapshot: Snapshot) -> None:
        if time.monotonic() - self._latest >= self.seconds:
            whole(self.path, lambda path: torch.save(snapshot, path))
            self._latest = time.monotonic()


def whole(path: Path, write: Callable[[Path], object]) -> None:
    """What `write` writes to a file is at `path`, all of it or nothing; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write(making)
    making.replace(path)


def take(net: nn.Module, optimiser: Optimizer, epochs: int, device: torch.device) -> Snapshot:
    """The training after so many epochs; its tensors go on changing as training does."""
    on_gpu = device.type == "cuda"
    return {
        "epochs": epochs,
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "device_random": torch.cuda.get_rng_state(device) if on_gpu else None,
    }


def restore(snapshot: Snapshot, net: nn.Module, optimiser: Optimizer, device: torch.device) -> int:
    """Net, optimiser and torch's generators are as they were; returned is how many epochs are
    done."""
    net.load_state_dict(snapshot["net"])
    optimiser.load_state_dict(snapshot["optimiser"])
    torch.set_rng_state(snapshot["random"])
    if snapshot["device_random"] is not None:
        torch.cuda.set_rng_state(snapshot["device_random"], device)
    return int(snapshot["epochs"])
