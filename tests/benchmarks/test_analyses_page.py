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


@pytest.mark.slow
def test_every_analysis_is_made_of_an_own_release(small: Path, tmp_path: Path) -> None:
    release = analyses.measured(str(small), tmp_path, "random-noise", 64)
    assert release["budget"] == "linf:8"
    assert {one["analysis"] for one in release["findings"]} == set(registered())
    assert all(one["sentence"] for one in release["findings"])
