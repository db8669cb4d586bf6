"""report.html says everything that report.json holds, and nothing else."""

from __future__ import annotations

from typing import Any

import report_values
from card_facts import facts
from page_reader import Element
from paged import full, page
from rendered import text
from report_values import of, report, training, verdict

from cards.card import render
from cards.figures import SETTINGS, kind
from evaluation.countermeasures import COUNTERMEASURES, parse
from evaluation.verify import curve_rows

DATA = ("protected", "clean")


def test_it_opens_with_what_was_measured_and_by_the_gate() -> None:
    found = full()
    worst = report_values.full()["verdict"]["worst"]
    lead, stand, hardest = found.all("p")[:3]
    scored, clean = (f"{100 * worst[name]:.1f} %" for name in ("protected", "clean"))
    assert lead.text == (
        f"A resnet18 trained on this release scored {scored} (the worst of 3 seeds; clean images: "
        f"{clean})."
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
    assert "It allows every victim 50.0 %, as was asked for." in page(owner).text


def test_figures_that_round_like_what_is_allowed_are_told_by_the_reason() -> None:
    values = report()
    reason = "a resnet18 scored 38.604 %, more than the 38.600 % allowed"
    values["verdict"] |= {"threshold": 0.386, "holds": False, "reason": reason}
    values["verdict"]["worst"]["protected"] = 0.38604
    assert "Above the gate. A resnet18 scored 38.604 %, more than the 38.600 %" in page(values).text
    values["verdict"]["worst"]["protected"] = 0.5
    assert "38.604" not in page(values).text


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


def test_of_countermeasures_the_strongest_is_that_of_whoever_learnt_most() -> None:
    known = training("vgg16", "dpa", 0, "protected", 0.9)
    held_out = training("resnet18", "dpa", 0, "protected", 0.6)
    plain = training("resnet18", "none", 0, "protected", 0.2)
    found = page(of([(known, None), (held_out, None), (plain, None)]))
    assert "The one countermeasure tried against the protection, dpa, brought" in found.text
    told = "brought a vgg16 (not held out) to 90.0 % (clean images with it: not measured)."
    assert told in found.text
    tiles = {tile.all("dt")[0].text: tile.all("dd")[0].text for tile in found.all("div", "tile")}
    assert tiles["plain training"] == "20.0 % resnet18, held out"
    assert tiles["strongest countermeasure tried"] == "90.0 % dpa, vgg16, not held out"


def test_the_strongest_countermeasure_heads_the_overview() -> None:
    known = training("vgg16", "dpa", 0, "protected", 0.9)
    others = [training("resnet18", name, 0, "protected", 0.6) for name in ("cutmix", "none", "dpa")]
    found = page(of([(one, None) for one in (known, *others)]))
    assert "The strongest of 2 tried against the protection, dpa, brought a vgg16" in found.text
    names = [one.text for one in found.by_id("overview").all("div", "name")]
    assert names == ["none (plain training)", "dpa", "cutmix"]


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


def test_the_confusion_is_of_the_seed_that_the_verdict_is_about() -> None:
    """Which need not be the one that scored highest, where its clean twin did too."""
    finals = ((0.3, 0.5), (0.35, 0.9))
    values = of(
        [
            tuple(
                training("resnet18", "none", seed, data, final)
                for data, final in zip(DATA, pair, strict=True)
            )
            for seed, pair in enumerate(finals)
        ]
    )
    values["verdict"] |= {"worst": values["trials"][0], "threshold": 0.3}
    shown = page(values)
    assert "scored 30.0 % (the worst of 2 seeds; clean images: 50.0 %)." in shown.text
    assert "on this release (seed 0), predicted" in shown.by_id("confusion").text


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
    assert "Further cautions" in found.text
    assert "Nothing is known." not in found.text, "it is said first"


def test_visibility_is_given_in_figures() -> None:
    shown = page(report()).by_id("visibility").text
    for figure in ("50,000 of 50,000", "8 of 255 grey levels", "33.1 dB", "0.9513", "-0.012"):
        assert figure in shown
    values = report()
    assert "Compared" not in page(values).by_id("visibility").text
    values["release"]["released_rows"] = 60_000
    assert "the first 50,000 of 60,000 images" in page(values).by_id("visibility").text
    values["visibility"] |= {"psnr": None, "changed": 0}
    assert "no pixel differs" in page(values).by_id("visibility").text
    assert "Not measured" in page(report(visibility=None)).by_id("visibility").text


def test_it_tells_what_was_trained_how_and_on_what() -> None:
    shown = full().by_id("how").text
    for told in (
        "126 trainings on this release and 126 of clean twins, from seeds 0, 1, 2, took 128.1 "
        "hours in all",
        "was given 50,000 rows and in the end was scored on 10,000 clean test images",
        "resnet18 (11,173,962 parameters), vgg16 (14,728,266 parameters)",
        "30 epochs; batches of 128; SGD with momentum 0.9; learning rate 0.1, a tenth of it after "
        "62.5 % and 75 % of training; weight decay 0.0005; random crops and flips.",
        "sep-fa-vr",
        "NVIDIA H200",
        "torchvision 0.29.0",
    ):
        assert told in shown


def test_epochs_are_said_to_be_scored_on_fewer_images() -> None:
    most = f"at most {curve_rows(10**6, 10**6):,} of the"
    assert f"epochs are scored on {most} test images" in full().by_id("trials").text
    assert f"Accuracy on {most} clean test images after every epoch" in full().by_id("curves").text
    assert f"epochs are scored on {most} test images" in text(render(facts()))


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


def test_a_victim_that_was_not_scored_by_epoch_has_no_peak() -> None:
    """What trains under simclr or dpa is not what is scored in the end."""
    trained = [training("resnet18", "simclr", 0, data, 0.4, curve=[]) for data in DATA]
    found = page(of([(trained[0], trained[1])]))
    assert found.by_id("trials").all("table")[0].rows[1][6] == "not measured"
    assert "There is no peak where what trains" in found.by_id("trials").text
    assert "best epoch" not in found.all("dl", "tiles")[0].text
    assert "There is no peak" not in page(report()).text
    assert "best epoch" in page(report()).all("dl", "tiles")[0].text


def test_a_clean_twin_stands_beside_the_figure_that_it_is_the_twin_of() -> None:
    labels = [tile.all("dt")[0].text for tile in full().all("div", "tile")]
    assert labels[:3] == [
        *("plain training, mean of 3 seeds", "the same, stopped at its best epoch"),
        "its clean twin",
    ]


def choices(found: Element, section: str, name: str) -> list[str]:
    (select,) = (s for s in found.by_id(section).all("select") if s.attributes["name"] == name)
    return [option.attributes["value"] for option in select.all("option")]


def test_a_filter_offers_only_what_it_would_show() -> None:
    voted = training("vgg16", "dpa", 0, "protected", 0.9, curve=[])
    mixed = training("resnet18", "mix-percent", 0, "protected", 0.3)
    plain = training("resnet18", "none", 0, "protected", 0.2)
    found = page(of([(voted, None), (mixed, None), (plain, None)]))
    assert choices(found, "trials", "countermeasure") == ["", "none", "dpa"]
    assert choices(found, "trials", "victim") == ["", "resnet18", "vgg16"]
    assert choices(found, "curves", "countermeasure") == ["", "none", "mix-percent"]
    assert choices(found, "curves", "victim") == ["", "resnet18"]


def test_the_curves_that_are_shown_first_are_there() -> None:
    """Of these two the stronger one has none."""
    voted = training("resnet18", "dpa", 0, "protected", 0.9, curve=[])
    cut = training("resnet18", "cutmix", 0, "protected", 0.3)
    found = page(of([(voted, None), (cut, None)])).by_id("curves")
    chosen = [o for o in found.all("option") if "selected" in o.attributes]
    assert [option.attributes["value"] for option in chosen] == ["cutmix"]


def test_circumstances_are_explained() -> None:
    told = full().by_id("settings").text
    assert "its clean twin trains on the clean ones alone" in told
    assert "class-wise: only some classes are protected" in told
    assert "noise-swap" not in told
    named = dict.fromkeys(kind(name) for name in COUNTERMEASURES if parse(name).is_setting)
    assert set(named) == set(SETTINGS), "all that there are"


def test_weights_of_elsewhere_are_not_from_scratch() -> None:
    tuned = training("resnet18", "finetune:weights=w.pt@0123abcd", 0, "protected", 0.3)
    found = page(of([(training("resnet18", "none", 0, "protected", 0.2), None), (tuned, None)]))
    assert "Each trained from scratch (under finetune from weights" in found.by_id("how").text
    assert "give the path of your own copy" in found.by_id("again").text
    assert "(under finetune" not in full().text
    assert "path of your own copy" not in full().text


def test_clean_images_that_were_given_away_are_counted() -> None:
    """Though no training was scored on more."""
    fitted = training("resnet18", "dfr", 0, "protected", 0.3, test_rows=500, owned_rows=500)
    shown = page(of([(fitted, None)])).by_id("how").text
    assert "to whoever trains, and were not scored: 500 under dfr." in shown
    assert "to whoever trains" not in full().text


def test_every_schedule_is_put_in_words() -> None:
    values = report()
    for one in values["trainings"]:
        one["recipe"] = one["recipe"] | {"schedule": "warm-cosine", "milestones": []}
        one["seconds"] = 3.0
    shown = page(values).by_id("how").text
    assert "learning rate 0.1, climbing, then falling along a cosine;" in shown
    assert "took less than a minute in all" in shown


def test_contents_lead_to_sections_that_are_there() -> None:
    for values in (report_values.full(), report(), of([])):
        found = page(values)
        links = [a.attributes["href"][1:] for a in found.all("nav")[0].all("a")]
        assert links == [section.attributes["id"] for section in found.all("section")]


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
        sizes = (counts, 100, 40, 72_788)
        return Outcome(spec, curve, final, 0.3, 0.9, *sizes, spec.recipe, 3.0, 0, False)

    made = report_on(
        [trained("protected", 0.26), trained("clean", 0.9)],
        Subject(
            name="r0001",
            date="2026-11-23",
            class_names="abcd",
            facts={},
            preset="quick",
            test_split=None,
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
