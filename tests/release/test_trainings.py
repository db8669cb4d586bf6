"""Which trainings come first, who makes them, and which are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.trial import TrialSpec
from release import training
from release.training import Asked
from release.verification.plan import VerificationPlan

READ = {
    "config": None,
    "image_column": "image",
    "label_column": "label",
    "class_names": ["rose", "tulip"],
    "tar_image": None,
    "tar_label": None,
}
PLAN = VerificationPlan(
    release="org/flowers",
    target="org/flowers",
    on_hub=True,
    branch=None,
    facts={},
    license=None,
    source_is_public=False,
    surrogates=[],
    source=READ | {"pin": "a"},
    split="train",
    clean=READ | {"pin": "b"},
    pairs="c",
    clean_split="train",
    test_source=READ | {"pin": "b"},
    test_split="test",
    class_names=["rose", "tulip"],
    labelled=True,
    rows=100,
    delivered_as="",
    net_size=32,
    victims=["vgg-w16", "resnet10-w16"],
    countermeasures=["none", "jpeg", "grayscale"],
    analyses=[],
    seeds=2,
    epochs=3,
    preset="quick",
    max_accuracy=None,
    budget_minutes=None,
    date="2026-11-23",
    device="cpu",
    workers=2,
    max_restarts=1,
    hub_patience=1.0,
    versions={},
)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("of", ["source", "clean", "test_source"])
def test_other_columns_of_the_same_files_are_other_data(of: str, name: str) -> None:
    other = replace(PLAN, **{of: getattr(PLAN, of) | {name: "another"}})
    assert other.data_key() != PLAN.data_key()
    spec = PLAN.trials()[0]
    assert other.trial_key(spec) != PLAN.trial_key(spec)


def test_what_the_gate_may_look_at_comes_before_circumstances() -> None:
    """Of clean rows among the protected ones alone nothing can be judged."""
    tried = ["mix-percent", "cutmix"]
    order = [spec.countermeasure for spec in replace(PLAN, countermeasures=tried, seeds=1).trials()]
    assert order == ["cutmix"] * 4 + ["mix-percent"] * 4


def test_what_tells_most_comes_first_and_twins_stay_together() -> None:
    specs = PLAN.trials()
    told = [(s.seed, s.victim, s.countermeasure) for s in specs if s.data == "protected"]
    assert told[:6] == [
        (0, "vgg-w16", "none"),
        (0, "resnet10-w16", "none"),
        (0, "vgg-w16", "jpeg"),
        (0, "vgg-w16", "grayscale"),
        (0, "resnet10-w16", "jpeg"),
        (0, "resnet10-w16", "grayscale"),
    ]
    assert {seed for seed, _, _ in told[6:]} == {1}
    for protected, clean in zip(specs[::2], specs[1::2], strict=True):
        assert clean == replace(protected, data="clean")


def test_without_clean_rows_no_twin_is_asked_for() -> None:
    assert {spec.data for spec in replace(PLAN, clean=None).trials()} == {"protected"}


def test_a_training_is_known_by_what_it_learns_from() -> None:
    spec = PLAN.trials()[0]
    others = [
        replace(PLAN, source=READ | {"pin": "c"}),
        replace(PLAN, clean=READ | {"pin": "c"}),
        replace(PLAN, test_source=READ | {"pin": "c"}),
        replace(PLAN, rows=99),
        replace(PLAN, net_size=64),
        replace(PLAN, delivered_as="jpeg:90"),
        replace(PLAN, versions={"torch": "3"}),
    ]
    keys = {plan.trial_key(spec) for plan in [PLAN, *others]}
    assert len(keys) == 1 + len(others)
    assert replace(PLAN, budget_minutes=3.0, seeds=9).trial_key(spec) == PLAN.trial_key(spec)


@pytest.mark.parametrize("deadline", [None, 5.0])
def test_every_training_falls_to_one_rank(deadline: float | None, tmp_path: Path) -> None:
    Asked(PLAN.trials(), ["csd"], deadline).save(tmp_path / "asked.json")
    asked = Asked.load(tmp_path / "asked.json")
    made = [spec for rank in range(3) for spec in asked.share(rank, 3)]
    assert sorted(map(repr, made)) == sorted(map(repr, PLAN.trials()))


def test_where_time_is_limited_the_first_are_begun_first_and_twins_by_one_rank() -> None:
    first, second = (Asked(PLAN.trials(), (), 5.0).share(rank, 2) for rank in range(2))
    assert first[:2] == PLAN.trials()[:2]
    assert second[:2] == PLAN.trials()[2:4]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(training.time, "time", lambda: now[0])
    return now


def test_what_would_end_too_late_is_left_out_and_cheaper_ones_are_not(clock: list[float]) -> None:
    cheap = TrialSpec(victim="vgg-w16", seed=0, data="clean", preset="quick", epochs=1)
    dear = replace(cheap, epochs=5)
    made = []
    for spec in training._in_time([cheap, dear, replace(cheap, seed=1), dear], 130.0):
        made.append(spec)
        clock[0] += 10 * spec.recipe.epochs
    assert made == [cheap, replace(cheap, seed=1)]


def test_the_first_is_made_in_any_case(clock: list[float]) -> None:
    specs = PLAN.trials()[:3]
    assert list(training._in_time(specs[:1], 0.0)) == specs[:1]
    assert list(training._in_time(specs, None)) == specs
