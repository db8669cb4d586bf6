"""Images as countermeasures change them inside the training loop."""

from __future__ import annotations

import torch
from torch import Tensor

from crafting.training import Hooks, Recipe
from evaluation.countermeasures import Setting, parse

CLASSES = 4

SETTING = Setting(CLASSES, "protected", Recipe(epochs=1), torch.device("cpu"), seed=0)


def hooks(text: str) -> Hooks:
    return parse(text).hooks(SETTING)


def augmented(text: str, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return hooks(text).augment(x, torch.arange(len(x)) % CLASSES if y is None else y)


def random_images(count: int = 8, channels: int = 3, side: int = 16) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(2))
