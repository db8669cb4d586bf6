from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from clean_data import Run
from potency_claims import claim

from benchmarks.potency import options_parser
from benchmarks.replication_claims import ITEMS
from benchmarks.replication_items import Check, Item
from benchmarks.replication_page import PAGE, Found, _of_potency, found, page, status
from crafting.registry import lookup
from evaluation.countermeasures import parse
from evaluation.victims import VICTIMS

CHECKS = (Check("tap", 0.06), Check("tap", 0.8, countermeasure="at-linf:radius=8.0"))
ITEM = Item("A paper", "Table 1", "what", "make it", CHECKS)
FULL = [
    Found("paper", "cifar10", "tap", "linf:8", "resnet18", "none", 0.07),
    Found("paper", "cifar10", "tap", "linf:8", "resnet18", "at-linf:radius=8.0", 0.78),
]
QUICK = [
    Found("quick", "cifar10", "tap", "linf:8", "vgg-w16", "none", 0.2),
    Found("quick", "cifar10", "tap", "linf:8", "vgg-w16", "at-linf:radius=8.0,steps=3", 0.5),
]


def test_the_page_is_what_its_generator_writes() -> None:
    assert PAGE.read_text() == page(found()), "run python -m benchmarks.replication_page"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([], "not run"),
        (QUICK[:1], "not run (1 of 2 at quick scale)"),
        (QUICK, "quick scale only"),
        (FULL[:1], "not run (1 of 2 figures at paper scale)"),
        ([FULL[0], *QUICK], "quick scale only"),
        (FULL, "reproduced"),
        ([FULL[0], *FULL, *FULL], "reproduced"),
    ],
)
def test_the_status_follows_from_what_was_measured(measured: list[Found], expected: str) -> None:
    assert status(ITEM, measured) == expected


def test_a_figure_far_from_the_published_one_is_not_reproduced() -> None:
    far = Found("paper", "cifar10", "tap", "linf:8", "resnet18", "none", 0.2)
    assert status(ITEM, [far, FULL[1]]) == "not reproduced (1 of 2 figures are close)"


@pytest.mark.parametrize(
    "other",
    [
        Found("paper", "cifar10", "tap", "linf:8", "vgg16", "none", 0.07),
        Found("paper", "cifar100", "tap", "linf:8", "resnet18", "none", 0.07),
        Found("paper", "cifar10", "tap", "linf:4", "resnet18", "none", 0.07),
        Found("quick", "cifar10", "tap", "linf:4", "resnet18", "none", 0.07),
        Found("quick", "cifar10", "tap", "linf:8", "resnet18", "at-linf:steps=3", 0.07),
        Found("quick", "cifar10", "sep", "linf:8", "resnet18", "none", 0.07),
    ],
)
def test_another_measurement_is_none(other: Found) -> None:
    assert status(ITEM, [other]) == "not run"


def test_all_result_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "potency").mkdir()
    made = claim("tap", (0.1, 0.3))
    (tmp_path / "potency/a.json").write_text(json.dumps(made.facts))
    trial = {"victim": "vgg-w16", "countermeasure": "none", "protected": 0.2}
    told = {
        "budgets": {"sep": "linf:8"},
        "source": "cifar10",
        "trials": [trial | {"method": "sep"}],
    }
    (tmp_path / "countermeasures.json").write_text(json.dumps(told))
    measured = found(tmp_path)
    assert measured[:3] == list(_of_potency([made]))
    of = ("linf:8", "vgg-w16", "none", 0.2)
    assert measured[3:] == [Found("quick", "cifar10", "sep", *of)]


def test_every_item_is_on_the_page_once() -> None:
    text = page([])
    for item in ITEMS:
        assert text.count(f"| {item.paper} | {item.name} | {item.what} | not run |") == 1


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.paper} {item.name}")
def test_commands_and_checks_use_what_there_is(item: Item, run: Run) -> None:
    for check in item.checks:
        assert str(parse(check.countermeasure)) == check.countermeasure
        lookup("victim", check.victim, VICTIMS)
    words = shlex.split(item.command)
    if words[:3] == ["python", "-m", "benchmarks.potency"]:
        options = options_parser().parse_args(words[3:])
        asked = set(options.methods.split(","))
        assert {check.method for check in item.checks} <= asked
        victims = (
            options.victims.split(",") if options.victims else ("resnet18", "vgg16", "densenet121")
        )
        assert {check.victim for check in item.checks} <= set(victims)
        tried = {"none", *(options.countermeasure or [])}
        assert {check.countermeasure for check in item.checks} <= tried
    elif words:
        offered = run(words[1], "--help").stdout
        assert all(word in offered for word in words[2:] if word.startswith("--"))
