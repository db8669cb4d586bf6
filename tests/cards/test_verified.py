"""A published card says when it was verified again, whatever else is in it."""

from __future__ import annotations

import pytest
from card_facts import facts, grown, measured, once, verification
from hypothesis import given, settings
from hypothesis import strategies as st
from rendered import html, tables, text

from cards.card import render
from cards.facts import Verification
from cards.kept import merge
from cards.verified import add_verification

JANUARY = verification(
    date="2027-01-01",
    report="reports/r0001/2027-01-01/report.json",
    sentence="Nothing changed.",
    measured=[measured(protected=once(0.2), clean=None)],
)
HEADER = ["date", "with", "most learnt", "finding", "figures"]


def again(card: str) -> list[list[str]]:
    """The lines of the section, its header first; empty where there is none."""
    return next((lines for lines in tables(card) if lines[0] == HEADER), [])


def dates(card: str) -> list[str]:
    return [line[0] for line in again(card)[1:]]


def test_nothing_is_said_of_verifications_that_there_were_none() -> None:
    assert "Verified again" not in text(render(facts())).replace("verified again: ", "")
    assert again(render(facts())) == []


def test_verifications_are_listed_with_the_newest_first() -> None:
    card = render(facts(verified=[verification(), JANUARY]))
    assert again(card)[1:] == [
        [
            "2027-01-01",
            "protect-release 0.4.0",
            "resnet10-w16: 20.0 % (clean twin: not measured)",
            "Nothing changed.",
            '<a href="reports/r0001/2027-01-01/report.json">report</a>',
        ],
        [
            "2026-12-01",
            "protect-release 0.4.0",
            "resnet10-w16 with jpeg:quality=10: 61.0 % (clean twin: 64.0 %)",
            "The protection holds in plain training.",
            '<a href="reports/r0001/2026-12-01/report.json">report</a>',
        ],
    ]
    assert html(card).index("<h2>Verified again</h2>") < html(card).index("citation of the source")


def test_what_clean_rows_taught_is_not_what_most_was_learnt_by() -> None:
    mixed = measured(countermeasure="mix-percent:share=20.0", protected=once(0.66))
    card = render(facts(verified=[verification(measured=[measured(), mixed])]))
    assert again(card)[1][2] == "resnet10-w16: 17.2 % (clean twin: 67.2 %)"


def test_a_victim_that_was_not_held_out_is_told_where_it_learnt_most() -> None:
    known = measured(
        victim="vgg-w16", held_out=False, countermeasure="jpeg:quality=10", protected=once(0.66)
    )
    card = render(facts(verified=[verification(measured=[measured(), known])]))
    most = "vgg-w16 (not held out) with jpeg:quality=10: 66.0 % (clean twin: 67.2 %)"
    assert again(card)[1][2] == most
    assert "under the countermeasures that each report names" in text(card)


@pytest.mark.parametrize("first", [JANUARY, verification()])
def test_a_line_that_is_added_gives_the_card_that_knew_it(first: Verification) -> None:
    second = verification() if first is JANUARY else JANUARY
    both = render(facts(verified=[first, second]))
    assert add_verification(add_verification(render(facts()), first), second) == both
    assert add_verification(render(facts(verified=[first])), second) == both


def test_adding_it_again_changes_nothing() -> None:
    card = render(facts(verified=[verification(), JANUARY]))
    assert add_verification(card, verification()) == card
    assert add_verification(card, JANUARY) == card


def test_the_same_report_is_corrected_in_its_place() -> None:
    card = render(facts(verified=[verification(), JANUARY]))
    corrected = add_verification(card, verification(sentence="It was miscounted."))
    assert dates(corrected) == ["2027-01-01", "2026-12-01"]
    assert again(corrected)[2][3] == "It was miscounted."
    other = add_verification(card, verification(report="reports/r0002/report.json"))
    assert dates(other) == ["2027-01-01", "2026-12-01", "2026-12-01"]


def test_a_card_of_an_older_version_gets_the_section_above_the_citation() -> None:
    lines = render(facts()).splitlines(keepends=True)
    old = "".join(line for line in lines if "verified again" not in line)
    made = add_verification(old, verification())
    assert dates(made) == ["2026-12-01"]
    assert html(made).index("Verified again") < html(made).index("citation of the source")
    assert made.replace(made[made.index("<!-- verified") : made.index("## Licence and")], "") == old


@pytest.mark.parametrize(
    "readme",
    ["", "# Flowers\n\nBy hand.\n", "# Flowers", "---\nlicense: mit\n---\n\n# Flowers\n"],
)
def test_a_text_that_is_no_card_gets_it_at_its_end(readme: str) -> None:
    made = add_verification(readme, verification())
    assert made.startswith(readme)
    front = "" if readme.startswith("---") else "---\n---\n"
    assert dates(front + made) == ["2026-12-01"]
    assert add_verification(made, verification()) == made


def test_without_a_citation_it_stands_within_the_card() -> None:
    lines = render(facts()).splitlines(keepends=True)
    cited = next(n for n, line in enumerate(lines) if "citation of the source" in line)
    short = "".join([*(x for x in lines[:cited] if "verified again" not in x), lines[-1], "By me."])
    made = add_verification(short, verification())
    assert dates(made) == ["2026-12-01"]
    end = made.index("<!-- protect-release: end")
    assert made.index("<!-- verified again: end") < end < made.index("By me.")


def test_lines_end_as_those_of_the_file() -> None:
    windows = render(facts()).replace("\n", "\r\n")
    made = add_verification(add_verification(windows, verification()), JANUARY)
    assert made.count("\n") == made.count("\r\n")
    assert dates(made.replace("\r\n", "\n")) == ["2027-01-01", "2026-12-01"]
    assert add_verification(made, verification()) == made


def test_foreign_text_is_shown_and_not_obeyed() -> None:
    name = "<!-- verified again: end --> | [x](https://evil.example)\n# heading"
    bad = verification(
        tool=name,
        sentence=name,
        report="javascript:alert(1) | ) [y](/z",
        measured=[measured(victim=name, countermeasure=name)],
    )
    made = add_verification(render(facts()), bad)
    assert len(again(made)) == 2
    assert html(made).count("<a ") == html(render(facts(verified=[verification()]))).count("<a ")
    assert 'href="javascript%3Aalert' in html(made)
    assert add_verification(made, bad) == made


def test_a_later_release_keeps_the_verifications_of_the_published_card() -> None:
    published = add_verification(render(facts()), verification())
    assert dates(merge(published, render(grown()))) == ["2026-12-01"]
    known = render(grown(verified=[verification(sentence="Put better."), JANUARY]))
    assert merge(published, known) == known
    assert merge(known, render(grown())) == merge(known, known) == known


def test_a_citation_that_looks_like_the_section_is_left_alone() -> None:
    citation = "@misc{x}\n<!-- verified again: begin -->\n<!-- verified again: end -->"
    made = add_verification(render(facts(source_citation=citation)), verification())
    assert citation in made
    assert dates(made) == ["2026-12-01"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                *render(facts(verified=[JANUARY])).splitlines()[-12:],
                *("<!-- verified again: begin -->", "<!-- verified again: end -->", "", "by hand"),
                *("## Licence and citation of the source", "<!-- protect-release: end -->"),
            ]
        ),
        max_size=8,
    ).map("\n".join)
)
def test_adding_a_line_twice_is_adding_it_once_in_any_text(readme: str) -> None:
    made = add_verification(readme, verification())
    assert "reports/r0001/2026-12-01/report.json" in made
    assert add_verification(made, verification()) == made
    if "verified again" not in readme:
        lines = iter(made.splitlines())
        assert all(line in lines for line in readme.splitlines()), "in their order"
