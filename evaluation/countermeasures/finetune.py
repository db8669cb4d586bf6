"""Fine-tuning a pretrained net, or only a new last layer on it (Yosinski et al., NeurIPS 2014).

An extractor that learnt elsewhere has features already and need not take the noise for one: Yu et
al. (KDD 2022) report that pretrained extractors defeat linear shortcuts.

Departures:
1. Images are centred by the net's own pair (0.5 and 0.25 for every channel), near ImageNet's but
   not the same; BatchNorm takes up the rest where the body learns.
2. Layers that the weights lack in the victim's shape, such as the first of a net for small images,
   start new.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crafting.nets import Net
from crafting.training import Hooks, Recipe, cross_entropy
from evaluation.countermeasures.base import Countermeasure, Setting, register

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIX = re.compile(r"^((module|_orig_mod|model|backbone|encoder|body)\.)+")
_DIGEST = re.compile(r"@([0-9a-f]{8}|missing)$")
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, OSError, EOFError, RuntimeError),
    *(AssertionError, AttributeError, LookupError, TypeError, ValueError),
)
"""What torch.load raises for files that it did not write (tried on damaged ones)."""
_FEWEST = 0.5
"""The share of the body's tensors that must fit: of another architecture some always do."""


@register
@dataclass(frozen=True)
class Finetune(Countermeasure):
    """Starts from pretrained weights, which you give, instead of from nothing.

    weights: path of a state dict (.safetensors, or saved by torch.save) of the victim's own
    architecture, by torchvision's or timm's names; frozen: only the last layer learns; lr_share: of
    the recipe's learning rate. Clean training gains accuracy.
    """

    name = "finetune"
    weights: str = ""
    frozen: bool = False
    lr_share: float = 0.1

    def __post_init__(self) -> None:
        if not self.lr_share > 0:
            raise ValueError(f"finetune lr_share is above 0, not {self.lr_share}")

    @property
    def cost(self) -> float:
        return 0.4 if self.frozen else 1.0

    @property
    def public(self) -> str:
        """The file is told by its name and the start of its SHA-256."""
        return str(replace(self, weights=_told(Path(self.weights)))) if self.weights else str(self)

    def recipe(self, recipe: Recipe) -> Recipe:
        return replace(recipe, lr=recipe.lr * self.lr_share)

    def hooks(self, setting: Setting) -> Hooks:
        start = _Start(Path(self.weights), _weights(self.weights), self.frozen)
        return Hooks(loss=start.loss)


class _Start:
    """One training: weights enter the net before its first forward pass."""

    def __init__(self, path: Path, weights: Mapping[str, Tensor], frozen: bool) -> None:
        self._path = path
        self._weights = weights
        self._frozen = frozen
        self._is_loaded = False

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(net, Net)
        if not self._is_loaded:
            self._load(net.body)
            self._is_loaded = True
        if self._frozen:  # every epoch begins by putting the net into training mode
            net.body.eval()
        return cross_entropy(net, x, y)

    def _load(self, body: nn.Module) -> None:
        own = {name: value for name, value in body.state_dict().items() if _is_learnt(name)}
        found = _fitting(self._weights, own)
        self._check(len(found), len(own), sorted(own.keys() - found.keys()))
        body.load_state_dict(found, strict=False)
        if self._frozen:
            body.requires_grad_(False)

    def _check(self, fit: int, total: int, missing: list[str]) -> None:
        if fit < _FEWEST * total:
            raise ValueError(
                f"finetune weights {self._path}: {fit} of {total} tensors fit the victim's body: "
                "give weights of its own architecture, by torchvision's or timm's names"
            )
        if self._frozen and missing:
            raise ValueError(
                f"finetune weights {self._path} lack {missing[0]} in the victim's shape "
                f"({len(missing)} of {total} tensors), which would never learn: leave out frozen"
            )


def _is_learnt(name: str) -> bool:
    """Whether the entry of a state dict is more than BatchNorm's count of batches."""
    return not name.endswith("num_batches_tracked")


def _fitting(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _weights(written: str) -> dict[str, Tensor]:
    """The tensors by name of the file at that path; ValueError if they cannot be read."""
    if not written:
        raise ValueError(
            "finetune starts from weights of yours and was given none: write "
            "finetune:weights=PATH of a state dict (.safetensors, or saved by torch.save)"
        )
    path = Path(written)
    if not path.is_file():
        raise ValueError(f"finetune weights {path}: no such file: give the path of a state dict")
    found = _tensors(_read(path))
    if not found:
        raise ValueError(f"finetune weights {path} hold no tensors: give a state dict")
    return found


def _read(path: Path) -> Any:
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
            f"finetune weights {path} cannot be read as weights ({reason}): give a state dict "
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


def _told(path: Path) -> str:
    """A file by its name and content; what was told so is told so again."""
    if path.is_file():
        facts = path.stat()
        return f"{path.name}@{_digest(path, facts.st_size, facts.st_mtime_ns)}"
    return path.name if _DIGEST.search(path.name) else f"{path.name}@missing"


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """The first 8 hex digits of the SHA-256 of the file as it was when it had this size and time of
    change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
