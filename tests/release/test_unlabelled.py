"""Rows without labels are released too: victims meet them without labels and are scored on a test
split that has some."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_data import Run, write_split
from datasets import load_dataset
from hub_source import Digits, of_four
from PIL import Image

from release.plan import ReleasePlan

TRAIN, ADDED, TESTED = 48, 24, 40
ASKED = (
    *("--method", "random-noise", "--victim", "vgg-w16", "--victim-epochs", "1"),
    *("--workers", "1", "--json"),
)


@pytest.fixture
def folders(tmp_path: Path, digits: Digits) -> Path:
    """Loose pictures to protect, beside a test split in class folders."""
    pixels, labels = of_four(digits)
    for number in range(TRAIN + TESTED):
        part = "train" if number < TRAIN else f"test/class-{labels[number]}"
        path = tmp_path / "photos" / part / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(path)
    return tmp_path / "photos"


@pytest.fixture
def tables(tmp_path: Path, digits: Digits) -> Path:
    """A dataset whose train rows have the label -1, as `datasets` writes that there is none."""
    pixels, labels = of_four(digits)
    folder = tmp_path / "tables"
    write_split(folder / "data/train-0.parquet", pixels[:TRAIN], np.full(TRAIN, -1))
    tests = slice(TRAIN, TRAIN + TESTED)
    write_split(folder / "data/test-0.parquet", pixels[tests], labels[tests])
    return folder


def _report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "reports/r0001/report.json").read_text())
    return report


def test_a_probe_on_labelled_rows_decides(run: Run, tables: Path, out: Path) -> None:
    missed = run("push", tables, "--to", out, "--max-accuracy", "0", *ASKED)
    assert missed.exit_code == 3, missed.output
    assert not out.exists()
    told = run("push", tables, "--to", out, "--max-accuracy", "1", *ASKED)
    assert told.exit_code == 0, told.output
    data = load_dataset(str(out), split="train")
    assert (len(data), data.column_names) == (TRAIN, ["image"])
    report = _report(out)
    (trial,) = report["trials"]
    assert trial["countermeasure"] == "simclr:clean=1000"
    assert trial["clean"] is not None
    assert trial["num_classes"] == 4
    assert trial["train_accuracy"] is None
    assert report["trainings"][0]["test_rows"] == TESTED // 2  # the probe learnt from the others
    assert report["verdict"]["worst"]["countermeasure"] == "simclr:clean=1000"
    assert "unlabelled-not-contrasted" not in [flag["id"] for flag in report["flags"]]
    assert run("check", out).exit_code == 0


@pytest.mark.slow
def test_a_second_release_is_listed_with_the_figures_it_was_judged_by(
    run: Run, tables: Path, out: Path, digits: Digits
) -> None:
    asked = ("push", tables, "--to", out, "--max-accuracy", "1", *ASKED)
    assert run(*asked).exit_code == 0
    pixels, _ = of_four(digits)
    first = TRAIN + TESTED
    added = tables / "data/train-1.parquet"
    write_split(added, pixels[first : first + ADDED], np.full(ADDED, -1))
    told = run(*asked, "--incremental-method", "random-noise")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["release"] == "r0002"
    assert (out / "reports/r0002/releases.png").exists()
    card = (out / "README.md").read_text()
    assert "not verified" not in card
    beside_twins = re.findall(r"with `simclr[^|]+clean twin", card)
    assert len(beside_twins) == 3, "of all rows, and of new ones"
    status = run("status", out).stdout
    assert status.count("% with simclr") == 2


def test_a_test_split_without_labels_is_passed_over(
    run: Run, small: Path, out: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hidden"
    shutil.copytree(small / "data", folder / "data")
    (folder / "data/test-0.parquet").rename(folder / "data/validation-0.parquet")
    write_split(folder / "data/test-0.parquet", np.zeros((6, 28, 28), np.uint8), np.full(6, -1))
    asked = ("plan", folder, "--to", out, "--workdir", tmp_path / "work", *ASKED)
    told = run(*asked)
    assert told.exit_code == 0, told.output
    assert ReleasePlan.load(tmp_path / "work/plan.json").test_split == "validation"
    assert "split test has no labels" in told.stderr
    labels = np.array([0, 1, 2, 3, -1, -1])
    write_split(folder / "data/test-0.parquet", np.zeros((6, 28, 28), np.uint8), labels)
    told = run(*asked)
    assert told.exit_code == 4, told.output
    assert "name another with --test-split or raise --max-bad" in told.stderr


def test_loose_pictures_are_tested_on_class_folders(
    run: Run, folders: Path, out: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    told = run("plan", folders, "--to", out, "--workdir", work, *ASKED)
    assert told.exit_code == 0, told.output
    plan = ReleasePlan.load(work / "plan.json")
    assert (plan.is_labelled, plan.class_names) == (False, [])
    assert plan.scored_names == [f"class-{label}" for label in range(4)]
    assert (plan.num_rows, plan.test_rows) == (TRAIN, TESTED)


def test_without_any_label_there_is_nothing_to_score_by(run: Run, folders: Path, out: Path) -> None:
    shutil.rmtree(folders / "test")
    told = run("push", folders, "--to", out, *ASKED)
    assert told.exit_code == 2
    assert "no test split has any to score victims by" in told.stderr


def test_what_learns_from_labels_is_refused(run: Run, tables: Path, out: Path) -> None:
    told = run("push", tables, "--to", out, "--countermeasure", "cutmix", *ASKED)
    assert told.exit_code == 2
    assert (
        "cutmix learns from labels, and the release has no labels: drop it, or try simclr"
        in told.stderr
    )
    assert not out.exists()
