"""Figures from predictions, on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scoring import (
    above_chance_ratio,
    accuracy,
    confusion,
    dominant_shift,
    percent,
    renamed_accuracy,
)


def test_accuracy_is_the_share_of_right_rows() -> None:
    assert accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == 0.75


def test_confusion_has_true_classes_in_rows_and_predictions_in_columns() -> None:
    counts = confusion(np.array([1, 1, 2]), np.array([0, 0, 2]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_renaming_finds_any_permutation(seed: int) -> None:
    labels = np.tile(np.arange(10), 20)
    permuted = np.random.default_rng(seed).permutation(10)[labels]
    assert renamed_accuracy(permuted, labels, 10) == 1


def test_renaming_does_not_take_chance_for_knowledge() -> None:
    """Fitted and scored on the same 100 rows, random answers would reach about 25 %."""
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 10)
    scores = [
        renamed_accuracy(generator.integers(0, 10, len(labels)), labels, 10) for _ in range(200)
    ]
    assert np.mean(scores) == pytest.approx(0.1, abs=0.015)


def test_renaming_is_fitted_on_half_of_each_class_even_where_classes_alternate() -> None:
    """With every second row of the whole split, class 1 would never be fitted here."""
    labels = np.tile([0, 1], 50)
    assert renamed_accuracy(1 - labels, labels, 2) == 1


def test_renaming_falls_back_to_plain_accuracy_where_no_class_has_two_rows() -> None:
    assert renamed_accuracy(np.array([1, 0, 2]), np.array([0, 1, 2]), 3) == pytest.approx(1 / 3)


def test_dominant_shift_names_the_commonest_mistake() -> None:
    labels = np.tile(np.arange(10), 10)
    predicted = np.where(np.arange(100) < 70, (labels + 5) % 10, labels)
    assert dominant_shift(confusion(predicted, labels, 10)) == (5, 0.7)


def test_dominant_shift_of_perfect_answers_takes_no_share() -> None:
    labels = np.arange(4)
    assert dominant_shift(confusion(labels, labels, 4))[1] == 0


def test_ratio_counts_accuracy_above_chance_only() -> None:
    assert above_chance_ratio(0.1, 0.7, 0.1) == pytest.approx(0)
    assert above_chance_ratio(0.4, 0.7, 0.1) == pytest.approx(0.5)
    assert above_chance_ratio(0.7, 0.7, 0.1) == pytest.approx(1)


def test_ratio_is_unknown_where_the_clean_twin_is_at_chance() -> None:
    assert above_chance_ratio(0.1, 0.1, 0.1) is None


def test_percent_is_written_for_people() -> None:
    assert percent(0.1172) == "11.7 %"
