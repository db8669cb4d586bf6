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


@pytest.fixture(scope="module")
def compared(run: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    home = tmp_path_factory.mktemp("compared")
    result = run(
        *("compare", small, "--methods", "random-noise,sep-fa-mi", "--rows", "64"),
        *(
            "--victim",
            "resnet10-w16",
            "--victim-epochs",
            "1",
            "--workers",
            "2",
            "--preset",
            "quick",
        ),
        *("--workdir", home / "work", "--out", home / "out", "--json"),
    )
    assert result.exit_code == 0, result.output
    return Compared(json.loads(result.stdout), home / "work", home / "out")


def test_every_method_has_its_cost_visibility_and_victims(compared: Compared) -> None:
    rows = {row["method"]: row for row in compared.told["methods"]}
    assert set(rows) == {"random-noise", "sep-fa-mi"}
    for row in rows.values():
        assert (row["budget"], row["max_level"]) == ("linf:8", 8)
        assert row["psnr"] > 20
        (summary,) = row["summaries"]
        assert summary["victim"] == row["worst"]["victim"] == "resnet10-w16"
    assert rows["sep-fa-mi"]["passes"] > rows["random-noise"]["passes"] == 0
    assert rows["sep-fa-mi"]["fit_seconds"] > rows["random-noise"]["fit_seconds"]
    assert (compared.told["rows"], compared.told["source"]) == (64, "clean0")


def test_who_teaches_least_comes_first(compared: Compared) -> None:
    learnt = [row["worst"]["protected"] for row in compared.told["methods"]]
    assert learnt == sorted(learnt)


def test_clean_twins_are_trained_once_for_all_methods(compared: Compared) -> None:
    trained = [json.loads(path.read_text()) for path in (compared.workdir / "trials").iterdir()]
    assert sorted(outcome["spec"]["data"] for outcome in trained) == [
        *("clean", "protected", "protected")
    ]
    clean = {tuple(row["summaries"][0]["clean"]) for row in compared.told["methods"]}
    assert len(clean) == 1


def test_the_comparison_is_kept_as_json_and_as_a_page(compared: Compared) -> None:
    assert json.loads((compared.out / "comparison.json").read_text()) == compared.told
    page = (compared.out / "comparison.html").read_text()
    assert "sep-fa-mi" in page
    assert str(compared.workdir) not in page


def test_nothing_is_published(compared: Compared) -> None:
    assert not (compared.workdir / "never-published").exists()


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
