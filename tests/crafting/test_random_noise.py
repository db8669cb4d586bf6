"""Random noise against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from crafting.batch import Batch
from crafting.budget import L2, Linf
from crafting.method import Context
from crafting.registry import methods


@pytest.fixture
def grey() -> Batch:
    return Batch(torch.arange(8), torch.full((8, 3, 16, 16), 0.5), None)


def test_within_linf_every_value_moves_by_all_of_it_up_or_down(grey: Batch, ctx: Context) -> None:
    method = replace(methods()["random-noise"].quick, budget=Linf(6))
    levels = (method.crafter({}, ctx)(grey) - grey.x) * 255
    assert torch.allclose(levels.abs(), torch.tensor(6.0), atol=1e-3)
    assert abs((levels > 0).float().mean() - 0.5) < 0.03
    assert len(levels.flatten(1).round().unique(dim=0)) == 8


def test_within_l2_it_points_anywhere_on_the_sphere(grey: Batch, ctx: Context) -> None:
    """A normal vector does: the fourth moment of its values is three times the squared second."""
    method = replace(methods()["random-noise"].quick, budget=L2(2.0))
    noise = method.crafter({}, ctx)(grey) - grey.x
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.tensor(2.0), atol=1e-4)
    assert noise.pow(4).mean() / noise.square().mean().square() == pytest.approx(3, abs=0.3)
    assert noise.mean().abs() < 0.05 * noise.std()
