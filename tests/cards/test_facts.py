"""A missing fact is an error, never a blank."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest
from card_facts import alone, facts, grown, measured, once, release, verification

from cards.facts import CardFacts, Measured, ReleaseEntry, Verification, budget_in_words


@pytest.mark.parametrize("kind", [CardFacts, Measured, ReleaseEntry, Verification])
def test_no_fact_has_a_default_but_that_nobody_verified_again(kind: type) -> None:
    given = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    assert [f.name for f in fields(kind) if f not in given] in ([], ["verified"])


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


def test_releases_add_up_to_what_there_is() -> None:
    first, second = release(rows=6, total=6), release(name="r0002", rows=4, total=9)
    with pytest.raises(ValueError, match=r"r0002 counts 9 rows in all, but .* added 10"):
        facts(releases=[first, second], release="r0002")
    with pytest.raises(ValueError, match=r"of release r0002 with 10 rows, .* r0001 with 10"):
        facts(release="r0002")
    with pytest.raises(ValueError, match="with 10 rows, but the last one listed is r0001 with 6"):
        facts(releases=[first])
    with pytest.raises(ValueError, match="no releases"):
        facts(releases=[])


def test_a_release_has_a_name_and_a_day() -> None:
    with pytest.raises(ValueError, match="release r0001 has no method"):
        release(method="")
    for date in ("2026-13-01", "20261101", "today"):
        with pytest.raises(ValueError, match=f"r0001 is of '{date}': give YYYY-MM-DD"):
            release(date=date)


def test_what_was_learnt_most_is_the_best_of_those_held_out() -> None:
    best = measured(victim="vgg-w16", protected=once(0.2))
    others = [
        measured(),
        measured(held_out=False, protected=once(0.6)),
        measured(countermeasure="grayscale", protected=once(0.5)),
        alone(),
    ]
    entry = release(measured=[*others, best])
    assert entry.learnt_most("release") == best
    assert entry.learnt_most("new") == alone()
    assert release(measured=others[1:2]).learnt_most("release") == others[1]
    assert release(measured=[]).learnt_most("release") is None


def test_where_nothing_plain_was_tried_what_the_gate_looked_at_counts() -> None:
    best = measured(countermeasure="cutmix", protected=once(0.3))
    tried = [
        measured(countermeasure="jpeg:quality=10", protected=once(0.2)),
        measured(countermeasure="cutmix", held_out=False, protected=once(0.6)),
        measured(countermeasure="mix-percent:share=50", protected=once(0.9)),
        best,
    ]
    assert release(measured=tried).learnt_most("release") == best
    assert release(measured=[*tried, measured()]).learnt_most("release") == measured()
    assert release(measured=tried[2:3]).learnt_most("release") is None


def test_rows_trained_on_are_all_or_the_new_ones() -> None:
    with pytest.raises(ValueError, match="resnet10-w16 trained on 'old' rows"):
        measured(rows="old")
    assert (grown().measured_alone, facts().measured_alone) == (True, False)
    assert grown().new_rows == 500


def test_a_clean_twin_may_be_missing() -> None:
    assert measured(clean=None).clean is None
    with pytest.raises(ValueError, match=r"clean is .*give fractions"):
        measured(clean=once(67.0))


def test_a_verification_has_a_day_a_report_and_a_worst_victim() -> None:
    with pytest.raises(ValueError, match="the verification of 2026-12-01 has no report"):
        verification(report="")
    with pytest.raises(ValueError, match="is of '1 December': give YYYY-MM-DD"):
        verification(date="1 December")
    worst = measured(countermeasure="jpeg:quality=10", protected=once(0.6))
    known = measured(held_out=False, countermeasure="jpeg:quality=10", protected=once(0.9))
    rows = [measured(), worst, alone(seeds=9)]
    assert verification(measured=rows).worst == worst
    assert verification(measured=[*rows, known]).worst == known
    assert verification(measured=[]).worst is None


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
        ("linf:8+l0:1", "grey levels, and then at most 1 of an image's pixels"),
        ("unbounded", "changes are not bounded"),
    ],
)
def test_budgets_are_put_in_words(budget: str, words: str) -> None:
    assert words in budget_in_words(budget)


def test_a_budget_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="of kind 'lpips'"):
        budget_in_words("lpips:0.1")
