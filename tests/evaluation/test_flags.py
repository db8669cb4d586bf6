"""Each flag is raised by what deserves it, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from trials import trial

from evaluation.flags import CHECKS, Doubted, raised
from evaluation.gate import Gate

SOUND = [trial(), trial(seed=1)]


def ids(trials: Any = None, **changes: Any) -> list[str]:
    facts = {"num_classes": 10, "gate": Gate(), "license": "mit", "preset": "paper"} | changes
    chosen = SOUND if trials is None else trials
    flags = raised(Doubted(trials=chosen, **facts))
    assert all(flag.text.endswith(".") for flag in flags)
    return [flag.id for flag in flags]


def with_one(**changes: Any) -> list[Any]:
    return [*SOUND, trial(**changes)]


def test_sound_figures_raise_no_flag() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("expected", "trials"),
    [
        ("victim-not-held-out", with_one(held_out=False)),
        ("clean-twin-weak", with_one(clean=0.31, protected=0.1, peak=0.1, renamed=0.1)),
        ("too-few-epochs", with_one(epochs=9)),
        ("too-few-epochs", with_one(drift=0.06)),
        ("peak-above-gate", with_one(peak=0.41)),
        ("renamed-above-gate", with_one(renamed=0.41)),
        ("countermeasure-above-gate", with_one(countermeasure="grayscale", protected=0.41)),
        ("one-seed", [trial()]),
        ("not-verified", []),
    ],
)
def test_a_flag_is_raised_alone_by_its_cause(expected: str, trials: list[Any]) -> None:
    assert ids(trials) == [expected]


@pytest.mark.parametrize(
    "trials",
    [
        with_one(clean=0.33, protected=0.1, peak=0.1, renamed=0.1),
        with_one(epochs=10, drift=0.05),
        with_one(peak=0.39, renamed=0.39),
        with_one(countermeasure="grayscale", protected=0.39, peak=0.5, renamed=0.5),
    ],
)
def test_figures_just_inside_raise_no_flag(trials: list[Any]) -> None:
    assert ids(trials) == []


@pytest.mark.parametrize("license", [None, "", "unknown"])
def test_a_missing_licence_is_told(license: str | None) -> None:
    assert ids(license=license) == ["no-license"]


def test_the_quick_preset_is_told() -> None:
    assert ids(preset="quick") == ["small-networks-only"]


def test_flags_follow_a_chosen_accuracy() -> None:
    assert ids(gate=Gate(max_accuracy=0.2)) == ["peak-above-gate", "renamed-above-gate"]


def test_a_flag_names_its_victims_once() -> None:
    trials = [trial(victim="resnet18-w16", seed=seed, epochs=2) for seed in (0, 1)]
    facts = Doubted(trials, 10, Gate(), "mit", "paper")
    assert raised(facts)[0].text.startswith("resnet18-w16 trained for fewer")


def test_ids_are_for_machines() -> None:
    assert all(name == name.lower() and " " not in name for name in CHECKS)
