"""Victims whose training diverged: what is told of them, and that nothing is made of their
accuracy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import torch
from test_verify import CPU, coloured, spec
from torch import Tensor, nn
from trials import outcome, trial

from cards.page import render_report
from crafting.training import Hooks
from evaluation import trial as trials
from evaluation.countermeasures import Countermeasure, Setting
from evaluation.doubted import Doubted
from evaluation.flags import raised
from evaluation.gate import Gate
from evaluation.integrity import Visibility
from evaluation.report import SCHEMA, Subject, report_on
from evaluation.trial import Outcome, pair
from evaluation.verify import Splits, run
from evaluation.victims import victim


@pytest.fixture
def exploding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that no training survives."""
    entry = victim("vgg-w16")
    wild = replace(entry, recipe_quick=replace(entry.recipe_quick, lr=1e30))
    monkeypatch.setattr(trials, "victim", lambda name: wild)


def trained(countermeasure: str = "none", **changes: Any) -> Outcome:
    made = spec(countermeasure=countermeasure, data="protected", epochs=2, **changes)
    rows, test = coloured(40, 1), coloured(80, 2)
    return run(made, Splits(rows, test, rows), device=CPU, progress=lambda share: None)


@pytest.mark.usefixtures("exploding")
@pytest.mark.parametrize("name", ["none", "dpa", "knn", "refit-head", "dfr", "simclr"])
def test_a_training_that_explodes_has_diverged(name: str) -> None:
    """Whether its epochs are scored or not, where its last answers are votes, and where nothing can
    be fitted to its features."""
    found = trained(name)
    assert found.diverged
    assert Outcome.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    assert pair([found])[0].diverged


def test_one_that_learns_has_not_diverged() -> None:
    assert not trained().diverged


def test_what_is_not_a_net_has_diverged_by_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def answering(number: float) -> Outcome:
        class Answering(Countermeasure):
            name = "answering"

            def hooks(self, setting: Setting) -> Hooks:
                return Hooks(finish=lambda *_: lambda x: torch.full((len(x), 4), number))

        monkeypatch.setattr("evaluation.verify.parse", lambda text: Answering())
        return trained()

    assert [answering(number).diverged for number in (1.0, float("inf"))] == [False, True]


def test_an_epoch_that_was_survived_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is scored in the end is what counts: here a net that was made anew."""

    class Renewed(Countermeasure):
        name = "renewed"

        def hooks(self, setting: Setting) -> Hooks:
            def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
                answers: Tensor = net(x)
                return answers.sum() * float("nan")

            return Hooks(loss=loss, finish=lambda *_: lambda x: torch.ones(len(x), 4))

    monkeypatch.setattr("evaluation.verify.parse", lambda text: Renewed())
    found = trained()
    assert found.curve[-1].loss is None
    assert not found.diverged


@pytest.mark.parametrize(("loss", "diverged"), [(float("nan"), True), (None, True), (2.0, False)])
def test_an_older_outcome_diverged_where_its_loss_did(loss: float | None, diverged: bool) -> None:
    values = outcome("protected", 0.3, 0.1).to_json()
    del values["diverged"]
    values["curve"][1]["loss"] = loss
    assert Outcome.from_json(json.loads(json.dumps(values))).diverged is diverged


@pytest.mark.parametrize("gate", [Gate(), Gate(max_accuracy=0.5)])
def test_no_gate_holds_by_a_victim_that_diverged(gate: Gate) -> None:
    verdict = gate.judge([trial(seed=1), trial(diverged=True, protected=0.1)])
    assert verdict is not None
    assert (verdict.holds, verdict.worst.diverged, verdict.ratio) == (False, True, None)
    assert verdict.reason == (
        "the training of the resnet18 on this release diverged, to numbers that are not finite, "
        "so that protection cannot be judged"
    )


def test_one_that_the_gate_does_not_look_at_decides_nothing() -> None:
    other = trial(countermeasure="dpa", diverged=True, protected=0.1)
    verdict = Gate().judge([trial(), other])
    assert verdict is not None
    assert verdict.holds
    assert Gate().judge([trial(clean=None, diverged=True)]) is None


def test_the_flag_names_victims_and_what_they_met() -> None:
    found = [trial(diverged=True), trial(diverged=True, countermeasure="dpa", victim="vgg16")]
    (flag,) = (f for f in raised(Doubted(found, Gate(), "mit")) if f.id == "victim-diverged")
    assert flag.text == (
        "On this release the training of resnet18 and vgg16 (dpa) diverged, to numbers that are "
        "not finite: their low accuracy is no sign of protection."
    )


def test_a_raised_gate_is_told_whoever_diverged_beside_it() -> None:
    found = [trial(diverged=True, protected=0.1), trial(seed=1)]
    ids = [flag.id for flag in raised(Doubted(found, Gate(max_accuracy=0.9), "mit"))]
    assert "raised-gate" in ids


@pytest.fixture
def values() -> dict[str, Any]:
    """A report on a victim that diverged, as its file has it."""
    subject = Subject(
        name="r0001",
        date="2026-11-23",
        class_names="abcdefghij",
        facts={},
        preset="quick",
        test_split=None,
    )
    made = report_on(
        [outcome("protected", 0.1, diverged=True), outcome("clean", 0.6)],
        subject,
        gate=Gate(),
        visibility=Visibility(1, 1, 300, 8, 900, -3, 33.0, 0.9),
        hardware={"cores": 2},
        versions={"torch": "2"},
    )
    written: dict[str, Any] = json.loads(json.dumps(made.to_json(), allow_nan=False))
    return written


def test_file_and_page_say_so(values: dict[str, Any]) -> None:
    assert values["trials"][0]["diverged"]
    assert [one["diverged"] for one in values["trainings"]] == [True, False]
    page = render_report(values)
    assert "Cannot be judged." in page
    assert "The training of the vgg-w16 on this release diverged" in page


def test_a_report_from_before_it_was_told_is_still_one(values: dict[str, Any]) -> None:
    for one in (*values["trials"], *values["trainings"], values["verdict"]["worst"]):
        one.pop("diverged", None)
    jsonschema.validate(values, json.loads(SCHEMA.read_text()))
    assert "vgg-w16" in render_report(values)
