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


PAPERS: dict[str, dict[str, Any]] = {
    "sep": {"checkpoints": 30, "steps": 30, "step_levels": 1.0, "surrogate_epochs": 120},
    "sep-fa": {"checkpoints": 30, "steps": 30, "step_levels": 1.0, "surrogate_epochs": 120},
    "ensemble": {"seeds": 6, "steps": 30, "step_levels": 1.0, "surrogate_epochs": 120},
    "tap": {"steps": 250, "step_levels": 0.4, "restarts": 8, "surrogate_epochs": 40},
    "alignment": {"steps": 240, "step_levels": 6.4, "restarts": 8, "surrogate_epochs": 40},
    "tensorclog": {"steps": 240, "step_levels": 6.4, "restarts": 8, "surrogate_epochs": 40},
    "hypo": {"steps": 100, "step_levels": 0.8, "surrogate_epochs": 10, "robust_levels": 2.0},
    "entf-push": {"steps": 300, "step_levels": 0.4, "surrogate_epochs": 100, "robust_levels": 4.0},
    "em": {"steps": 20, "step_levels": 0.8, "round_steps": 10, "stop_error": 0.01, "lr": 0.1},
    "em-class": {"steps": 1, "step_levels": 0.8, "round_steps": 10, "data_share": 0.2},
    "rem": {"steps": 10, "step_levels": 1.6, "draws": 5, "adversary_levels": 4.0, "epochs": 13},
    "sem": {"steps": 10, "step_levels": 1.6, "draws": 5, "adversary_levels": 4.0, "epochs": 13},
    "min-max-min": {"steps": 10, "step_levels": 1.6, "draws": 5, "weight": 1.0, "dar": "paper"},
    "deepconfuse": {"lr": 0.01, "inner_epochs": 20, "generator_lr": 1e-4, "batch_size": 256},
    "cuda": {"kernel": 3, "blur": 0.3},
    "lsp": {"cells": 4, "separation": 10.0},
    "uc": {"clusters": 10, "generator_epochs": 50, "generator_rate": 1e-4},
    "tue": {"steps": 20, "step_levels": 0.8, "every": 20, "separability": 0.1},
    "ntga": {"steps": 10, "time": 8.0, "kernel": "cnn", "ridge": 1e-4},
}
BUDGETS = {"ops": "l0:1", "lsp": "l2:1.304", "ar": "l2:1", "cuda": "unbounded", "uc": "linf:16"}


@pytest.mark.parametrize("name", PAPERS)
def test_papers_craft_with_their_own_figures(name: str) -> None:
    options = configure(name, "paper").options()
    assert PAPERS[name] == {option: options[option] for option in PAPERS[name]}


@pytest.mark.parametrize("name", methods())
def test_budgets_are_the_papers(name: str) -> None:
    default = "l0:3" if name == "ops-m" else "linf:8"
    assert str(configure(name, "paper").budget) == BUDGETS.get(name, default)


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
