"""The nets that try to learn from a release: a net of crafting.nets and how it is trained.

A victim enters by one row of `VICTIMS`. Victims are trained from scratch and share nothing with the
surrogate but, where `is_held_out` says so, its architecture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from crafting.nets import is_small
from crafting.registry import Preset, lookup
from crafting.training import Recipe, named_recipe

_FULL_EPOCHS, _QUICK_EPOCHS = 120, 20
_LEAST_OF_FULL = 10
"""The cost of the cheapest net of a usual size is above this, in epochs of vgg-w16."""
_LARGE_WEIGHT_DECAY, _LARGE_VGG_RATE = 1e-4, 0.01


@dataclass(frozen=True)
class Victim:
    """A net and its training: recipe_full is that of Chen et al. 2023 (120 epochs), recipe_large
    what they change for ImageNet, used on images of more than 64 pixels a side, but with the crops
    of padded images that small ones have, where papers on ImageNet crop at random sizes
    (RandomResizedCrop); recipe_quick trains on thousands of images in 20 epochs; cost is the time
    of one epoch relative to vgg-w16's."""

    name: str
    net: str
    recipe_full: Recipe
    recipe_large: Recipe
    recipe_quick: Recipe
    cost: float

    @property
    def is_small(self) -> bool:
        """Whether it is a net for minutes on a CPU, far below what people would train."""
        return self.cost < _LEAST_OF_FULL

    def recipe(self, preset: Preset, epochs: int | None = None, net_size: int = 32) -> Recipe:
        """How it is trained under this preset on images of `net_size` pixels a side, for `epochs`
        instead of its own where given."""
        full = self.recipe_full if is_small(net_size) else self.recipe_large
        recipe = full if preset == "paper" else self.recipe_quick
        return recipe if epochs is None else replace(recipe, epochs=epochs)


def _victim(net: str, cost: float) -> Victim:
    full = named_recipe("sep", net, _FULL_EPOCHS)
    large = replace(full, weight_decay=_LARGE_WEIGHT_DECAY)
    quick = named_recipe("fast", net, _QUICK_EPOCHS)
    return Victim(net, net, full, large, quick, cost)


def _vgg(net: str, cost: float) -> Victim:
    """Their VGG learns ImageNet at a tenth of the rate."""
    made = _victim(net, cost)
    return replace(made, recipe_large=replace(made.recipe_large, lr=_LARGE_VGG_RATE))


def _transformer(net: str, cost: float) -> Victim:
    """SGD hardly trains one: AdamW for as many epochs, whatever the images' size."""
    full = named_recipe("vit", net, _FULL_EPOCHS)
    return Victim(net, net, full, full, named_recipe("vit", net, _QUICK_EPOCHS), cost)


VICTIMS: Mapping[str, Victim] = {
    made.name: made
    for made in (
        _victim("vgg-w16", cost=1),
        _victim("resnet10-w16", cost=1.6),
        _victim("resnet18-w16", cost=2.8),
        _vgg("vgg16", cost=15),
        _vgg("vgg19", cost=18),
        _victim("mobilenetv2", cost=21),
        _transformer("deit-tiny", cost=26),
        _victim("resnet18", cost=27),
        _victim("senet18", cost=27),
        _victim("regnetx-1.6gf", cost=43),
        _victim("densenet121", cost=60),
        _victim("efficientnet-b1", cost=73),
        _victim("resnet50", cost=86),
        _victim("efficientnetv2-s", cost=86),
        _victim("googlenet", cost=88),
        _victim("wide-resnet-34-10", cost=280),
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


def is_held_out(victim: Victim, surrogates: Collection[str]) -> bool:
    """Whether the noise was made without this victim's architecture; always so for methods that
    train no surrogate."""
    return victim.net not in surrogates
