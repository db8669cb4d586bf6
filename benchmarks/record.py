"""Where results go, and on what they were measured."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from release.machine import processor

RESULTS = Path(__file__).with_name("results")
_VERSIONED = ("protect-release", "torch", "torchvision", "accelerate", "datasets", "pyarrow")


def write(name: str, figures: dict[str, Any]) -> Path:
    """benchmarks/results/NAME.json holds the figures with the hardware and versions they are of."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures | {"measured_on": _here()}, indent=1) + "\n")
    return path


def _here() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONED},
    }
