"""Bars, curves, matrices and pictures of report.html are those of its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from page_reader import read
from paged import full, page, png
from report_values import CLASSES, of, report, training

from cards.page import render_report
from evaluation.scoring import dominant_shift


def test_each_bar_is_as_long_as_its_figure() -> None:
    values = report(("resnet18",), 2, {"none": 0.1})
    lane = page(values).by_id("overview").all("div", "lane")[1]
    figures = [trial["protected"] for trial in values["trials"]]
    clean = [trial["clean"] for trial in values["trials"]]
    assert lane.all("rect", "bar")[0].attributes["width"] == f"{50 * sum(figures):.2f}%"
    assert lane.all("circle", "twin")[0].attributes["cx"] == f"{50 * sum(clean):.2f}%"
    seeds = [line.attributes["x1"] for line in lane.all("line", "seed")]
    assert seeds == [f"{100 * figure:.2f}%" for figure in figures]
    assert lane.all("line", "chance")[0].attributes["x1"] == "10.00%"


def test_curves_are_drawn_by_epoch_beside_their_clean_twins() -> None:
    protected = training("resnet18", "none", 0, "protected", 0.2, epochs=3)
    clean = training("resnet18", "none", 0, "clean", 0.8, epochs=3)
    for one, curve in ((protected, (0.1, 0.4, 0.2)), (clean, (0.2, 0.6, 0.8))):
        one["curve"] = [{"test_accuracy": accuracy} for accuracy in curve]
    lines = page(of([(protected, clean)])).by_id("panels").all("polyline")
    drawn = {line.attributes["class"].split()[1]: line.attributes["points"] for line in lines}
    assert drawn["protected"] == "0.00,90.00 50.00,60.00 100.00,80.00"
    assert drawn["clean"] == "0.00,80.00 50.00,40.00 100.00,20.00"


def test_guessing_is_drawn_where_it_is_for_the_classes_of_the_chart() -> None:
    plain = training("resnet18", "none", 0, "protected", 0.2)
    merged = training("resnet18", "relabel", 0, "protected", 0.3, num_classes=5)
    found = page(of([(merged, None), (plain, None)]))
    assert "guessing (10.0 %)" in found.by_id("overview").text
    lines = found.by_id("panels").all("line", "chance")
    assert [line.attributes["y1"] for line in lines] == ["90.00%", "80.00%"]


def test_curves_are_told_by_where_they_end_which_need_not_be_the_score() -> None:
    """A last layer that is fitted after training is in no curve."""
    fitted = training("resnet18", "refit-head", 0, "protected", 0.2, epochs=2)
    fitted["final"] = 0.6
    section = page(of([(fitted, None)])).by_id("curves")
    assert "re-fitting a layer, is in no curve" in section.text
    (drawn,) = (svg for svg in section.all("svg") if svg.attributes.get("role") == "img")
    assert drawn.attributes["aria-label"].endswith("this release after the last epoch 20.0 %")


def test_a_single_epoch_is_drawn_as_a_level() -> None:
    one = training("resnet18", "none", 0, "protected", 0.2, epochs=1)
    lines = page(of([(one, None)])).by_id("panels").all("polyline")
    assert lines[0].attributes["points"] == "0.00,80.00 100.00,80.00"
    places = [text.attributes["x"] for text in page(of([(one, None)])).by_id("panels").all("text")]
    assert sorted(place for place in places if place != "-8") == ["0.00%", "50%"], "1 and epoch"


def test_the_confusion_of_the_victim_in_the_verdict_is_named_by_class() -> None:
    values = report(("resnet18", "densenet121"), 1, {"none": 0.02})
    worst = values["verdict"]["worst"]["victim"]
    trained = next(t for t in values["trainings"] if t["spec"]["victim"] == worst)
    trained["confusion"][2] = [0, 0, 25, 0, 0, 0, 0, 75, 0, 0]
    found = page(values | {"class_names": list(CLASSES)}).by_id("confusion")
    assert f"What a {worst}, trained on this release (seed 0), predicted" in found.text
    assert found.all("table")[0].rows[0][1:] == list(CLASSES)
    assert found.all("table")[0].rows[3] == ["bird", "0", "0", "25", *"0000", "75", "0", "0"]
    assert "a shift by 5 classes" in found.text


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([[0, 100, 0]] * 3, "It took 100.0 % of all test images for b."),
        ([[40, 30, 30]] * 3, "No one kind of mistake stands out."),
        ([[40, 60, 0], [0, 40, 60], [60, 0, 40]], "a shift by 1 class: 60.0 %"),
        ([[100, 0, 0], [0, 100, 0], [0, 0, 100]], "It made no mistake."),
    ],
)
def test_a_kind_of_mistake_is_told_only_where_it_stands_out(
    counts: list[list[int]], said: str
) -> None:
    right = sum(counts[k][k] for k in range(3)) / 300
    classes, share = dominant_shift(np.array(counts))
    shift = {"classes": classes, "share": share}
    one = training("vgg-w16", "none", 0, "protected", right, confusion=counts, dominant_shift=shift)
    values = of([(one, None)]) | {"class_names": list("abc")}
    assert said in page(values).by_id("confusion").text


def luminance(colour: Sequence[float]) -> float:
    """As WCAG 2.2 defines it, of red, green and blue from 0 to 255."""
    parts = [value / 255 for value in colour]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_figures_can_be_read_on_every_shade_of_a_matrix(theme: int) -> None:
    style = read(render_report(report())).all("style")[0].children[0]
    found = re.findall(
        r"--(\w+): #([0-9a-f]{3,6})", re.findall(r":root \{(.*?)\}", style, re.S)[theme]
    )
    colours = {
        name: [int(written[n : n + 2], 16) for n in (0, 2, 4)]
        for name, written in (
            (n, w if len(w) == 6 else "".join(2 * c for c in w)) for n, w in found
        )
    }
    for step in range(101):
        pairs = zip(colours["heat"], colours["panel"], strict=True)
        ground = luminance([(step * heat + (100 - step) * panel) / 100 for heat, panel in pairs])
        dark, light = sorted((ground, luminance(colours["ink"])))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_without_class_names_classes_are_numbered() -> None:
    found = page(report()).by_id("confusion").all("table")[0].rows
    assert found[0][1:] == [str(number) for number in range(10)]


def test_of_many_classes_the_commonest_mistakes_are_listed() -> None:
    trained = training("resnet18", "none", 0, "protected", 0.1, num_classes=100)
    trained["confusion"][7] = [0] * 42 + [9] + [0] * 56 + [1]
    trained["confusion"][8] = [0] * 8 + [10] + [0] * 91
    found = page(of([(trained, None)])).by_id("confusion")
    lines = found.all("table")[0].rows
    assert lines[1] == ["7", "42", "90.0 %"]
    assert len(lines) == 11
    drawn = [path.attributes["d"] for path in found.all("path")]
    assert any("M42 7h1v1h-1z" in path for path in drawn)
    assert not any("M41 7h1" in path for path in drawn)


def test_analyses_are_shown_with_curves_and_matrices() -> None:
    found = full().by_id("analyses")
    assert "such a gap also tells an attentive appropriator." in found.text
    assert [d.text for d in found.all("dl")[0].all("dd")] == ["0.883", "0.995", "0.964"]
    assert len(found.all("polyline")) == 3
    assert found.all("table")[0].rows[1][:2] == ["epoch 24", "1.00"]
    assert "not measured" in found.text


def test_curves_that_are_no_fractions_have_an_axis_of_their_own() -> None:
    one = {"analysis": "x", "figures": {}, "sentence": "y", "curves": {"loss": [4.0, 2.0, 3.0]}}
    one |= {"matrix": None, "labels": []}
    found = page(report() | {"analyses": [one]}).by_id("analyses")
    assert found.all("polyline")[0].attributes["points"] == "0.00,0.00 50.00,100.00 100.00,50.00"
    assert {"2", "3", "4"} <= {tick.text for tick in found.all("text")}


def test_pictures_are_embedded_with_what_they_show() -> None:
    made = {"Images of this release.": png(), "Rows that were chosen": png(3, 5)}
    found = read(render_report(report(), made)).by_id("images")
    assert [figure.text for figure in found.all("figcaption")] == [
        "Images of this release.",
        "Rows that were chosen",
    ]
    for image, size in zip(found.all("img"), [("6", "4"), ("3", "5")], strict=True):
        assert image.attributes["src"].startswith("data:image/png;base64,")
        assert (image.attributes["width"], image.attributes["height"]) == size
    with pytest.raises(ValueError, match="'Some' is no PNG"):
        render_report(report(), {"Some": b"GIF89a" + 40 * b"."})


def test_pictures_of_figures_are_told_in_words() -> None:
    found = full()
    for drawing in found.all("svg"):
        around = [drawing, *drawing.ancestors]
        assert any({"aria-hidden", "aria-label"} & e.attributes.keys() for e in around)
