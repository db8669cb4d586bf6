"""Surrogates that learn from images which an adversary made worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from crafting.adversarial import LinfBall, adversarial_loss, pgd
from crafting.batch import PixelSplit
from crafting.method import Context
from crafting.nets import build
from crafting.registry import configure, methods
from crafting.surrogate import SurrogateMethod
from crafting.training import cross_entropy, named_recipe


def _method(name: str, **changes: Any) -> Any:
    quick = methods()[name].quick
    return replace(quick, **({"surrogate_epochs": 2, "checkpoints": 1} | changes))


def test_a_robust_surrogate_withstands_an_adversary(
    toy_split: Callable[..., PixelSplit], context: Callable[..., Context]
) -> None:
    """The toy's classes differ by 60 levels on average, so its adversary has to be strong."""
    split, losses = toy_split(rows=24), []
    adversary = {"robust_levels": 32.0, "robust_steps": 2, "robust_step_levels": 24.0}
    trained = _method("tap"), _method("entf-push", **adversary)
    whole = next(split.batches(24))
    for method in trained:
        ctx = context(split)
        net = method.load_unfolded(replace(method, surrogate_epochs=30).fit(split, ctx), ctx)
        torch.manual_seed(0)
        worse = pgd(net, whole.x, whole.labels(), ball=LinfBall(24), steps=5)
        losses.append(cross_entropy(net, worse, whole.labels()).item())
    assert losses[1] < losses[0] / 2


def test_a_robust_surrogate_has_its_own_state() -> None:
    plain, robust = _method("tap"), _method("entf-push", robust_steps=3, surrogate_epochs=8)
    assert plain.fit_key()["surrogate"] == robust.fit_key()["surrogate"]
    others = {"robust_levels": 2.0, "robust_steps": 2, "robust_step_levels": 1.0}
    keys = [replace(plain, surrogate_epochs=8).fit_key(), robust.fit_key()]
    keys += [replace(robust, **{name: value}).fit_key() for name, value in others.items()]
    assert all(keys.count(key) == 1 for key in keys)
    assert _method("entf-pull", robust_steps=3, surrogate_epochs=8).fit_key() == keys[1]
    assert robust.fit_epochs == round(8 * (1 + 3 * 0.67))


def test_the_adversary_takes_the_steps_it_is_told(split: PixelSplit) -> None:
    method = methods()["entf-push"].paper
    assert isinstance(method, SurrogateMethod)
    batch, net, losses = next(split.batches(12)), build("vgg-w16", 3, 16).eval(), []
    for loss in (method.hooks().loss, adversarial_loss(LinfBall(4), 10, 2.0)):
        torch.manual_seed(0)
        losses.append(loss(net, batch.x, batch.labels()))
    torch.manual_seed(0)
    worse = pgd(net, batch.x, batch.labels(), ball=LinfBall(4), steps=10, step=2.0)
    assert losses[0] == losses[1] == cross_entropy(net, worse, batch.labels())
    rates = [named_recipe("at", "resnet18", 100).rate(at / 100) for at in (74, 76, 89, 91)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("option", ["robust_levels", "robust_step_levels"])
def test_an_adversary_that_does_nothing_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="an adversary needs"):
        configure("entf-pull", "quick", settings={option: "0"})
