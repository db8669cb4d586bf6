"""Dark and bright images, and small nets that learn to tell them apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.nets import Net, build
from crafting.training import Recipe, predict, train
from evaluation.countermeasures import Setting, parse

CPU = torch.device("cpu")

PLAIN = Recipe(epochs=6, batch_size=16, lr=0.05, augment=False)


def shaded(count: int, seed: int, tint: float = 0, odd: float = 0) -> PixelSplit:
    """Dark (class 0) and bright images (3,16,16), a share of them labelled wrong, whose label is
    also told by a tint of so many grey levels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shown = np.where(generator.random(count) < odd, 1 - labels, labels)
    pixels = np.where(shown == 0, 90, 166)[:, None, None, None]
    pixels = pixels + generator.normal(0, 5, (count, 3, 16, 16))
    sign = np.where(labels == 0, -tint, tint)[:, None, None]
    pixels[:, 0] += sign
    pixels[:, 2] -= sign
    return PixelSplit(np.clip(pixels, 0, 255).astype(np.uint8), np.arange(count), labels, 2)


def setting(recipe: Recipe = PLAIN, num_classes: int = 2) -> Setting:
    return Setting(num_classes, "protected", recipe, CPU, seed=0)


def fresh(num_classes: int = 2, seed: int = 0) -> Net:
    return build("vgg-w16", num_classes, 16, seed=seed)


def accuracy(split: Split, countermeasure: str, test: Split) -> float:
    hooks = parse(countermeasure).hooks(setting())
    predictor = train(fresh(), split, PLAIN, device=CPU, seed=0, hooks=hooks)
    predicted, labels = predict(predictor, test, CPU)
    return (predicted == labels).float().mean().item()


def batch(count: int = 24, channels: int = 3, classes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, 16, 16, generator=generator), torch.arange(count) % classes


def rows_of(split: Split) -> set[int]:
    return {row for batch in split.batches(100) for row in batch.rows.tolist()}
