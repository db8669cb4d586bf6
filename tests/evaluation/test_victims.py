"""The table of victims."""

from __future__ import annotations

import pytest

from crafting.nets import names
from evaluation.victims import VICTIMS, default_victims, is_held_out, victim


def test_every_victim_is_a_net_that_can_be_built() -> None:
    assert {entry.net for entry in VICTIMS.values()} <= set(names())
    assert all(name == entry.name for name, entry in VICTIMS.items())


def test_a_misspelt_victim_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean vgg-w16"):
        victim("vgg-w61")


def test_full_recipe_is_that_of_the_paper() -> None:
    recipe = victim("resnet18").recipe("paper")
    assert (recipe.epochs, recipe.batch_size, recipe.weight_decay) == (120, 128, 5e-4)
    rates = [recipe.rate((epoch - 0.5) / 120) for epoch in (1, 75, 76, 90, 91, 120)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_quick_recipe_takes_twenty_epochs_unless_told_otherwise() -> None:
    entry = victim("vgg-w16")
    assert entry.recipe("quick").epochs == 20
    assert entry.recipe("quick", epochs=3).epochs == 3


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_some_default_victim_is_held_out_from_any_surrogate(preset: str) -> None:
    chosen = [victim(name) for name in default_victims(preset)]  # type: ignore[arg-type]
    assert all(any(is_held_out(entry, net) for entry in chosen) for net in names())


def test_a_victim_is_held_out_from_other_architectures_and_from_no_surrogate() -> None:
    assert not is_held_out(victim("vgg-w16"), "vgg-w16")
    assert is_held_out(victim("vgg-w16"), "resnet10-w16")
    assert is_held_out(victim("vgg-w16"), None)
