"""Weights that somebody gives as a file: read without executing anything in it, put into a net's
body by torchvision's or timm's names, and told in public by name and content alone.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIX = re.compile(r"^((module|_orig_mod|model|backbone|encoder|body|visual)\.)+")
_DIGEST = re.compile(r"@([0-9a-f]{8}|missing)$")
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, OSError, EOFError, RuntimeError),
    *(AssertionError, AttributeError, LookupError, TypeError, ValueError),
)
"""What torch.load raises for files that it did not write (tried on damaged ones)."""
_FEWEST = 0.5
"""The share of the body's tensors that must fit: of another architecture some always do."""


def load_into(body: nn.Module, weights: Mapping[str, Tensor], what: str) -> list[str]:
    """The weights are in `body`; returned are the names of those of its tensors that they lack.

    ValueError, which opens with `what`, if fewer than half of the body's tensors are there in its
    shapes.
    """
    own = {name: value for name, value in body.state_dict().items() if _is_learnt(name)}
    found = fitting(weights, own)
    if len(found) < _FEWEST * len(own):
        raise ValueError(
            f"{what}: {len(found)} of {len(own)} tensors fit the net's body: give weights of its "
            "own architecture, by torchvision's or timm's names"
        )
    body.load_state_dict(found, strict=False)
    return sorted(own.keys() - found.keys())


def _is_learnt(name: str) -> bool:
    """Whether the entry of a state dict is more than BatchNorm's count of batches."""
    return not name.endswith("num_batches_tracked")


def fitting(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the weights that the state `own` has a place for, by its names and in its shapes."""
    found = {}
    for written, tensor in weights.items():
        for name in own.keys() & _names(_PREFIX.sub("", written)):
            same = tensor.shape == own[name].shape
            # timm writes VGG's first linear layers as convolutions over all that they see.
            if same or (tensor.dim() == 4 and tensor.flatten(1).shape == own[name].shape):
                found[name] = tensor.reshape(own[name].shape)
    return found


def _names(name: str) -> set[str]:
    """What a tensor of torchvision's or timm's may be called in a body of crafting.nets."""
    dense = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", name)  # hub files of 2017
    short = re.sub(r"^features\.", "0.", name)  # VGG for small images
    linear = name.replace("pre_logits.fc1.", "classifier.0.")
    return {name, dense, short, linear.replace("pre_logits.fc2.", "classifier.3.")}


def read(what: str, path: Path) -> dict[str, Tensor]:
    """The tensors by name of the file at that path; ValueError, which opens with `what`, if they
    cannot be read."""
    if not path.is_file():
        raise ValueError(f"{what} {path}: no such file: give the path of a state dict")
    found = _tensors(_read(what, path))
    if not found:
        raise ValueError(f"{what} {path} hold no tensors: give a state dict")
    return found


def _read(what: str, path: Path) -> Any:
    """What the file holds; nothing in it is executed."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{what} {path} cannot be read as weights ({reason}): give a state dict "
            "(.safetensors, or saved by torch.save)"
        ) from error


def _tensors(read: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, which may lie one level down in a checkpoint."""
    if not isinstance(read, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(read.get(wrapper), Mapping):
            read = read[wrapper]
            break
    return {str(name): value for name, value in read.items() if isinstance(value, Tensor)}


def told(written: str) -> str:
    """The file at this path by its name and content; what was told so is told so again."""
    path = Path(written)
    if path.is_file():
        facts = path.stat()
        return f"{path.name}@{_digest(path, facts.st_size, facts.st_mtime_ns)}"
    return path.name if is_told(written) else f"{path.name}@missing"


def is_told(written: str) -> bool:
    """Whether this is how `told` writes a file, not a path."""
    return _DIGEST.search(written) is not None


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """The first 8 hex digits of the SHA-256 of the file as it was when it had this size and time of
    change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
