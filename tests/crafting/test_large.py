"""Images that are crafted alone, smaller than they are, and compared piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crafting import large
from crafting.batch import Batch
from crafting.budget import Budget, parse
from crafting.large import enlarged, holds, protect_alone

BUDGETS = [
    *("linf:8", "l2:1.0", "l0:2", "unbounded", "linf:4+l0:2", "linf:2+l2:1", "l2:0.5+l0:1"),
    *("linf:3+l2:0.5+l0:2", "linf:3+linf:2"),
]
BUDGET = st.sampled_from(BUDGETS).map(parse)
SEED = st.integers(0, 2**32 - 1)
CPU = torch.device("cpu")


def _delta(before: np.ndarray, after: np.ndarray) -> Tensor:
    return torch.from_numpy(after.astype(np.float32) - before).permute(2, 0, 1)[None] / 255


@given(budget=BUDGET, seed=SEED, piece=st.sampled_from([1, 40, 1 << 22]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_looked_at_piece_by_piece_a_budget_is_what_it_is(
    budget: Budget, seed: int, piece: int
) -> None:
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    change = rng.integers(-3, 4, before.shape) * rng.integers(0, 5)
    change[rng.random(before.shape) < rng.random()] = 0
    for _ in range(rng.integers(0, 4)):
        change[rng.integers(8), rng.integers(9)] = rng.integers(-200, 200)
    after = (before + change).clip(0, 255).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "_PIECE", piece)
        found = holds(budget, before, after)
    assert found == bool(budget.holds(_delta(before, after)))


@given(budget=BUDGET, seed=SEED, channels=st.sampled_from([1, 3]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_enlarged_is_within_budget(budget: Budget, seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 256, (37, 53, channels), dtype=np.uint8)
    small = rng.integers(0, 256, (11, 13, channels), dtype=np.uint8)
    x = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    made = budget.quantise(x + 0.2 * torch.randn_like(x), x)[0].permute(1, 2, 0).numpy()
    assert budget.holds(_delta(clean, enlarged(budget, clean, small, made))).all()


def test_each_pixel_gets_the_noise_of_the_nearest_place() -> None:
    clean, small = np.full((4, 6, 3), 100, np.uint8), np.full((2, 2, 3), 100, np.uint8)
    made = small + np.array([[8, -8], [3, 0]], np.int8)[..., None].astype(np.uint8)
    made[0, 1] = 92
    out = enlarged(parse("linf:8"), clean, small, made)[..., 0]
    assert out.tolist() == [[108] * 3 + [92] * 3] * 2 + [[103] * 3 + [100] * 3] * 2


def test_of_few_pixels_each_stays_one_in_the_middle_of_its_place() -> None:
    clean, small = np.full((9, 9, 3), 100, np.uint8), np.full((3, 3, 3), 100, np.uint8)
    made = small.copy()
    made[2, 0] = (255, 0, 255)
    out = enlarged(parse("l0:1"), clean, small, made)
    changed = np.argwhere((out != clean).any(2)).tolist()
    assert changed == [[7, 1]]
    assert out[7, 1].tolist() == [255, 0, 255]


def test_noise_of_a_length_fills_the_budget_of_the_larger_image() -> None:
    rng = np.random.default_rng(0)
    clean, small = (rng.integers(40, 210, (side, side, 3), np.uint8) for side in (160, 40))
    budget = parse("l2:20")
    x = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    made = budget.quantise(x + torch.randn_like(x), x)[0].permute(1, 2, 0).numpy()
    length = float(_delta(clean, enlarged(budget, clean, small, made)).norm())
    assert 18 < length <= 20


@dataclass
class _Darker:
    """A crafter that notes what it was given."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Tensor:
        self.shapes.append(tuple(batch.x.shape))
        assert batch.rows.tolist() == [7]
        assert batch.labels().tolist() == [2]
        return batch.x - 5 / 255


def test_an_image_is_crafted_once_and_no_larger_than_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large, "MOST_VALUES", 3 * 20 * 10)
    crafter = _Darker()
    for shape in ((20, 10, 3), (200, 100, 3), (300, 2, 1)):
        clean = np.full(shape, 100, np.uint8)
        made = protect_alone(crafter, parse("linf:4"), 7, clean, 2, CPU)
        assert made.shape == shape
        assert (made == 96).all()
    assert crafter.shapes == [(1, 3, 20, 10), (1, 3, 20, 10), (1, 1, 300, 2)]
