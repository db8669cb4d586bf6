"""The nets that try to learn from a release: a net of crafting.nets and how it is trained.

A victim enters by one row of `VICTIMS`. Victims are trained from scratch and share nothing with the
surrogate but, where `is_held_out` says so, its architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crafting.registry import Preset, lookup
from crafting.training import Recipe, named_recipe

_FULL_EPOCHS, _QUICK_EPOCHS = 120, 20


@dataclass(frozen=True)
class Victim:
    """A net and its training: recipe_full is that of Chen et al. 2023 (120 epochs), recipe_quick
    trains small nets on thousands of images in 20 epochs; cost is the time of one epoch relative
    to vgg-w16's."""

    name: str
    net: str
    recipe_full: Recipe
    recipe_quick: Recipe
    cost: float

    def recipe(self, preset: Preset, epochs: int | None = None) -> Recipe:
        """How it is trained under this preset, for `epochs` instead of its own where given."""
        recipe = self.recipe_full if preset == "paper" else self.recipe_quick
        return recipe if epochs is None else replace(recipe, epochs=epochs)


def _victim(net: str, cost: float) -> Victim:
    full = named_recipe("sep", net, _FULL_EPOCHS)
    return Victim(net, net, full, named_recipe("fast", net, _QUICK_EPOCHS), cost)


VICTIMS: Mapping[str, Victim] = {
    made.name: made
    for made in (
        _victim("vgg-w16", cost=1),
        _victim("resnet10-w16", cost=1.6),
        _victim("resnet18-w16", cost=2.8),
        _victim("vgg16", cost=15),
        _victim("resnet18", cost=27),
        _victim("densenet121", cost=60),
    )
}


def victim(name: str) -> Victim:
    """The victim called `name`; ValueError names the nearest ones."""
    return lookup("victim", name, VICTIMS)


def default_victims(preset: Preset) -> tuple[str, ...]:
    """Who verifies a release of this preset where the owner names nobody."""
    if preset == "paper":
        return ("resnet18", "vgg16", "densenet121")
    return ("vgg-w16", "resnet10-w16")


def is_held_out(victim: Victim, surrogate_name: str | None) -> bool:
    """Whether the noise was made without this victim's architecture; always so for methods that
    train no surrogate."""
    return victim.net != surrogate_name
