"""A source can lose every image of a class, and the dataset has its classes all the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clean_data import Run
from datasets import load_dataset
from growing import Growing, grown


@pytest.fixture(scope="module")
def released(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    return grown(run, tmp_path_factory.mktemp("emptied"), "abc")


@pytest.fixture
def dataset(released: Growing, tmp_path: Path) -> Growing:
    """A source of one's own to change."""
    source = shutil.copytree(released.source, tmp_path / "rl")
    return Growing(released.run, source, released.target)


@pytest.mark.parametrize("emptied", ["b", "bc"])
def test_nothing_is_new_where_only_classes_were_emptied(dataset: Growing, emptied: str) -> None:
    for name in emptied:
        shutil.rmtree(dataset.source / name)
    result = dataset.push()
    assert result.exit_code == 0, result.output
    assert f"{4 * len(emptied)} published rows are no longer in the source" in result.stderr
    assert "nothing new" in result.stdout


def test_a_new_row_where_one_class_is_left_is_refused(dataset: Growing) -> None:
    for name in "bc":
        shutil.rmtree(dataset.source / name)
    dataset.add("a/new.png", 90)
    result = dataset.push()
    assert result.exit_code == 2
    assert "only one class (a)" in result.stderr


def test_a_class_that_no_folder_is_called_by_is_new(dataset: Growing) -> None:
    (dataset.source / "b").rename(dataset.source / "d")
    result = dataset.push()
    assert result.exit_code == 2
    assert "class 'd'" in result.stderr


@pytest.mark.slow
def test_new_rows_have_the_numbers_of_the_dataset(dataset: Growing) -> None:
    shutil.rmtree(dataset.source / "b")
    dataset.add("c/new.png", 91)
    result = dataset.push()
    assert result.exit_code == 0, result.output
    rows = load_dataset(str(dataset.target), split="train")
    assert rows.features["label"].names == ["a", "b", "c"]
    assert rows["label"][-1] == 2
    assert len(rows) == 13
