"""Methods side by side: in order, and drawn by what they cost."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import comparison_values
import pytest
from comparison_values import comparison, method, span, summary
from page_reader import Element, read

from cards.charts import pareto
from cards.comparison import render_comparison


def page(*methods: dict[str, Any], **changes: Any) -> Element:
    return read(render_comparison(comparison(*methods, **changes)))


@cache
def full() -> Element:
    return read(render_comparison(comparison_values.full()))


def scoring(name: str, protected: float, seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    made = method(method=name, summaries=[summary(protected=span(protected))], **changes)
    return made | {"craft_seconds_per_1000": seconds}


def leaderboard(found: Element) -> list[list[str]]:
    return found.by_id("leaderboard").all("table")[0].rows


def test_the_method_that_taught_least_comes_first() -> None:
    found = page(scoring("tap", 0.3), scoring("sep", 0.1), scoring("em", 0.2))
    assert [line[0] for line in leaderboard(found)[1:]] == [
        "1. sep linf:8",
        "2. em linf:8",
        "3. tap linf:8",
    ]
    lead = found.all("p")[0].text
    assert lead == (
        "From sep, the worst victim learnt least: a resnet18 scored 10.0 % (clean images: 70.0 %)."
    )


def test_methods_that_taught_equally_little_are_all_named() -> None:
    found = page(scoring("tap", 0.1), scoring("sep", 0.1), scoring("em", 0.2))
    assert found.all("p")[0].text == (
        "From tap and sep, victims learnt equally little: the worst of each scored 10.0 %."
    )


def test_what_fits_nothing_took_no_time_to_fit() -> None:
    assert leaderboard(page(method(fit_seconds=0.0)))[1][-1] == "-"


def test_its_figures_stand_in_the_leaderboard() -> None:
    line = leaderboard(page())[1]
    assert line == [
        *("1. sep-fa-vr linf:8", "12.0 %", "70.0 %", "resnet18", "yes", "33.1 SSIM 0.951"),
        *("8 of 255", "61", "900", "410"),
    ]
    unknown = method(psnr=None, holds=None, summaries=[summary(clean=None)])
    line = leaderboard(page(unknown))[1]
    assert line[2:6] == ["not measured", "resnet18", "not judged", "no change SSIM 0.951"]


def test_what_each_keeps_under_each_countermeasure_is_the_worst_held_out_victim() -> None:
    rows = [
        summary(),
        summary(countermeasure="jpeg:quality=10", protected=span(0.41)),
        summary(countermeasure="jpeg:quality=10", protected=span(0.52), victim="vgg16"),
        summary(countermeasure="jpeg:quality=10", protected=span(0.9), held_out=False),
    ]
    other = scoring("tap", 0.3)
    found = page(method(summaries=rows), other, countermeasures=["jpeg:quality=10", "none", "dpa"])
    lines = found.by_id("countermeasures").all("table")[0].rows
    assert lines == [
        ["method", "none (plain training)", "jpeg:quality=10"],
        ["sep-fa-vr", "12", "52"],
        ["tap", "30", "-"],
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["none"], "resnet18 in plain training"),
        (["none", "dpa"], "resnet18 in plain training and under 1 countermeasure"),
        (["dpa", "cutmix"], "resnet18 under 2 countermeasures"),
    ],
)
def test_plain_training_is_not_counted_among_the_countermeasures(
    names: list[str], told: str
) -> None:
    assert page(countermeasures=names).all("p")[1].text.endswith(told)


def test_a_method_that_is_called_none_is_no_plain_training() -> None:
    options = full().by_id("trials").all("option")
    shown = {option.text for option in options if option.attributes["value"] == "none"}
    assert shown == {"none", "none (plain training)"}


def test_every_figure_is_listed() -> None:
    lines = full().by_id("trials").all("table")[0].rows
    assert len(lines) == 1 + 10 * 36
    assert lines[0][:3] == ["method", "countermeasure", "victim"]


def test_the_front_joins_those_that_no_other_beats_in_both() -> None:
    methods = [
        scoring("slow and good", 0.1, 100.0),
        scoring("quick and fair", 0.2, 1.0),
        scoring("beaten", 0.25, 10.0),
        scoring("as slow and worse", 0.3, 100.0),
        scoring("free and bad", 0.6, 0.1),
    ]
    found = pareto(methods)
    assert {dot.name for dot in found.dots if dot.on_front} == {
        *("slow and good", "quick and fair", "free and bad"),
    }
    places = [tuple(map(float, point.split(","))) for point in found.front.split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    by_name = {dot.name: dot for dot in found.dots}
    # A factor of 100 in time is two steps of the same width as any two decades.
    quick, slow = by_name["quick and fair"], by_name["slow and good"]
    assert slow.x - quick.x == pytest.approx(2 * (quick.x - by_name["free and bad"].x))
    assert by_name["free and bad"].y == pytest.approx(3 * quick.y)


def test_every_method_has_a_dot_with_its_place_and_what_is_more_visible_a_larger_one() -> None:
    found = full().by_id("pareto")
    assert sorted(int(t.text) for t in found.all("text", "place")) == list(range(1, 11))
    radii = {dot.note: dot.radius for dot in pareto(comparison_values.full()["methods"]).dots}
    assert radii["31.9 dB"] > radii["33.1 dB"] > radii["36.8 dB"] > radii["no pixel changed"] - 1
    dots = pareto(comparison_values.full()["methods"]).dots
    assert all(0 < dot.x < 100 and 0 <= dot.y <= 100 for dot in dots)


def test_names_that_would_run_into_each_other_are_left_out() -> None:
    near = pareto([scoring("a", 0.2, 1.0), scoring("b", 0.199, 1.1), scoring("c", 0.9, 0.01)])
    assert {dot.name: dot.label for dot in near.dots} == {
        **{"a": "hidden", "b": "always", "c": "always"},
    }


def test_foreign_text_is_shown_and_not_obeyed() -> None:
    name = '</script>"><b>|x'
    row = summary(victim=name, countermeasure=name)
    worst = {"victim": name, "countermeasure": name, "protected": 0.1, "clean": None}
    bad = method(method=name, budget=name, summaries=[row], worst=worst)
    found = page(bad, source=name, victims=[name], countermeasures=[name])
    assert not found.all("b")
    assert len(found.all("script")) == 1
    assert name in found.by_id("leaderboard").text


def test_a_single_method_and_none_are_shown() -> None:
    assert len(page(scoring("ops", 0.0, 0.0)).by_id("pareto").all("circle")) == 1
    empty = read(render_comparison(comparison() | {"methods": []}))
    assert empty.all("p")[0].text == "No method was compared."


def test_it_needs_nothing_from_anywhere_and_promises_nothing() -> None:
    html = render_comparison(comparison_values.full())
    assert "default-src 'none'" in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|url\(|@import|https?:", html)
    for word in ("secure", "safe", "unlearnable", "guarantee"):
        assert word not in full().text.lower()
