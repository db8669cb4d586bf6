"""What report.html says of how its figures can be checked by others."""

from __future__ import annotations

import report_values
from paged import page
from report_values import report


def test_commands_repeat_every_victim_and_countermeasure() -> None:
    command = page(report(("resnet18", "it's"))).by_id("again").all("pre")[1].text
    assert command.startswith("protect-release verify DATASET --clean SOURCE")
    assert "--victim resnet18" in command
    assert """--victim 'it'"'"'s'""" in command
    assert "--countermeasure jpeg:quality=10" in command
    assert command.endswith("--preset paper")


def test_commands_repeat_what_figures_depend_on() -> None:
    values = report_values.full() | {"delivered_as": "resize:256,jpeg:90"}
    values["release"]["verified_rows"] = 5000
    values["gate"] = {"max_ratio": 0.5, "max_accuracy": 0.3}
    for one in values["trainings"]:
        one["spec"]["epochs"] = 7
    command = page(values).by_id("again").all("pre")[1].text
    for option in (
        *("--preset paper", "--epochs 7", "--seeds 3", "--rows 5000", "--max-accuracy 0.3"),
        *("--delivered-as resize:256,jpeg:90", "--analysis gradient-cosine:images=1000"),
    ):
        assert option in command


def test_commands_name_splits_and_sizes_that_are_not_the_usual_ones() -> None:
    values = report()
    command = page(values).by_id("again").all("pre")[1].text
    assert not [name for name in ("--split", "--test-split", "--net-size") if name in command]
    assert "The figures, trained again from scratch." in page(values).by_id("again").text
    values["release"] |= {"split": "images", "net_size": 32}
    values["test_split"] = "validation"
    for one in values["trainings"]:
        one["spec"]["net_size"] = 64
    command = page(values).by_id("again").all("pre")[1].text
    for option in ("--split images", "--test-split validation", "--net-size 64"):
        assert option in command


def test_what_was_drawn_from_the_secret_seed_cannot_be_repeated_exactly() -> None:
    held_out = page(report(test_split=None))
    assert "clean originals of a tenth of the released rows" in held_out.by_id("how").text
    told = held_out.by_id("again").text
    assert "Comparable trainings; the very same cannot be made by others, since the test" in told
    assert "Give SOURCE a test split of its own." in told
    assert "--test-split" not in told
    grown = page(report(sample={"old": 4000, "published": 9000, "new": 500}))
    told = grown.by_id("again").text
    assert "since the rows published before that victims trained on were drawn" in told
    assert "test split of its own" not in told
    assert "no test split" not in grown.text
