from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crafting.budget import L0, L2, Budget, Linf, Sum, Unbounded, parse

BUDGETS: list[Budget] = [
    Linf(1),
    Linf(8),
    L2(0.05),
    L2(1.0),
    L0(1),
    L0(5),
    Unbounded(),
    Sum((Linf(8), L0(1))),
    Sum((L0(1), Linf(8))),
    Sum((Linf(2), L2(0.5))),
    Sum((L2(0.5), L0(2))),
    Sum((L2(0.5), Linf(2), L0(1))),
]


@given(
    budget=st.sampled_from(BUDGETS),
    seed=st.integers(0, 2**32 - 1),
    reach=st.sampled_from([0.0, 0.01, 0.04, 0.5, 3.0]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_ships_is_within_budget(budget: Budget, seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    clean8 = torch.from_numpy(rng.integers(0, 256, (4, 3, 6, 5), dtype=np.uint8))
    clean8[0], clean8[1] = 0, 255
    clean = clean8.float() / 255
    proposal = clean + reach * torch.from_numpy(rng.standard_normal(clean.shape)).float()

    shipped = budget.quantise(proposal, clean)

    assert shipped.dtype == torch.uint8
    assert budget.holds((shipped.float() - clean8.float()) / 255).all()


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_text_and_budget_are_two_forms_of_one_thing(budget: Budget) -> None:
    assert parse(str(budget)) == budget


def test_linf_reaches_its_bound_and_no_further() -> None:
    clean = torch.full((1, 1, 2, 2), 100 / 255)
    assert set(Linf(8).quantise(clean + 1, clean).flatten().tolist()) == {108}
    assert set(Linf(8).quantise(clean - 1, clean).flatten().tolist()) == {92}


def test_an_image_of_fewer_pixels_than_the_budget_may_change_whole() -> None:
    clean = torch.zeros(1, 3, 1, 2)
    assert L0(3).quantise(clean + 1, clean).eq(255).all()


def test_holds_sees_one_value_too_many() -> None:
    delta = torch.zeros(2, 3, 4, 4)
    delta[1, 0, 1, 2] = 9 / 255
    assert Linf(8).holds(delta).tolist() == [True, False]
    delta[1, 0, 3, 3] = 1 / 255
    assert L0(1).holds(delta).tolist() == [True, False]
    assert L2(9 / 255).holds(delta).tolist() == [True, False]


def test_a_sum_allows_what_its_parts_allow_together() -> None:
    delta = torch.full((1, 1, 4, 4), 8 / 255)
    delta[0, 0, 1, 2] = 1.0
    assert parse("linf:8+l0:1").holds(delta).all()
    assert not parse("linf:8").holds(delta).any()
    delta[0, 0, 3, 3] = 9 / 255
    assert not parse("linf:8+l0:1").holds(delta).any()
    assert parse("linf:8+l0:1").nearest(delta)[0, 0, 1, 2] == 1.0


def test_l0_keeps_the_pixels_that_moved_most() -> None:
    delta = torch.zeros(1, 3, 4, 4)
    delta[0, :, 0, 0], delta[0, 1, 2, 2] = 0.1, 0.5
    kept = L0(1).nearest(delta)
    assert kept[0, 1, 2, 2] == 0.5
    assert kept.count_nonzero() == 1


@pytest.mark.parametrize("text", ["", "linf", "linf:0", "linf:8.5", "l2:-1", "l1:3", "linf:8+l9:1"])
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="linf:8"):
        parse(text)


def test_l2_step_has_the_length_asked_for() -> None:
    step = L2(1.0).step(torch.randn(2, 3, 4, 4), 51)
    assert torch.allclose(step.flatten(1).norm(dim=1), torch.tensor(0.2))


@pytest.mark.parametrize("budget", [Linf(8), L2(1.0), L0(12), Unbounded()], ids=str)
def test_pixels_are_rounded_and_not_cut_off(budget: Budget) -> None:
    clean = torch.full((1, 1, 3, 4), 100 / 255)
    moved = torch.tensor([-1.6, -1.4, -0.6, -0.4, 0.4, 0.6, 1.4, 1.6, 2.4, 2.6, -2.4, -2.6])
    shipped = budget.quantise(clean + moved.view(1, 1, 3, 4) / 255, clean).flatten().int() - 100
    assert shipped.tolist() == [-2, -1, -1, 0, 0, 1, 1, 2, 2, 3, -2, -3]
