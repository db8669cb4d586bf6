"""`compare`: several methods on the same rows, against the same victims."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clean_data import Run


@dataclass(frozen=True)
class Compared:
    """What the command said, and where it worked."""

    told: dict[str, Any]
    workdir: Path
    out: Path


def compare(run: Run, small: Path, home: Path, methods: str) -> Compared:
    result = run(
        *("compare", small, "--methods", methods, "--rows", "64", "--preset", "quick"),
        *("--victim", "resnet10-w16", "--victim-epochs", "1", "--workers", "1"),
        *("--workdir", home / "work", "--out", home / "out", "--json"),
    )
    assert result.exit_code == 0, result.output
    return Compared(json.loads(result.stdout), home / "work", home / "out")


def test_a_comparison_is_kept_as_json_and_as_a_page(run: Run, small: Path, tmp_path: Path) -> None:
    compared = compare(run, small, tmp_path, "random-noise")
    (row,) = compared.told["methods"]
    assert (row["method"], row["budget"], row["max_level"]) == ("random-noise", "linf:8", 8)
    assert row["psnr"] > 20
    (summary,) = row["summaries"]
    assert summary["victim"] == row["worst"]["victim"] == "resnet10-w16"
    assert (compared.told["rows"], compared.told["source"]) == (64, small.name)
    assert json.loads((compared.out / "comparison.json").read_text()) == compared.told
    page = (compared.out / "comparison.html").read_text()
    assert "random-noise" in page
    assert str(compared.workdir) not in page
    assert not (compared.workdir / "never-published").exists()


@pytest.mark.slow
def test_methods_share_rows_and_twins_and_differ_in_cost(
    run: Run, small: Path, tmp_path: Path
) -> None:
    compared = compare(run, small, tmp_path, "random-noise,sep-fa-mi")
    rows = {row["method"]: row for row in compared.told["methods"]}
    assert set(rows) == {"random-noise", "sep-fa-mi"}
    assert rows["sep-fa-mi"]["passes"] > rows["random-noise"]["passes"] == 0
    assert rows["sep-fa-mi"]["fit_seconds"] > rows["random-noise"]["fit_seconds"]
    learnt = [row["worst"]["protected"] for row in compared.told["methods"]]
    assert learnt == sorted(learnt), "who teaches least comes first"
    trained = [json.loads(path.read_text()) for path in (compared.workdir / "trials").iterdir()]
    assert sorted(outcome["spec"]["data"] for outcome in trained) == [
        *("clean", "protected", "protected")
    ]


@pytest.mark.parametrize(
    ("methods", "says"),
    [("sep-fa-vx", "did you mean sep-fa-vr"), (",", "takes the names of methods")],
)
def test_unknown_methods_are_refused(
    run: Run, small: Path, tmp_path: Path, methods: str, says: str
) -> None:
    result = run("compare", small, "--methods", methods, "--workdir", tmp_path / "work")
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "work").exists()
