"""What a release is expected to take, from rates that are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crafting.method import Method
from crafting.registry import configure
from evaluation.countermeasures import parse
from evaluation.trial import TrialSpec
from release.forecast import _seconds

RATES = {"train": {"vgg-w16": 300.0, "resnet10-w16": 100.0}, "craft": 50.0}


def _expected(method: Method, *, fitted: bool = False, **changes: Any) -> dict[str, float]:
    shape = {"fit_rows": 1000, "fit_share": 1.0, "num_rows": 500, "test_rows": 9000}
    shape |= {"old_rows": 0, "is_increment": False}
    ranks = {"fit_workers": 1, "fit_threads": 2, "workers": 2, "device": "cpu"}
    plan: Any = SimpleNamespace(
        configured=lambda: method, **(shape | ranks | {"verify": False} | changes)
    )
    return _seconds(plan, RATES, fitted=fitted)


def test_a_surrogate_takes_its_epochs_and_images_their_passes() -> None:
    seconds = _expected(configure("sep-fa-mi", "quick"))  # 20 epochs, 15 passes
    assert seconds["fit"] == pytest.approx(20 * 1000 / 300 / 2, abs=0.1)
    assert seconds["craft"] == pytest.approx(500 * 15 / 50 / 2, abs=0.1)


def test_threads_make_no_gpu_faster() -> None:
    seconds = _expected(configure("sep-fa-mi", "quick"), device="cuda", fit_threads=16)
    assert seconds["fit"] == pytest.approx(20 * 1000 / 300, abs=0.1)


def test_only_rows_that_the_fit_did_not_see_take_the_passes_of_new_ones() -> None:
    em = configure("em", "quick")  # 10 steps on a row that it did not see
    assert _expected(em)["craft"] == 0
    assert _expected(em, fit_rows=400)["craft"] == pytest.approx(100 * 10 / 50 / 2, abs=0.1)
    assert _expected(em, is_increment=True)["craft"] == pytest.approx(500 * 10 / 50 / 2, abs=0.1)


def test_every_net_of_an_ensemble_takes_its_own_time() -> None:
    nets = {"nets": "vgg-w16,resnet10-w16", "seeds": "2"}
    seconds = _expected(configure("ensemble", "quick", settings=nets))
    assert seconds["fit"] == pytest.approx(2 * 20 * (1000 / 300 + 1000 / 100) / 2, abs=0.1)


def test_an_adversary_takes_longer_than_plain_training() -> None:
    plain, robust = (_expected(configure(name, "quick")) for name in ("tap", "entf-push"))
    assert robust["fit"] == pytest.approx(3 * plain["fit"], rel=0.05)


def test_without_a_surrogate_nothing_is_fitted() -> None:
    assert _expected(configure("random-noise", "quick"))["fit"] == 0


def test_a_share_of_the_rows_takes_as_many_steps_as_all_of_them() -> None:
    method = configure("sep-fa-mi", "quick")
    whole, share = _expected(method), _expected(method, fit_rows=100, fit_share=0.1)
    assert share["fit"] == whole["fit"]


def test_a_training_takes_its_epochs_their_scores_and_what_its_countermeasure_costs() -> None:
    def verified(*countermeasures: str, **changes: Any) -> float:
        specs = [
            TrialSpec(
                victim="vgg-w16", countermeasure=name, seed=0, data="protected", preset="quick"
            )
            for name in countermeasures
        ]
        changes |= {"verify": True, "trials": lambda: specs}
        return _expected(configure("random-noise", "quick"), **changes)["verify"]

    plain = 20 * (1000 + 2000 / 3) + 9000 / 3
    assert verified("none") == pytest.approx(plain / 300, abs=0.1)
    slower = plain + (parse("at-linf").cost - 1) * 20 * 1000
    assert parse("at-linf").cost > 5
    assert verified("none", "at-linf") == pytest.approx((plain + slower) / 300 / 2, abs=0.1)
    assert verified("none", test_rows=300) == pytest.approx((20 * 1100 + 100) / 300, abs=0.1)


def test_victims_of_an_increment_train_on_what_it_adds_with_what_was_there() -> None:
    """Not on the share of the rows that its own surrogate is fitted on."""

    def verified(rows: Any) -> float:
        spec = TrialSpec(victim="vgg-w16", seed=0, data="protected", preset="quick", rows=rows)
        increment = {"fit_rows": 100, "old_rows": 4000, "is_increment": True, "test_rows": 300}
        changes: dict[str, Any] = increment | {"verify": True, "trials": lambda: [spec]}
        return _expected(configure("random-noise", "quick"), **changes)["verify"]

    assert verified("release") == pytest.approx((20 * (4500 + 100) + 100) / 300, abs=0.1)
    assert verified("new") == pytest.approx((20 * (500 + 100) + 100) / 300, abs=0.1)


def test_a_state_that_is_kept_is_not_fitted_again() -> None:
    method = configure("sep-fa-mi", "quick")
    kept, new = _expected(method, fitted=True), _expected(method)
    assert kept["fit"] == 0 < new["fit"]
    assert kept["craft"] == new["craft"]
