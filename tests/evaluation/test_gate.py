"""The gate's arithmetic, and whom it judges."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trials import trial

from evaluation.gate import Gate
from evaluation.trial import Trial


def test_half_of_the_accuracy_above_chance_is_allowed() -> None:
    assert Gate().threshold(trial(clean=0.7)) == pytest.approx(0.4)
    assert Gate().judge([trial(clean=0.7, protected=0.399)]).holds
    assert not Gate().judge([trial(clean=0.7, protected=0.401)]).holds


def test_exactly_the_threshold_holds() -> None:
    assert Gate(max_accuracy=0.25).judge([trial(protected=0.25)]).holds


def test_a_chosen_accuracy_overrides_the_ratio() -> None:
    verdict = Gate(max_accuracy=0.15).judge([trial(protected=0.2)])
    assert (verdict.holds, verdict.threshold) == (False, 0.15)


def test_the_worst_held_out_victim_decides() -> None:
    trials = [
        trial(victim="vgg-w16", held_out=False, protected=0.65),
        trial(victim="resnet10-w16", protected=0.3),
        trial(victim="resnet18-w16", protected=0.2),
    ]
    verdict = Gate().judge(trials)
    assert verdict.holds
    assert verdict.worst.victim == "resnet10-w16"
    assert verdict.ratio == pytest.approx(0.2 / 0.6)


def test_the_worst_seed_decides() -> None:
    trials = [trial(seed=0, protected=0.1), trial(seed=1, protected=0.5)]
    assert not Gate().judge(trials).holds


def test_worst_is_what_passes_its_own_threshold_furthest() -> None:
    """The lower accuracy is the worse one where its clean twin is much weaker."""
    weak = trial(victim="resnet10-w16", clean=0.2, protected=0.19)
    assert Gate().judge([trial(clean=0.9, protected=0.3), weak]).worst == weak


def test_all_victims_are_judged_where_none_is_held_out() -> None:
    verdict = Gate().judge([trial(held_out=False, protected=0.65)])
    assert not verdict.holds


def test_countermeasures_are_reported_and_not_judged() -> None:
    countered = trial(countermeasure="grayscale", protected=0.65)
    assert Gate().judge([trial(), countered]).holds
    assert not Gate().judge([countered]).holds


def test_nothing_holds_against_a_twin_that_learnt_nothing() -> None:
    verdict = Gate().judge([trial(clean=0.1, protected=0.1)])
    assert (verdict.holds, verdict.ratio) == (False, None)
    assert "did not even learn from the clean images (10.0 %" in verdict.reason


def test_the_reason_is_one_plain_sentence() -> None:
    assert Gate().judge([trial(clean=0.675, protected=0.117)]).reason == (
        "a resnet18 trained on this release scored 11.7 %, at most the 38.8 % allowed "
        "(clean images: 67.5 %)"
    )
    other = Gate().judge([trial(victim="efficientnet-b1")])
    assert other.reason.startswith("an efficientnet-b1 trained")
    assert (
        "more than the 38.8 % allowed" in Gate().judge([trial(clean=0.675, protected=0.5)]).reason
    )


def test_the_reason_names_a_countermeasure() -> None:
    """Victims of a release without labels learn by simclr alone."""
    learnt = trial(countermeasure="simclr:clean=1000", clean=0.675, protected=0.117)
    told = Gate().judge([learnt]).reason
    assert told.startswith("a resnet18 trained on this release with simclr:clean=1000 scored")
    nothing = Gate().judge([replace(learnt, clean=0.1)]).reason
    assert "from the clean images with simclr:clean=1000 (10.0 %" in nothing


def test_figures_that_round_alike_are_told_apart() -> None:
    told = Gate(max_accuracy=0.386).judge([trial(protected=0.38604)]).reason
    assert "scored 38.604 %, more than the 38.600 % allowed" in told
    told = Gate(max_accuracy=0.386).judge([trial(protected=0.386)]).reason
    assert "scored 38.6 %, at most the 38.6 % allowed" in told


def test_new_rows_alone_are_not_judged() -> None:
    """Of 500 rows alone nothing is protected yet: their clean twins know as little."""
    alone = trial(rows="new", clean=0.38, protected=0.38)
    verdict = Gate().judge([alone, trial(protected=0.11)])
    assert verdict.holds
    assert verdict.worst.rows == "release"
    assert not Gate().judge([alone, trial(protected=0.65)]).holds


@pytest.mark.parametrize("trials", [[], [trial(rows="new")]])
def test_without_trials_on_all_rows_there_is_no_verdict(trials: list[Trial]) -> None:
    with pytest.raises(ValueError, match="verify first"):
        Gate().judge(trials)


def test_without_a_clean_twin_there_is_no_verdict_unless_an_accuracy_is_chosen() -> None:
    alone = trial(clean=None, protected=0.2)
    assert Gate().judge([alone]) is None
    assert not Gate(max_accuracy=0.1).judge([alone]).holds
    assert Gate().judge([alone, trial(seed=1)]).worst.seed == 1


def test_circumstances_are_not_judged() -> None:
    assert Gate().judge([trial(), trial(countermeasure="mix-percent", protected=0.69)]).holds


def test_chance_is_that_of_the_classes_a_victim_was_scored_on() -> None:
    assert Gate().threshold(trial(clean=0.7, num_classes=5, chance=0.2)) == pytest.approx(0.45)


def test_naming_the_commonest_class_is_no_more_than_guessing() -> None:
    """Nine of ten test rows are of one of two classes."""
    lazy = {"num_classes": 2, "chance": 0.9}
    held = Gate().judge([trial(clean=0.97, protected=0.9, **lazy)])
    assert held is not None
    assert held.holds
    nothing = Gate().judge([trial(clean=0.9, protected=0.6, **lazy)])
    assert nothing is not None
    assert not nothing.holds
