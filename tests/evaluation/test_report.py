"""The report: what it gathers, what it says, and its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from trials import outcome

from evaluation.gate import Gate
from evaluation.integrity import Visibility
from evaluation.report import SCHEMA, Report, Sample, Subject, report_on, table
from evaluation.trial import Outcome

Values = dict[str, Any]
HEADER = (
    "victim",
    "held out",
    "trained on",
    "countermeasure",
    "clean",
    "protected",
    "peak",
    "renamed",
)

SUBJECT = {field.name for field in fields(Subject)}


def report(outcomes: list[Outcome] | None = None, **changes: Any) -> Report:
    subject: Values = {
        "name": "org/digits-protected",
        "date": "2026-11-23",
        "class_names": [f"class {k}" for k in range(10)],
        "facts": {"rows": 5000, "method": "sep-fa-vr"},
        "preset": "quick",
        "test_split": "test",
        "license": "mit",
        "surrogates": ["resnet10-w16"],
    }
    facts: Values = {
        "gate": Gate(),
        "visibility": Visibility(2, 1, 600, 8, 900, -3, 33.0, 1.9),
        "hardware": {"cpu": "some", "cores": 2},
        "versions": {"torch": "2.15.0"},
    }
    subject |= {name: changes.pop(name) for name in list(changes) if name in SUBJECT}
    both = [outcome("protected", 0.2, 0.4, 0.12), outcome("clean", 0.5, 0.6, 0.67)]
    chosen = both if outcomes is None else outcomes
    return report_on(chosen, Subject(**subject), **facts | changes)


@pytest.fixture(scope="module")
def validate() -> Callable[[Values], None]:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    check: Callable[[Values], None] = validator.validate
    return check


def test_figures_verdict_and_flags_come_from_the_trainings() -> None:
    made = report()
    assert made.verdict is not None
    assert made.verdict.holds
    assert made.trials[0].peak == 0.4
    assert "peak-above-gate" in [flag.id for flag in made.flags]
    assert "small-networks-only" in [flag.id for flag in made.flags]


def test_without_trainings_there_is_no_verdict_but_a_flag() -> None:
    made = report([])
    assert made.verdict is None
    assert [flag.id for flag in made.flags] == ["not-verified"]


def test_the_table_has_a_line_for_each_victim_in_per_cent() -> None:
    assert table(report()) == [
        HEADER,
        ("vgg-w16", "yes", "all rows", "none", "67.0 %", "12.0 %", "40.0 %", "33.0 %"),
    ]


def test_a_peak_that_no_epoch_was_scored_for_is_not_measured() -> None:
    made = report(unwatched())
    assert made.summaries[0].peak is None
    assert table(made)[1][6] == "not measured"


def unwatched() -> list[Outcome]:
    """Trainings whose epochs were not scored."""
    return [replace(outcome(data, 0.2), curve=()) for data in ("protected", "clean")]


def diverged() -> list[Outcome]:
    """As they were kept on disk, where a loss that is no number stands as one."""
    made = [outcome(data, 0.3, 0.1).to_json() for data in ("protected", "clean")]
    made[0]["curve"][1]["loss"], made[1]["curve"][1]["loss"] = float("nan"), float("inf")
    return [Outcome.from_json(json.loads(json.dumps(values))) for values in made]


def increment() -> list[Outcome]:
    """Trainings on old and new rows, and on the new ones alone, which stand first."""
    alone: Values = {"rows": "new", "train_rows": 500}
    return [
        outcome("protected", 0.3, 0.37, **alone),
        outcome("clean", 0.3, 0.38, **alone),
        outcome("protected", 0.2, 0.12),
        outcome("clean", 0.5, 0.67),
    ]


def test_new_rows_alone_are_reported_beside_all_rows_and_not_judged() -> None:
    made = report(increment())
    assert made.verdict is not None
    assert made.verdict.worst.protected == 0.12
    assert [(row.rows, row.protected.mean) for row in made.summaries] == [
        ("release", 0.12),
        ("new", 0.37),
    ]
    assert table(made) == [
        HEADER,
        ("vgg-w16", "yes", "all rows", "none", "67.0 %", "12.0 %", "20.0 %", "33.0 %"),
        ("vgg-w16", "yes", "new rows alone", "none", "38.0 %", "37.0 %", "37.0 %", "33.0 %"),
    ]
    assert "the 500 new rows" in {flag.id: flag.text for flag in made.flags}["new-rows-alone"]


def test_the_report_says_what_was_sampled(tmp_path: Path) -> None:
    report(increment(), sample=Sample(10_000, 52_000, 500)).save(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["sample"] == {"old": 10_000, "published": 52_000, "new": 500}
    assert report().to_json()["sample"] is None


def test_what_the_owner_told_is_doubted() -> None:
    made = report(source_is_public=True, typed_seed=True)
    assert {"source-public", "typed-seed"} <= {flag.id for flag in made.flags}
    assert not {"source-public", "typed-seed"} & {flag.id for flag in report().flags}


def test_seeds_are_given_as_mean_and_range() -> None:
    seeds = [(0, 0.1, 0.66), (1, 0.2, 0.68)]
    outcomes = [
        made
        for seed, protected, clean in seeds
        for made in (outcome("protected", protected, seed=seed), outcome("clean", clean, seed=seed))
    ]
    made = report(outcomes)
    (row,) = made.summaries
    assert (row.seeds, row.protected) == (2, pytest.approx((0.15, 0.1, 0.2)))
    assert table(made)[1][5] == "15.0 % (10.0 % to 20.0 %)"
    assert "one-seed" not in [flag.id for flag in made.flags]


def test_the_worst_victim_is_so_over_its_seeds() -> None:
    """The verdict is about the one seed that is nearest to what the gate allows."""
    finals = {"vgg-w16": (0.1, 0.4), "resnet18-w16": (0.3, 0.32), "resnet10-w16": (0.6, 0.6)}
    made = report(
        [
            outcome("protected", final, seed=seed, victim=name)
            for name, over in finals.items()
            for seed, final in enumerate(over)
        ],
        gate=Gate(max_accuracy=0.5),
    )
    assert made.verdict is not None
    assert made.verdict.worst.victim == "vgg-w16"
    assert made.worst is not None
    assert (made.worst.victim, made.worst.protected.mean) == ("resnet18-w16", 0.31)
    assert report([]).worst is None


def test_the_report_never_promises_security() -> None:
    text = json.dumps(report().to_json()).lower()
    assert not [word for word in ("secure", "guarantee", "unbreakable") if word in text]


def test_the_file_holds_everything(tmp_path: Path) -> None:
    report().save(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["schema_version"] == 4
    assert found["trials"][0]["protected"] == 0.12
    assert found["trials"][0]["rows"] == found["trainings"][0]["spec"]["rows"] == "release"
    assert found["trainings"][0]["dominant_shift"] == {"classes": 5, "share": 0.88}
    assert [epoch["test_accuracy"] for epoch in found["trainings"][0]["curve"]] == [0.2, 0.4, 0.12]
    assert found["visibility"]["psnr"] == 33.0
    assert found["release"]["method"] == "sep-fa-vr"


@pytest.mark.parametrize("sample", [None, Sample(3, 4, 5)])
@pytest.mark.parametrize("outcomes", [None, [], increment(), unwatched(), diverged()])
def test_the_file_fits_its_schema(
    outcomes: list[Outcome] | None,
    sample: Sample | None,
    validate: Callable[[Values], None],
    tmp_path: Path,
) -> None:
    report(outcomes, sample=sample).save(tmp_path / "report.json")
    validate(json.loads((tmp_path / "report.json").read_text()))


def test_a_twin_at_chance_fits_the_schema_too(validate: Callable[[Values], None]) -> None:
    made = report([outcome("protected", 0.1), outcome("clean", 0.1)])
    validate(json.loads(json.dumps(made.to_json(), allow_nan=False)))


def _percent(values: Values) -> None:
    values["trials"][0]["protected"] = 12.0


def _no_peak(values: Values) -> None:
    del values["trials"][0]["peak"]


def _seed(values: Values) -> None:
    values["seed"] = "abc"


def _negative(values: Values) -> None:
    values["trainings"][0]["confusion"][0][0] = -1


def _other_rows(values: Values) -> None:
    values["trials"][0]["rows"] = "old"


def _no_rows(values: Values) -> None:
    del values["trainings"][0]["spec"]["rows"]


def _negative_sample(values: Values) -> None:
    values["sample"] = {"old": -1, "published": 4, "new": 5}


@pytest.mark.parametrize(
    "spoil", [_percent, _no_peak, _seed, _negative, _other_rows, _no_rows, _negative_sample]
)
def test_the_schema_refuses_what_is_no_report(
    spoil: Callable[[Values], None], validate: Callable[[Values], None]
) -> None:
    values = json.loads(json.dumps(report().to_json()))
    spoil(values)
    with pytest.raises(jsonschema.ValidationError):
        validate(values)
