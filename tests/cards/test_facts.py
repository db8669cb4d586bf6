"""A missing fact is an error, never a blank."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest
from card_facts import facts, measured

from cards.facts import CardFacts, Measured, budget_in_words


@pytest.mark.parametrize("kind", [CardFacts, Measured])
def test_no_fact_has_a_default(kind: type) -> None:
    assert all(f.default is MISSING and f.default_factory is MISSING for f in fields(kind))


@pytest.mark.parametrize("name", ["pretty_name", "license", "paper", "bibtex", "tool", "gate"])
def test_a_blank_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"no {name}"):
        facts(**{name: ""})


def test_a_card_without_files_is_refused() -> None:
    with pytest.raises(ValueError, match="no data_files"):
        facts(data_files=[])


def test_every_row_is_counted_once() -> None:
    with pytest.raises(ValueError, match="differ from that by 1"):
        facts(released=9)


def test_verdict_and_figures_come_together() -> None:
    with pytest.raises(ValueError, match="a verdict needs measured victims"):
        facts(measured=[])
    with pytest.raises(ValueError, match="a verdict needs measured victims"):
        facts(gate=None)


def test_figures_are_fractions() -> None:
    with pytest.raises(ValueError, match=r"resnet10-w16 protected is .*give fractions"):
        measured(protected=(17.2, 17.2, 17.2))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("linf:8", "no value of a pixel moves by more than 8 of 255 grey levels"),
        ("l2:1", "Euclidean norm of at most 1"),
        ("linf:8+l0:1", "grey levels, and then at most 1 pixels"),
        ("unbounded", "changes are not bounded"),
    ],
)
def test_budgets_are_put_in_words(budget: str, words: str) -> None:
    assert words in budget_in_words(budget)


def test_a_budget_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="of kind 'lpips'"):
        budget_in_words("lpips:0.1")
