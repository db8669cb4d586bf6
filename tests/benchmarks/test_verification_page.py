"""The page of countermeasures: what is committed, and what it concludes from made-up trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import countermeasures
from benchmarks.countermeasures import ASKED, BUDGETS, DOCS, PARTS, results_so_far
from benchmarks.verification_page import page
from evaluation.countermeasures import parse


def _trial(method: str, countermeasure: str, protected: float, **changes: Any) -> dict[str, Any]:
    figures = {"victim": "vgg-w16", "seed": 0, "clean": 0.7, "protected": protected}
    return {"method": method, "countermeasure": countermeasure} | figures | changes


def _page(*trials: dict[str, Any]) -> str:
    shape = {"source": "cifar10", "rows": 5000, "preset": "quick", "budgets": BUDGETS}
    here = {"cores": 2, "processor": "a processor"}
    return page(shape | {"trials": trials, "measured_on": here}, ASKED)


def test_countermeasures_are_asked_for_as_trials_name_them() -> None:
    """Or else what was measured would be missing for ever."""
    named = [name for tried in ASKED.values() for name in tried]
    assert named == [str(parse(name)) for name in named]


def test_the_page_is_what_its_generator_writes() -> None:
    assert DOCS.read_text() == page(results_so_far(), ASKED)


def test_every_countermeasure_is_asked_of_every_method_but_the_mixture() -> None:
    everything = [name for part in PARTS for name in part]
    assert len(set(everything)) == len(everything)
    for method in ("sep-fa-mi", "sep-fa-vr", "tap", "random-noise"):
        assert list(ASKED[method]) == everything
    assert set(ASKED["sep-fa-mi+ops"]) < set(everything)


def test_a_table_has_a_line_for_what_was_measured_and_a_dash_for_what_was_not() -> None:
    text = _page(_trial("tap", "none", 0.1), _trial("sep-fa-vr", "none", 0.2))
    assert "| countermeasure | clean twin | sep-fa-vr | tap |\n" in text
    assert "| `none` | 70.0% | 20.0% | 10.0% |\n" in text
    assert "| `jpeg` |" not in text.partition("## What is known")[0]
    text = _page(
        *(_trial("tap", "none", 0.1), _trial("sep-fa-vr", "none", 0.2)),
        _trial("tap", "jpeg", 0.6, clean=0.65),
    )
    assert "| `jpeg` | 65.0% | - | 60.0% |\n" in text
    gaps = "sep-fa-mi, sep-fa-vr, random-noise, sep-fa-mi+ops"
    assert f"Not everything is measured yet for {gaps}: a dash stands there.\n" in text
    (nowhere,) = [line for line in text.splitlines() if line.startswith("Not measured yet: ")]
    assert nowhere.startswith("Not measured yet: `cutmix`, `grayscale`, ")
    assert "`jpeg`," not in nowhere


def test_training_against_perturbations_has_its_own_table() -> None:
    names = ("none", "at-linf:steps=3", "deconv-at:steps=3")
    text = _page(*(_trial("tap", name, 0.1) for name in names))
    others, _, rest = text.partition("## Training against perturbations")
    trained = rest.partition("## ")[0]
    for name in names[1:]:
        assert f"| `{name}` | 70.0% |" in trained
        assert f"| `{name}` |" not in others


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two methods, one of which had another budget."""
    path = tmp_path / "countermeasures.json"
    shape = {"source": "cifar10", "rows": 5000, "preset": "quick"}
    budgets = {name: BUDGETS[name] for name in ("tap", "sep-fa-vr")} | {"tap": "linf:4"}
    trials = [_trial("tap", "none", 0.1), _trial("sep-fa-vr", "none", 0.2)]
    path.write_text(json.dumps(shape | {"budgets": budgets, "trials": trials}))
    monkeypatch.setattr(countermeasures, "_RESULTS", path)
    return path


@pytest.mark.usefixtures("results")
def test_only_methods_whose_budget_changed_are_measured_again() -> None:
    kept = countermeasures._before("somewhere/cifar10", 5000)
    assert [trial["method"] for trial in kept] == ["sep-fa-vr"]


@pytest.mark.parametrize(("source", "rows"), [("cifar10", 100), ("pets", 5000)])
def test_results_of_other_rows_are_not_written_over(results: Path, source: str, rows: int) -> None:
    before = results.read_text()
    for work in (countermeasures._before, lambda *of: countermeasures._keep(*of, "tap", [])):
        with pytest.raises(typer.BadParameter, match="5000 rows of cifar10"):
            work(source, rows)
    assert results.read_text() == before


def test_orderings_are_judged_by_the_share_that_is_given_back() -> None:
    plain = _trial("tap", "none", 0.1)
    claim = "*JPEG at quality 10 gives back at least half of what was lost*"
    assert f"{claim}: not measured yet." in _page(plain)
    assert f"{claim}: comes out (tap `jpeg` 50%)" in _page(plain, _trial("tap", "jpeg", 0.4))
    assert f"{claim}: does not come out everywhere (tap `jpeg` 33%)" in _page(
        plain, _trial("tap", "jpeg", 0.3)
    )
    noise = "*Random noise protects nothing*"
    assert f"{noise}: comes out" in _page(_trial("random-noise", "none", 0.68))
    assert f"{noise}: does not come out" in _page(_trial("random-noise", "none", 0.5))


def test_what_gives_back_most_comes_first_with_its_price() -> None:
    trials = []
    for method in ("sep-fa-mi", "sep-fa-vr", "tap"):
        trials += [
            _trial(method, "none", 0.1),
            _trial(method, "cutmix", 0.16),
            _trial(method, "jpeg", 0.4, clean=0.6),
        ]
    text = _page(*trials, _trial("tap", "cutout", 0.2))
    section = text.partition("## What gives back most")[2].partition("## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    assert lines == ["| `jpeg` | 60% | 60% | 60% | 10.0 |", "| `cutmix` | 10% | 10% | 10% | 0.0 |"]


def test_several_seeds_are_a_mean_and_a_range() -> None:
    seeds = [_trial("tap", "none", 0.1 + seed / 10, seed=seed) for seed in range(3)]
    assert "| `none` | vgg-w16 | 70.0% (70.0% to 70.0%) | 20.0% (10.0% to 30.0%) |" in _page(*seeds)
