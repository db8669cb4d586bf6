from __future__ import annotations

from typing import Any

import pytest

from crafting.budget import L0, L2, Linf
from crafting.registry import by_name, configure, methods, parse_value


def test_settings_are_laid_over_the_preset() -> None:
    settings = {"steps": "6", "step_levels": "51", "normalise": "false"}
    method: Any = configure("sep-fa-vr", "quick", L2(1.0), settings)
    assert (method.steps, method.normalise, method.budget) == (6, False, L2(1.0))
    assert method.inner_steps == methods()["sep-fa-vr"].quick.inner_steps  # type: ignore[attr-defined]


def test_paper_presets_have_the_papers_figures() -> None:
    paper: Any = configure("sep-fa-vr", "paper")
    assert (paper.checkpoints, paper.inner_steps, paper.steps) == (15, 15, 30)
    assert (paper.surrogate_epochs, paper.step_levels, paper.normalise) == (120, 1, False)
    assert configure("sep", "paper").passes == 900
    assert configure("tap", "paper").passes == 2000


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("sep-fa-rv", {}, "sep-fa-vr"),
        ("sep", {"stpes": "3"}, "steps"),
        ("sep", {"steps": "many"}, "int"),
        ("sep-fa-vr", {"vr_center": "first"}, "own, last"),
        ("sep", {"normalise": "perhaps"}, "true or false"),
        ("sep", {"budget": "linf:4"}, "no option 'budget'"),
        ("sep", {"vr_center": "own"}, "no option 'vr_center'"),
    ],
)
def test_a_wrong_name_or_value_is_told_the_right_ones(
    name: str, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        configure(name, "quick", settings=settings)


def test_a_budget_that_a_method_cannot_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="it takes linf"):
        configure("random-noise", "quick", L0(1))


def test_values_are_read_as_their_field_says() -> None:
    assert parse_value("x", int, "3") == 3
    assert parse_value("x", float, "0.4") == 0.4
    assert parse_value("x", str, "vgg16") == "vgg16"
    assert configure("sep", "quick").budget == Linf(8)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_is_finite(text: str) -> None:
    with pytest.raises(ValueError, match=f"x is a finite number, not '{text}'"):
        parse_value("x", float, text)


def test_a_value_that_is_there_twice_is_not_dropped_unnoticed() -> None:
    assert by_name("x", ["a=1", " b = 2=3"]) == {"a": "1", "b": "2=3"}
    with pytest.raises(ValueError, match="x has a twice, '1' and '2': leave one of them out"):
        by_name("x", ["a=1", "b=1", "a=2"])
