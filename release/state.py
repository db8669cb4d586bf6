"""A method's State on disk: one safetensors file for each first part of its names, readable by the
owner alone. Complete or absent: a folder appears under its name once all of it is written.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from crafting.method import State


def save(folder: Path, state: State) -> None:
    """`folder` holds the State; one that was there already is left as it is."""
    from safetensors.torch import save_file

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    for part, tensors in _parts(state).items():
        save_file(tensors, temporary / f"{part}.safetensors")
    if folder.exists():
        shutil.rmtree(temporary)
    else:
        temporary.rename(folder)


def load(folder: Path) -> State:
    """The State kept in `folder`."""
    from safetensors.torch import load_file

    state: State = {}
    for path in sorted(folder.glob("*.safetensors")):
        state |= load_file(path)
    return state


def _parts(state: State) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in state.items():
        parts[name.split("/")[0]][name] = tensor.detach().cpu().contiguous()
    return parts
