"""What this machine is: where work is done, by how many, and with which versions."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import version
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK = 4 << 20
_VERSIONED = (
    "protect-release",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "datasets",
    "pyarrow",
    "timm",
)


def gpus() -> int:
    """How many GPUs there are."""
    import torch

    return torch.cuda.device_count()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_back_large_blocks() -> None:
    """From now on this process returns a block of memory of `_LARGE_BLOCK` or more to the system
    when it is free, whatever the environment says; where the C library is not glibc, nothing
    changes."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, 16 * _LARGE_BLOCK)


def device() -> str:
    """Where nets run: cuda where there is a GPU, else cpu."""
    return "cuda" if gpus() else "cpu"


def versions() -> dict[str, str]:
    """The versions that decide the outcome of a training."""
    return {name: version(name) for name in _VERSIONED}


def hardware(device: str, workers: int) -> dict[str, Any]:
    """What a report says of where it was made."""
    return {
        "device": device,
        "processor": processor(),
        "cores": os.cpu_count(),
        "workers": workers,
    }


def processor() -> str:
    """The processor's name, as far as it can be told."""
    import torch

    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())
