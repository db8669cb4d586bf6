"""report.html says everything that report.json holds, and nothing else."""

from __future__ import annotations

import io
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import report_values
from page_reader import Element, read
from PIL import Image
from report_values import CLASSES, of, report, training, verdict

from cards.page import render_report

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '",
    "{{ 7 * 7 }} {% raw %}",
    "</style><b>",
    "&lt;b&gt;",
    "日本語 café",
]


def page(values: dict[str, Any], **pictures: bytes) -> Element:
    return read(render_report(values, pictures))


@cache
def full() -> Element:
    """The page of a report with all that a report may have."""
    return page(report_values.full())


def png(width: int = 6, height: int = 4) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_it_opens_with_what_was_measured_and_by_the_gate() -> None:
    found = full()
    worst = report_values.full()["verdict"]["worst"]
    lead, stand, hardest = found.all("p")[:3]
    scored, clean = (f"{100 * worst[name]:.1f} %" for name in ("protected", "clean"))
    assert (
        lead.text == f"A resnet18 trained on this release scored {scored} (clean images: {clean})."
    )
    assert stand.text.startswith("Within the gate. It allows this victim,")
    assert "50.0 %: guessing, and 50 % of what the clean twin scores above that." in stand.text
    assert hardest.text.startswith("The strongest of 11 tried against the protection, jpeg:")


def test_above_the_gate_it_says_so() -> None:
    values = report(left_by={"none": 0.8})
    assert not values["verdict"]["holds"]
    assert "Above the gate." in page(values).text
    assert "Within the gate." not in page(values).text
    owner = values | {"gate": {"max_ratio": 0.5, "max_accuracy": 0.5}}
    assert "It allows every victim 50.0 %, as the owner chose." in page(owner).text


def test_a_twin_that_learnt_nothing_judges_nothing() -> None:
    values = report()
    values["verdict"] |= {"threshold": -1, "holds": False, "reason": "the vgg did not learn"}
    assert "Cannot be judged. The vgg did not learn." in page(values).text


def test_nothing_is_promised() -> None:
    shown = full().text.lower()
    for word in ("secure", "safe", "unlearnable", "guarantee", "impossible"):
        assert word not in shown


def test_doubts_stand_before_the_figures_each_with_its_reason() -> None:
    found = full()
    assert found.all("section")[0].attributes["id"] == "doubts"
    doubts = found.by_id("doubts").all("li")
    assert [doubt.all("code")[0].text for doubt in doubts] == [
        "countermeasure-above-gate",
        "victim-not-held-out",
        "peak-above-gate",
    ]
    assert "which flatters its figure; the gate looks at the others." in doubts[1].text
    assert "known mistakes only" in page(report()).by_id("doubts").text


def test_every_trial_stands_in_the_table_seeds_taken_together() -> None:
    lines = full().by_id("trials").all("table")[0].rows
    assert lines[0] == [
        *("countermeasure", "victim", "held out", "seeds"),
        *("this release", "clean twin", "peak", "renamed"),
    ]
    assert len(lines) == 1 + 36
    trials = [
        trial["protected"]
        for trial in report_values.full()["trials"]
        if (trial["victim"], trial["countermeasure"]) == ("vgg16", "none")
    ]
    mean, low, high = 100 * sum(trials) / 3, 100 * min(trials), 100 * max(trials)
    assert lines[2][:4] == ["none (plain training)", "vgg16", "no", "3"]
    assert lines[2][4] == f"{mean:.1f} % {low:.1f} to {high:.1f}"


def test_the_strongest_countermeasure_comes_right_after_plain_training() -> None:
    names = [line[0] for line in full().by_id("trials").all("table")[0].rows]
    order = list(dict.fromkeys(names[1:]))
    assert order[:3] == ["none (plain training)", "jpeg:quality=10", "at-linf:radius=4,steps=10"]
    assert order[-1] == "trimmed-loss:keep=0.9"


def test_of_countermeasures_the_one_that_is_called_strongest_met_a_held_out_victim() -> None:
    known = training("vgg16", "dpa", 0, "protected", 0.9)
    held_out = training("resnet18", "dpa", 0, "protected", 0.6)
    plain = training("resnet18", "none", 0, "protected", 0.2)
    found = page(of([(known, None), (held_out, None), (plain, None)]))
    assert "The one countermeasure tried against the protection, dpa, brought" in found.text
    assert "brought a resnet18 to 60.0 % (clean images with it: not measured)." in found.text
    tiles = {tile.all("dt")[0].text: tile.all("dd")[0].text for tile in found.all("div", "tile")}
    assert tiles["plain training"] == "20.0 % resnet18, held out"
    assert tiles["strongest countermeasure tried"] == "60.0 % dpa, resnet18"


def test_what_the_verdict_is_about_is_shown_though_another_is_worse_on_average() -> None:
    finals = {"resnet18": (0.1, 0.3), "densenet121": (0.28, 0.29)}
    found = [
        (training(v, "none", seed, "protected", final), training(v, "none", seed, "clean", 0.9))
        for v, over in finals.items()
        for seed, final in enumerate(over)
    ]
    shown = page(of(found))
    assert "A resnet18 trained on this release scored 30.0 %" in shown.all("p")[0].text
    tile = shown.all("div", "tile")[0].text
    assert tile == "plain training, mean of 2 seeds 20.0 % resnet18, held out; 10.0 to 30.0"
    about = "What a resnet18, trained on this release (seed 1), predicted"
    assert about in shown.by_id("confusion").text


def test_settings_stand_apart_from_countermeasures() -> None:
    found = full()
    apart = [line[0] for line in found.by_id("settings").all("table")[0].rows[1:]]
    assert set(apart) == {"mix-percent:share=80", "class-wise:classes=half"}
    assert "mix-percent" not in found.by_id("overview").text
    assert not set(apart) & {line[0] for line in found.by_id("trials").all("table")[0].rows}
    told = report(left_by={"none": 0.1, "dusk": 0.2}) | {"settings": ["dusk"]}
    assert page(told).by_id("settings").all("table")[0].rows[1][0] == "dusk"


def test_a_clean_twin_that_was_not_trained_is_not_made_up() -> None:
    values = of([(training("resnet18", "none", 0, "protected", 0.2), None)])
    found = page(values)
    assert found.by_id("trials").all("table")[0].rows[1][5] == "not measured"
    assert "scored 20.0 % (clean images: not measured)." in found.all("p")[0].text
    assert "Not judged." in found.text
    assert "None" not in found.text
    assert not found.all("circle", "twin")


def test_without_trials_it_says_that_nothing_was_verified() -> None:
    values = of([])
    found = page(values | {"flags": [{"id": "not-verified", "text": "Nothing is known."}]})
    assert found.all("p")[0].text == "Not verified: no network was trained on this release."
    assert [s.attributes["id"] for s in found.all("section")] == [
        *("doubts", "visibility", "how", "again"),
    ]


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


def test_a_single_epoch_is_drawn_as_a_level() -> None:
    one = training("resnet18", "none", 0, "protected", 0.2, epochs=1)
    lines = page(of([(one, None)])).by_id("panels").all("polyline")
    assert lines[0].attributes["points"] == "0.00,80.00 100.00,80.00"


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


def test_visibility_is_given_in_figures() -> None:
    shown = page(report()).by_id("visibility").text
    for figure in ("50,000 of 50,000", "8 of 255 grey levels", "33.1 dB", "0.9513", "-0.012"):
        assert figure in shown
    values = report()
    values["visibility"] |= {"psnr": None, "changed": 0}
    assert "no pixel differs" in page(values).by_id("visibility").text
    assert "Not measured" in page(report(visibility=None)).by_id("visibility").text


def test_analyses_are_shown_with_curves_and_matrices() -> None:
    found = full().by_id("analyses")
    assert "such a gap also tells an attentive appropriator." in found.text
    assert [d.text for d in found.all("dl")[0].all("dd")] == ["0.883", "0.995", "0.964"]
    assert len(found.all("polyline")) == 3
    assert found.all("table")[0].rows[1][:2] == ["epoch 24", "1.00"]
    assert "not measured" in found.text


def test_curves_that_are_no_fractions_have_an_axis_of_their_own() -> None:
    one = {"analysis": "x", "figures": {}, "sentence": "y", "curves": {"loss": [4.0, 2.0, 3.0]}}
    found = page(report() | {"analyses": [one]}).by_id("analyses")
    assert found.all("polyline")[0].attributes["points"] == "0.00,0.00 50.00,100.00 100.00,50.00"
    assert {"2", "3", "4"} <= {tick.text for tick in found.all("text")}


def test_pictures_are_embedded_with_what_they_show() -> None:
    made = {"reports/r0001/images.png": png(), "Rows that were chosen": png(3, 5)}
    found = read(render_report(report(), made)).by_id("images")
    assert [figure.text for figure in found.all("figcaption")] == [
        "Images of this release, as published.",
        "Rows that were chosen",
    ]
    for image, size in zip(found.all("img"), [("6", "4"), ("3", "5")], strict=True):
        assert image.attributes["src"].startswith("data:image/png;base64,")
        assert (image.attributes["width"], image.attributes["height"]) == size
    with pytest.raises(ValueError, match=r"'a.png' is no PNG"):
        render_report(report(), {"a.png": b"GIF89a" + 40 * b"."})


def test_it_tells_what_was_trained_how_and_on_what() -> None:
    shown = full().by_id("how").text
    for told in (
        "126 trainings on this release and 126 of clean twins, from seeds 0, 1, 2, took 128.1 "
        "hours in all",
        "on 50,000 rows and was scored on 10,000 clean test images",
        "resnet18 (11,173,962 parameters), vgg16 (14,728,266 parameters)",
        "30 epochs; batches of 128; SGD with momentum 0.9; learning rate 0.1, a tenth of it after "
        "62.5 % and 75 % of training; weight decay 0.0005; random crops and flips.",
        "sep-fa-vr",
        "NVIDIA H200",
        "torchvision 0.29.0",
    ):
        assert told in shown


def test_recipes_that_differ_by_countermeasure_are_told_apart() -> None:
    values = report()
    for one in values["trainings"]:
        if one["spec"]["countermeasure"] != "none":
            one["recipe"] = one["recipe"] | {"epochs": 9, "optimiser": "adamw", "clip": 5.0}
    shown = page(values).by_id("how").text
    assert "9 epochs; batches of 128; AdamW;" in shown
    assert "clip 5. Under: jpeg:quality=10." in shown
    assert "Under: none." in shown
    assert "Under:" not in full().by_id("how").text


def test_what_was_left_out_is_named() -> None:
    values = report_values.full()
    lines = page(values).by_id("how").all("table")[0].rows
    assert lines[1] == ["at-linf:radius=4,steps=10", "wide-resnet-34-10", "this release", "0, 1, 2"]
    values["left_out"][0]["reason"] = "no time was left"
    assert page(values).by_id("how").all("table")[0].rows[1][4] == "no time was left"
    assert "left out" not in page(report()).text


def test_a_sample_and_a_delivery_are_told() -> None:
    sample = {"old": 4000, "published": 9000, "new": 500}
    shown = page(report(sample=sample, delivered_as="resize:256,jpeg:90")).text
    assert "4,000 of the 9,000 rows published before, drawn by the seed, and the 500" in shown
    assert "images delivered as resize:256,jpeg:90" in shown


def test_new_rows_alone_stand_in_the_table_and_not_in_the_overview() -> None:
    alone = training("resnet18", "none", 0, "protected", 0.4)
    alone["spec"]["rows"] = "new"
    found = page(of([(training("resnet18", "none", 0, "protected", 0.2), None), (alone, None)]))
    lines = found.by_id("trials").all("table")[0].rows
    assert lines[0][3] == "trained on"
    assert [line[3] for line in lines[1:]] == ["all rows", "new rows alone"]
    assert len(found.by_id("overview").all("div", "lane")) == 2  # with the one that is the scale


def test_commands_repeat_every_victim_and_countermeasure() -> None:
    command = page(report(("resnet18", "it's"))).by_id("again").all("pre")[1].text
    assert command.startswith("protect-release verify DATASET --clean SOURCE")
    assert "--victim resnet18" in command
    assert """--victim 'it'"'"'s'""" in command
    assert "--countermeasure jpeg:quality=10" in command


def named(name: str) -> dict[str, Any]:
    """A report with this text wherever foreign text may come."""
    values = report((name,), left_by={"none": 0.1, name: 0.5, "mix-percent:" + name: 0.4})
    one = {
        **{
            "analysis": name,
            "sentence": name,
            "figures": {name: 1.0},
            "curves": {name: [0.1, 0.2]},
        },
        **{"matrix": [[0.1, 0.2], [0.3, 0.4]], "labels": [name, name]},
    }
    left = {"victim": name, "countermeasure": name, "seed": 0, "data": name, "reason": name}
    return values | {
        **{"name": name, "date": name, "delivered_as": name, "class_names": [name] * 10},
        **{"flags": [{"id": name, "text": name}], "analyses": [one], "left_out": [left]},
        **{"hardware": {name: name}, "versions": {name: name}, "release": {name: name}},
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_shown_and_not_obeyed(name: str) -> None:
    html, plain = render_report(named(name), {name: png()}), render_report(named("x"), {"x": png()})
    found, like = read(html), read(plain)
    assert [e.tag for e in found.everything if e.tag != "span"] == [
        e.tag for e in like.everything if e.tag != "span"
    ]
    for one, other in zip(
        (e for e in found.everything if e.tag != "span"),
        (e for e in like.everything if e.tag != "span"),
        strict=True,
    ):
        assert one.attributes.keys() == other.attributes.keys()
    assert found.all("script")[0].children == like.all("script")[0].children
    assert " ".join(name.split()) in found.by_id("doubts").text


def test_it_needs_nothing_from_anywhere() -> None:
    html = render_report(report_values.full(), {"images.png": png()})
    policy = read(html).all("meta")[1].attributes
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; ")
    assert "img-src data:;" in policy["content"]
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|url\(|@import|https?:", html)
    assert not re.search(r" on\w+=", html)


def test_contents_lead_to_sections_that_are_there() -> None:
    for values in (report_values.full(), report(), of([])):
        found = page(values)
        links = [a.attributes["href"][1:] for a in found.all("nav")[0].all("a")]
        assert links == [section.attributes["id"] for section in found.all("section")]


def test_pictures_of_figures_are_told_in_words() -> None:
    found = full()
    for drawing in found.all("svg"):
        around = [drawing, *drawing.ancestors]
        assert any({"aria-hidden", "aria-label"} & e.attributes.keys() for e in around)


def test_a_real_report_is_shown() -> None:
    """As `protect-release verify` makes it, so that both agree on the file."""
    from evaluation.gate import Gate
    from evaluation.integrity import Visibility
    from evaluation.report import Subject, report_on
    from evaluation.trial import Epoch, Outcome, TrialSpec

    def trained(data: Any, final: float) -> Outcome:
        spec = TrialSpec(victim="vgg-w16", seed=0, data=data, preset="quick")
        counts = tuple(tuple(10 * (k == (t + 1) % 4) for k in range(4)) for t in range(4))
        curve = (Epoch(1.0, 0.5, 0.3), Epoch(0.5, 0.9, final))
        return Outcome(
            spec, curve, final, 0.3, 0.9, counts, 100, 40, 72_788, spec.recipe, seconds=3.0
        )

    made = report_on(
        [trained("protected", 0.26), trained("clean", 0.9)],
        Subject(
            name="r0001", date="2026-11-23", class_names="abcd", facts={"rows": 5}, preset="quick"
        ),
        gate=Gate(),
        visibility=Visibility(),
        hardware={"cores": 2},
        versions={"torch": "2"},
    )
    found = page(made.to_json())
    assert found.all("p")[0].text == (
        "A vgg-w16 trained on this release scored 26.0 % (clean images: 90.0 %)."
    )
    assert "one-seed" in found.by_id("doubts").text
    assert "shift by 1 class: 100.0 %" in found.by_id("confusion").text


def test_a_verdict_about_a_countermeasure_says_so() -> None:
    values = of([(training("efficientnet-b1", "cutmix", 0, "protected", 0.2), None)])
    values["verdict"] = verdict(values["trials"])
    lead = page(values).all("p")[0].text
    assert lead.startswith("An efficientnet-b1 trained on this release with cutmix scored 20.0 %")
