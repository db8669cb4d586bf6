"""The page of ablations: what is committed, and how studies find their rows."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from potency_claims import claim

from benchmarks import potency
from benchmarks.ablation_page import PAGE, class_maps, page
from benchmarks.class_maps import maps
from benchmarks.potency_results import load_all
from benchmarks.potency_work import PROTOCOL
from benchmarks.studies import STUDIES
from crafting.registry import Preset


def test_the_page_is_what_its_generator_writes() -> None:
    assert page(load_all(), class_maps()) == PAGE.read_text(), (
        "run python -m benchmarks.ablation_page"
    )


@pytest.mark.parametrize("scale", get_args(Preset))
@pytest.mark.parametrize("study", STUDIES)
def test_every_row_can_be_measured_and_none_is_there_twice(study: str, scale: Preset) -> None:
    rows = STUDIES[study].rows[scale]
    options = potency.options_parser().parse_args(["-", "--workdir", "-", "--scale", scale])
    variants = [potency.variant(row.method, options, *row.settings) for row in rows]
    methods = [variant.method(scale) for variant in variants]
    assert len({(v.name, str(m)) for v, m in zip(variants, methods, strict=True)}) == len(rows)


def test_equal_passes_are_nearly_equal() -> None:
    options = potency.options_parser().parse_args(["-", "--workdir", "-"])
    rows = STUDIES["passes"].rows["quick"]
    passes = [potency.variant(r.method, options, *r.settings).method("quick").passes for r in rows]
    others = [n for n in passes if not 80 <= n <= 90]
    assert others == [15, 15, 10, 0]  # as they are, and random-noise


def test_a_study_shows_its_rows_in_its_own_order() -> None:
    claims = [
        claim("tap", (0.1, 0.2), settings={"steps": "90"}),
        claim("sep-fa-vr", (0.3, 0.3)),
        claim("sep-fa-mi", (0.4, 0.4)),
        claim("tap", (0.1, 0.1)),
    ]
    section = page(claims, None).partition("## How many")[0].partition("## An equal")[2]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert [line.split(" | ")[0] for line in lines] == ["| `sep-fa-mi`", "| `sep-fa-vr`", "| `tap`"]
    assert "| `steps=90` | linf:8 | 10.5 (10.0-11.0) / 20.5 (20.0-21.0) |" in lines[2]
    assert "which learn 67.0 / 67.0 % from the clean rows" in section
    assert "Not measured yet with the `quick` preset." in section, "these are of earlier protocols"


def test_what_a_last_layer_fitted_anew_gives_back_is_shown_where_it_was_measured() -> None:
    asked = claim("sep-mi", (0.1, 0.1))
    for seed in asked.seeds:
        seed["trials"][2]["countermeasure"] = "refit-head"
    text = page([asked, claim("sep-both-mi", (0.1, 0.1))], None)
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| `sep")]
    shown = {line[0]: line[6] for line in lines}
    assert shown["| `sep-mi`"] == "60.5 / - (clean 67.0 / -)"
    assert shown["| `sep-both-mi`"] == "-"


def test_what_is_gone_is_shown_as_such_after_what_there_is() -> None:
    (gone, *_) = STUDIES["ours"].gone
    claims = [claim(gone.method, (0.1, 0.1), settings=dict(gone.settings)), claim("sep-mi", (0, 0))]
    lines = [line for line in page(claims, None).splitlines() if line.startswith("| `sep")]
    assert [line.split(" | ")[:2] for line in lines[-2:]] == [
        ["| `sep-mi`", "-"],
        ["| `sep-fa-mi`", "`targets=2` (gone)"],
    ]


def test_what_was_not_measured_is_said() -> None:
    asked = [len(rows) > 0 for study in STUDIES.values() for rows in study.rows.values()]
    text = page([], None)
    assert text.count("Not measured yet with the") == sum(asked)
    assert "Not measured yet.\n" in text.partition("## Whom classes")[2]


def test_rows_without_figures_of_today_are_named() -> None:
    claims = [claim(row.method, (0.1, 0.1)) for row in STUDIES["passes"].rows["quick"][1:3]]
    for each in claims[:1]:
        each.facts["protocol"] = PROTOCOL
    section = page(claims, None).partition("## How many")[0]
    (told,) = re.findall(r"Not measured yet with the `quick` preset: (.*)\.", section)
    assert "`sep-mi`" in told.split(", ")
    assert "`tap steps=90`" in told.split(", ")
    assert "`sep-fa-mi`" not in told.split(", ")


def test_another_budget_has_a_table_where_methods_are_compared_within_it() -> None:
    usual, other = (claim("sep-fa-mi", (0.1, 0.1), **of) for of in ({}, {"budget": "linf:2"}))
    beside = claim("sep-fa-vr", (0.2, 0.2), budget="linf:2")
    assert "within linf:2" not in page([usual, other], None)
    told = page([usual, other, beside], None)
    assert told.count("`quick` preset within linf:2") == 1  # of the study that has both


def test_the_shares_of_classes_that_are_taken_for_others() -> None:
    halves, one = maps(4)
    assert (halves, one) == ({2: 0, 3: 1}, {1: 0, 2: 0, 3: 0})
    clean = [[10, 0, 0, 0], [0, 10, 0, 0], [0, 0, 10, 0], [0, 0, 0, 10]]
    protected = [[10, 0, 0, 0], [0, 10, 0, 0], [7, 2, 1, 0], [0, 5, 0, 5]]
    shape = {"source": "x", "rows": 5000, "method": "sep", "budget": "linf:8", "preset": "quick"}
    told = [
        {"towards": {str(y): to for y, to in each.items()}, "clean": clean, "protected": protected}
        for each in (halves, one)
    ]
    text = page([], shape | {"victim": "vgg-w16", "maps": told})
    assert "| 2 to 3 towards 0 to 1 | themselves | 100.0 | 30.0 |" in text
    assert "| 2 to 3 towards 0 to 1 | what they were pulled towards | 0.0 | 60.0 |" in text
    assert "| 2 to 3 towards 0 to 1 | any class that stayed clean | 0.0 | 70.0 |" in text
    assert "| 1 to 3 towards 0 | what they were pulled towards | 0.0 | 23.3 |" in text
