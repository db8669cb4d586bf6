"""What every registered victim promises: it trains on small images and runs on large ones."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crafting.batch import PixelSplit
from crafting.nets import ARCHITECTURES, Net, build, num_parameters
from crafting.training import Recipe, train
from evaluation.victims import VICTIMS, victim

CPU = torch.device("cpu")
CLASSES, ROWS = 2, 8

# Millions of parameters for ten classes, and the side of what is pooled at the end, at 32 pixels.
FACTS = {
    "vgg-w16": (0.1, 4),
    "resnet10-w16": (0.3, 4),
    "resnet18-w16": (0.7, 4),
    "resnet18": (11.2, 4),
    "resnet50": (23.5, 4),
    "wide-resnet-34-10": (46.2, 8),
    "senet18": (11.3, 4),
    "vgg16": (14.7, 1),
    "vgg19": (20.0, 1),
    "densenet121": (7.0, 4),
    "googlenet": (5.6, 8),
    "mobilenetv2": (2.2, 4),
    "efficientnet-b1": (6.5, 4),
    "efficientnetv2-s": (20.2, 4),
    "regnetx-1.6gf": (8.3, 4),
    "deit-tiny": (5.4, 8),
}
LONGEST = 80
"""Times as costly as vgg-w16: what costs more is left to the slow tests."""


def _split(size: int) -> PixelSplit:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (ROWS, 3, size, size), dtype=np.uint8)
    return PixelSplit(pixels, np.arange(ROWS), np.arange(ROWS) % CLASSES, CLASSES)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] * (entry.cost > LONGEST), id=name)
        for name, entry in VICTIMS.items()
    ],
)
def untrained(request: pytest.FixtureRequest) -> tuple[str, Net]:
    """Every victim's name and its net, for 2 classes and images of 32x32."""
    return request.param, build(victim(request.param).net, CLASSES, 32)


def _stepped(net: Net, recipe: Recipe, seed: int) -> Net:
    """A copy after one step on all rows, at the recipe's peak rate."""
    steady = replace(recipe, schedule="multistep", milestones=(), epochs=1, batch_size=ROWS)
    trained = copy.deepcopy(net)
    train(trained, _split(net.net_size), steady, device=CPU, seed=seed)
    return trained


def _places(net: Net, x: Tensor) -> list[int]:
    """The side of every map that a layer of `net` makes of x; a transformer's are of patches."""
    sides: list[int] = []

    def note(module: nn.Module, inputs: object, out: object) -> None:
        if isinstance(out, Tensor) and out.dim() == 4:
            sides.append(out.shape[-1])

    handles = [m.register_forward_hook(note) for m in net.modules()]
    with torch.no_grad():
        net.eval()(x)
    for handle in handles:
        handle.remove()
    return sides


def test_one_step_from_one_seed_is_always_the_same(untrained: tuple[str, Net]) -> None:
    name, net = untrained
    recipe = victim(name).recipe("quick")
    first, again = _stepped(net, recipe, seed=1), _stepped(net, recipe, seed=1)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert all(p.isfinite().all() for p in first.parameters())
    before, after = list(net.parameters()), list(first.parameters())
    assert all(not torch.equal(before[n], after[n]) for n in (0, -1))


def test_it_has_as_many_answers_as_classes_and_features_as_it_says(
    untrained: tuple[str, Net],
) -> None:
    name, net = untrained
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert net.eval()(x).shape == (2, CLASSES)
        width = ARCHITECTURES[victim(name).net].width(32)
        assert net.features(x).shape == (2, width)


def test_small_images_keep_their_resolution_at_first(untrained: tuple[str, Net]) -> None:
    name, net = untrained
    sides = _places(net, torch.rand(1, 3, 32, 32))
    if name != "deit-tiny":
        assert sides[0] == 32
    assert min(side for side in sides if side > 1 or FACTS[name][1] == 1) == FACTS[name][1]


def test_it_is_as_large_as_the_table_says(untrained: tuple[str, Net]) -> None:
    name, net = untrained
    eight_more_classes = 8 * (net.head.in_features + 1)
    size = num_parameters(net) + eight_more_classes
    assert round(size / 1e6, 1) == FACTS[name][0]


def test_every_victim_is_in_the_table() -> None:
    assert set(FACTS) == set(VICTIMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", VICTIMS)
def test_it_trains_on_large_images(name: str) -> None:
    net = build(victim(name).net, CLASSES, 224)
    trained = _stepped(net, victim(name).recipe("quick"), seed=0)
    assert all(v.isfinite().all() for v in trained.state_dict().values() if v.is_floating_point())
    width = ARCHITECTURES[victim(name).net].width(224)
    sides = _places(trained, torch.rand(1, 3, 224, 224))
    assert min(side for side in sides if side > 1) in (7, 14)
    with torch.no_grad():
        assert trained.features(torch.rand(1, 3, 200, 260)).shape == (1, width)
