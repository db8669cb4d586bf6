"""Which class entf-pull pulls to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.budget import Linf
from crafting.descent import Walk, image_gradient
from crafting.method import Context
from crafting.methods.entangled import nearest_other
from crafting.nets import build
from crafting.registry import methods
from crafting.surrogate import CENTRES


def _pull() -> Any:
    tiny: dict[str, Any] = {"surrogate_epochs": 2, "checkpoints": 1, "steps": 4, "robust_steps": 1}
    return replace(methods()["entf-pull"].quick, **tiny)


def test_the_nearest_other_class_is_found_however_far_it_is() -> None:
    torch.manual_seed(0)
    features, centres, y = torch.randn(40, 6), torch.randn(5, 6), torch.arange(40) % 5
    for scale in (1.0, 100.0):  # at 100 every other class is further than 1
        found = nearest_other(scale * features, scale * centres, y)
        for seen, own, chosen in zip(features, y.tolist(), found.tolist(), strict=True):
            distances = {k: F.mse_loss(seen, centres[k]).item() for k in range(5) if k != own}
            assert chosen == min(distances, key=distances.__getitem__)


def test_nothing_is_pulled_to_a_class_without_rows(split: PixelSplit, ctx: Context) -> None:
    ctx, method = replace(ctx, num_classes=5), _pull()
    centres = method.fit(replace(split, num_classes=5), ctx)[CENTRES][-1]
    kept = method._goals(centres)
    assert torch.equal(kept[:3], centres[:3])
    assert kept[3:].isinf().all()
    features, y = centres.mean(0) + 1e-4 * torch.randn(30, 64), torch.arange(30) % 3
    assert (nearest_other(features, centres, y) >= 3).all()
    chosen = nearest_other(features, kept, y)
    assert (chosen < 3).all()
    assert (chosen != y).all()
    two = torch.randn(2, 64)
    assert torch.equal(method._goals(two), two)
    assert torch.equal(method._goals(two[:1].repeat(4, 1)), two[:1].repeat(4, 1))


def test_the_class_that_is_pulled_to_is_chosen_anew_at_every_step() -> None:
    """From (.5,.5) the first signed step leads to (.6,.6), where another centre has come nearer."""
    centres = torch.tensor([[0.5, 0.5], [0.8, 0.51], [0.7, 0.75]])
    at, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    method, walk = _pull(), Walk(at, Linf(255), 25.5)

    def gradient(x: Tensor, t: int) -> Tensor:
        return image_gradient(lambda x: method._loss(lambda x: x.flatten(1), centres, y, x), x)

    places = [walk.descend(at, gradient, steps).flatten() for steps in (1, 2)]
    chosen = [nearest_other(place[None], centres, y).item() for place in (at.flatten(), places[0])]
    assert chosen == [1, 2]
    assert torch.allclose(places[0], torch.tensor([0.6, 0.6]))
    assert torch.allclose(places[1], torch.tensor([0.7, 0.7]))  # towards the first: (.7, .5)


@pytest.mark.parametrize("name", ["entf-push", "entf-pull"])
def test_the_last_net_looks_at_its_own_centres(name: str, ctx: Context, batch: Batch) -> None:
    torch.manual_seed(0)
    weights = [build("vgg-w16", 3, 16, seed=k).state_dict() for k in range(2)]
    centres = torch.rand(2, 3, 64)

    def crafted(*checkpoints: int) -> Tensor:
        state = {CENTRES: centres[list(checkpoints)]}
        for place, k in enumerate(checkpoints):
            state |= {f"checkpoint-{place:02d}/{key}": v for key, v in weights[k].items()}
        method = replace(methods()[name].quick, checkpoints=len(checkpoints), steps=2)  # type: ignore[call-arg]
        return method.crafter(state, ctx)(batch)

    assert torch.equal(crafted(0, 1), crafted(1))
    assert not torch.equal(crafted(0, 1), crafted(0))
