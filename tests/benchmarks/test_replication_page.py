from __future__ import annotations

import json
import shlex
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clean_data import Run
from potency_claims import claim

from benchmarks import potency
from benchmarks.replication_claims import ITEMS
from benchmarks.replication_items import Check, Item
from benchmarks.replication_page import PAGE, Found, _of_potency, found, page, shown, status
from crafting.registry import lookup, registration
from evaluation.countermeasures import parse
from evaluation.victims import VICTIMS, default_victims
from release import choices, demand
from release.verification.resolve import DEFAULT_COUNTERMEASURES

CHECKS = (Check("tap", 0.06), Check("tap", 0.8, countermeasure="at-linf:radius=8.0"))
ITEM = Item("A paper", "Table 1", "what", "make it", CHECKS)


def _full(protected: float, countermeasure: str = "none", **changes: Any) -> Found:
    names = ("paper", "cifar10", "tap", "linf:8", "resnet18", countermeasure)
    return replace(Found(*names, protected, 120, whole=True), **changes)


def _quick(protected: float, countermeasure: str = "none", **changes: Any) -> Found:
    names = ("quick", "cifar10", "tap", "linf:8", "vgg-w16", countermeasure)
    return replace(Found(*names, protected, 20), **changes)


FULL = [_full(0.07), _full(0.78, "at-linf:radius=8.0")]
QUICK = [_quick(0.2), _quick(0.5, "at-linf:radius=8.0,steps=3")]


def test_the_page_is_what_its_generator_writes() -> None:
    assert PAGE.read_text() == page(found(), shown()), "run python -m benchmarks.replication_page"


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


def test_what_is_no_accuracy_is_run_where_all_that_shows_it_was_measured() -> None:
    item = Item("A paper", "Figure 1", "what", "make it", shown_by=("csd", "premise"))
    assert status(item, [], {"csd", "randomness"}) == "not run"
    assert status(item, [], {"csd", "premise", "randomness"}) == "quick scale only"


def test_a_figure_far_from_the_published_one_is_not_reproduced() -> None:
    assert status(ITEM, [_full(0.2), FULL[1]]) == "not reproduced (1 of 2 figures are close)"


@pytest.mark.parametrize(
    "other",
    [
        _full(0.07, victim="vgg16"),
        _full(0.07, dataset="cifar100"),
        _full(0.07, budget="linf:4"),
        _full(0.07, whole=False),
        _full(0.07, epochs=1),
        _full(0.07, settings=(("restarts", "1"),)),
        _quick(0.07, budget="linf:4"),
        _quick(0.07, "at-linf:steps=3"),
        _quick(0.07, method="sep"),
        _quick(0.07, settings=(("restarts", "4"),)),
    ],
)
def test_another_measurement_is_none(other: Found) -> None:
    assert status(ITEM, [other]) == "not run"


def test_a_paper_may_have_other_settings_than_the_preset() -> None:
    settings = (("restarts", "4"),)
    item = replace(ITEM, checks=(replace(CHECKS[0], settings=settings),))
    assert status(item, FULL) == "not run"
    assert status(item, [_full(0.07, settings=settings)]) == "reproduced"
    assert status(item, QUICK) == "quick scale only"


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
    assert measured[3:] == [_quick(0.2, method="sep")]


def test_what_was_measured_says_of_how_many_rows_and_epochs_it_is() -> None:
    (of, *_) = _of_potency([claim("tap", (0.1, 0.3), settings={"steps": "9"})])
    assert (of.epochs, of.whole, of.settings) == (20, False, (("steps", "9"),))
    (of, *_) = _of_potency([claim("tap", (0.1, 0.3), source_rows=5000)])
    assert (of.epochs, of.whole, of.settings) == (20, True, ())


def test_every_item_is_on_the_page_once() -> None:
    text = page([], [])
    for item in ITEMS:
        assert text.count(f"| {item.paper} | {item.name} | {item.what} | not run |") == 1


def _shown(check: Check) -> tuple[Any, ...]:
    """What has to be measured for it."""
    of = (check.dataset, check.method, check.budget, check.settings)
    return (*of, check.victim, check.countermeasure)


def _measured_by(words: list[str]) -> set[tuple[Any, ...]]:
    """All that a potency command measures; it leaves out none of the methods that it names."""
    options = potency.options_parser().parse_args(words)
    asked = list(potency.asked(options))
    assert [variant.name for variant in asked] == options.methods.split(",")
    victims = options.victims.split(",") if options.victims else default_victims(options.scale)
    tried = ["none", *(options.countermeasure or [])]
    return {
        (Path(options.source).stem, of.name, of.budget, of.settings, victim, str(parse(name)))
        for of in asked
        for victim in victims
        for name in tried
    }


def _demand_possible(words: list[str]) -> None:
    """As `protect-release verify` does it."""
    named = [word for before, word in pairwise(words) if before == "--countermeasure"]
    rows = choices.Rows(10)
    demand.possible(choices.countermeasures(named or DEFAULT_COUNTERMEASURES, rows), rows)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.paper} {item.name}")
def test_commands_can_produce_what_is_checked(item: Item, run: Run) -> None:
    for check in item.checks:
        assert str(parse(check.countermeasure)) == check.countermeasure
        lookup("victim", check.victim, VICTIMS)
    measured: set[tuple[Any, ...]] = set()
    for command in filter(None, item.command.split(" && ")):
        words = shlex.split(command)
        if words[:3] == ["python", "-m", "benchmarks.potency"]:
            measured |= _measured_by(words[3:])
            continue
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2])
            continue
        offered = run(words[1], "--help").stdout
        assert all(word in offered for word in words[2:] if word.startswith("--"))
        if words[1] == "verify":
            _demand_possible(words)
        else:
            registration(words[words.index("--method") + 1])
    assert {_shown(check) for check in item.checks} <= measured
