"""Images whose class is their colour, and nets that learn from them."""

from __future__ import annotations

import copy

import numpy as np
import torch

from crafting.batch import PixelSplit
from crafting.nets import Net, build
from crafting.training import Predictor, Recipe, predict, train
from evaluation.countermeasures import Setting, parse
from evaluation.scoring import accuracy

CPU = torch.device("cpu")
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])
RECIPE = Recipe(3, batch_size=50, lr=0.2)


def coloured(count: int, seed: int, shift: int = 0) -> PixelSplit:
    """Images (3,16,16) of four colours; with a shift they are labelled as the next colour."""
    generator = np.random.default_rng(seed)
    colours = np.arange(count) % 4
    noise = generator.normal(0, 30, (count, 3, 16, 16))
    pixels = np.clip(COLOURS[colours][:, :, None, None] + noise, 0, 255).astype(np.uint8)
    return PixelSplit(pixels, np.arange(count), (colours + shift) % 4, 4)


def setting(owned: PixelSplit | None = None, recipe: Recipe = RECIPE) -> Setting:
    return Setting(4, "protected", recipe, CPU, seed=0, owned=owned)


def net(seed: int = 0) -> Net:
    return build("vgg-w16", 4, 16, seed)


def scored(predictor: Predictor, split: PixelSplit) -> float:
    predicted, labels = predict(predictor, split, CPU)
    return accuracy(predicted.numpy(), labels.numpy())


def tried(
    text: str, split: PixelSplit, owned: PixelSplit | None = None, recipe: Recipe = RECIPE
) -> tuple[Net, Predictor]:
    made, victim = parse(text), net()
    recipe = made.recipe(recipe)
    hooks = made.hooks(setting(owned, recipe))
    return victim, train(victim, split, recipe, device=CPU, seed=1, hooks=hooks)


def healed(text: str, misled: tuple[Net, PixelSplit]) -> tuple[Net, Predictor]:
    """The net after the countermeasure's last hook, and the predictor."""
    victim, split = copy.deepcopy(misled[0]).eval(), misled[1]
    hooks = parse(text).hooks(setting(coloured(40, 3)))
    return victim, hooks.finish(victim, split, train)  # type: ignore[arg-type]
