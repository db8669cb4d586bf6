"""What is found by analyses is kept release by release, and the page says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import analyses
from evaluation.analyses import analyses as registered

FOUND: dict[str, Any] = {
    "source": "cifar10",
    "rows": 5000,
    "measured_on": {"cores": 2, "processor": "a processor"},
    "releases": {
        "sep": {
            "budget": "linf:8",
            "findings": [{"analysis": "csd", "figures": {}, "sentence": "Far apart."}],
        }
    },
}


def test_the_page_is_what_its_generator_writes() -> None:
    assert analyses.PAGE.read_text() == analyses.page(analyses.results())


def test_each_release_has_its_findings() -> None:
    page = analyses.page(FOUND)
    assert "## sep, within linf:8\n" in page
    assert "| `csd` | Far apart. |\n" in page
    assert "5,000 rows of cifar10" in page
    assert analyses.names(FOUND) == {"csd"}
    assert analyses.names(None) == set()


def test_releases_of_other_rows_are_not_taken_over() -> None:
    shape = {"source": "cifar10", "rows": 5000}
    assert analyses.kept(FOUND, shape) == FOUND["releases"]
    assert analyses.kept(FOUND, shape | {"rows": 4000}) == {}
    assert analyses.kept(None, shape) == {}


def test_other_rows_in_the_same_workdir_are_another_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released: list[Path] = []

    def run(place: Path, command: str, *arguments: Any) -> None:
        if command == "push":
            released.append(arguments[arguments.index("--to") + 1])
            released[-1].mkdir()
            return
        report = arguments[arguments.index("--workdir") + 1] / "report/report.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text('{"analyses": []}')

    monkeypatch.setattr(analyses, "_run", run)
    for source, rows in (("cifar10", 64), ("cifar10", 64), ("cifar10", 32), ("cifar100", 64)):
        analyses.measured(source, tmp_path, "random-noise", rows)
    assert len(released) == len(set(released)) == 3


@pytest.mark.slow
def test_every_analysis_is_made_of_an_own_release(small: Path, tmp_path: Path) -> None:
    release = analyses.measured(str(small), tmp_path, "random-noise", 64)
    assert release["budget"] == "linf:8"
    assert {one["analysis"] for one in release["findings"]} == set(registered())
    assert all(one["sentence"] for one in release["findings"])
