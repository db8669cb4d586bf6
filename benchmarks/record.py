"""Where results go, and on what they were measured."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
_VERSIONED = ("protect-release", "torch", "torchvision", "accelerate", "datasets", "pyarrow")


def write(name: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """NAME.json in the folder holds the figures with the hardware and versions they are of."""
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures | {"measured_on": here()}, indent=1) + "\n")
    return path


def here() -> dict[str, Any]:
    """This machine and the versions there are on it."""
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "python": platform.python_version(),
        "versions": dict(filter(None, map(_installed, _VERSIONED))),
    }


def processor() -> str:
    """Its name."""
    import torch

    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())


def _installed(name: str) -> tuple[str, str] | None:
    """A package with its version; None where it is not installed, or run from its folder."""
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None
