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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from crafting.nets import Net
from crafting.training import Hooks, Recipe, cross_entropy
from crafting.weights import load_into, read, told
from evaluation.countermeasures.base import Countermeasure, Setting, register


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
        return str(replace(self, weights=told(self.weights))) if self.weights else str(self)

    def recipe(self, recipe: Recipe) -> Recipe:
        return replace(recipe, lr=recipe.lr * self.lr_share)

    def hooks(self, setting: Setting) -> Hooks:
        if not self.weights:
            raise ValueError(
                "finetune starts from weights of yours and was given none: write "
                "finetune:weights=PATH of a state dict (.safetensors, or saved by torch.save)"
            )
        path = Path(self.weights)
        start = _Start(path, read("finetune weights", path), self.frozen)
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
        missing = load_into(body, self._weights, f"finetune weights {self._path}")
        if not self._frozen:
            return
        if missing:
            raise ValueError(
                f"finetune weights {self._path} lack {missing[0]} in the victim's shape "
                f"({len(missing)} tensors), which would never learn: leave out frozen"
            )
        body.requires_grad_(False)
