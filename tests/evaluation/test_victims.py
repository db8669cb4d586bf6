"""The table of victims."""

from __future__ import annotations

import pytest

from crafting.nets import names
from evaluation.victims import VICTIMS, default_victims, is_held_out, victim


def test_every_victim_is_a_net_that_can_be_built() -> None:
    assert all(entry.net in names() for entry in VICTIMS.values())
    assert all(name == entry.name for name, entry in VICTIMS.items())


def test_a_misspelt_victim_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean vgg-w16"):
        victim("vgg-w61")


def test_full_recipe_is_that_of_the_paper() -> None:
    recipe = victim("resnet18").recipe("paper")
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (120, 128, 5e-4)
    rates = [recipe.rate((epoch - 0.5) / 120) for epoch in (1, 75, 76, 90, 91, 120)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_large_images_meet_the_recipe_for_them() -> None:
    rates = {name: victim(name).recipe("paper", net_size=224).lr for name in ("vgg16", "resnet50")}
    assert rates == {"vgg16": 0.01, "resnet50": 0.1}
    for name in ("vgg19", "densenet121"):
        small, large = (victim(name).recipe("paper", net_size=size) for size in (64, 65))
        assert (small.lr, small.weight_decay, large.weight_decay) == (0.1, 5e-4, 1e-4)
    assert victim("vgg16").recipe("quick", net_size=224).weight_decay == 5e-4


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_the_transformer_is_trained_by_adamw_and_others_by_sgd(preset: str) -> None:
    for size in (32, 224):
        optimisers = {
            name: entry.recipe(preset, net_size=size).optimiser  # type: ignore[arg-type]
            for name, entry in VICTIMS.items()
        }
        assert optimisers.pop("deit-tiny") == "adamw"
        assert set(optimisers.values()) == {"sgd"}


def test_every_net_is_a_victim_and_the_cheapest_comes_first() -> None:
    assert set(VICTIMS) == set(names())
    costs = [entry.cost for entry in VICTIMS.values()]
    assert costs == sorted(costs)
    assert costs[0] == victim("vgg-w16").cost == 1


def test_quick_recipe_takes_twenty_epochs_unless_told_otherwise() -> None:
    entry = victim("vgg-w16")
    assert entry.recipe("quick").epochs == 20
    assert entry.recipe("quick", epochs=3).epochs == 3


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_some_default_victim_is_held_out_from_any_surrogate(preset: str) -> None:
    chosen = [victim(name) for name in default_victims(preset)]  # type: ignore[arg-type]
    assert all(any(is_held_out(entry, [net]) for entry in chosen) for net in names())


def test_a_victim_is_held_out_from_other_architectures_and_from_no_surrogate() -> None:
    assert not is_held_out(victim("vgg-w16"), ["resnet10-w16", "vgg-w16"])
    assert is_held_out(victim("vgg-w16"), ["resnet10-w16"])
    assert is_held_out(victim("vgg-w16"), [])
