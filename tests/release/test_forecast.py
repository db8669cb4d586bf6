"""What a release is expected to take, from rates that are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crafting.method import Method
from crafting.registry import configure
from release.forecast import _seconds

RATES = {"train": {"vgg-w16": 300.0, "resnet10-w16": 100.0}, "craft": 50.0}


def _expected(method: Method) -> dict[str, float]:
    plan: Any = SimpleNamespace(
        configured=lambda: method,
        fit_workers=1,
        fit_threads=2,
        fit_rows=1000,
        num_rows=500,
        workers=2,
        verify=False,
    )
    return _seconds(plan, RATES)


def test_a_surrogate_takes_its_epochs_and_images_their_passes() -> None:
    seconds = _expected(configure("sep-fa-mi", "quick"))  # 20 epochs, 15 passes
    assert seconds["fit"] == pytest.approx(20 * 1000 / 300 / 2, abs=0.1)
    assert seconds["craft"] == pytest.approx(500 * 15 / 50 / 2, abs=0.1)


def test_every_net_of_an_ensemble_takes_its_own_time() -> None:
    nets = {"nets": "vgg-w16,resnet10-w16", "seeds": "2"}
    seconds = _expected(configure("ensemble", "quick", settings=nets))
    assert seconds["fit"] == pytest.approx(2 * 20 * (1000 / 300 + 1000 / 100) / 2, abs=0.1)


def test_an_adversary_takes_longer_than_plain_training() -> None:
    plain, robust = (_expected(configure(name, "quick")) for name in ("tap", "entf-push"))
    assert robust["fit"] == pytest.approx(3 * plain["fit"], rel=0.05)


def test_without_a_surrogate_nothing_is_fitted() -> None:
    assert _expected(configure("random-noise", "quick"))["fit"] == 0
