"""Tars as sources and as releases: one image a sample, and keys that readers cut where we do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from clean_data import Run
from source_files import png, write_tar

from release.errors import InputError
from release.source import open_source


def test_a_sample_of_several_images_needs_a_word(run: Run, tmp_path: Path) -> None:
    samples = [{"jpg": png(n), "png": png(100 + n), "cls": b"%d" % (n % 2)} for n in range(8)]
    write_tar(tmp_path / "tars/train.tar", samples)
    asked = ("--to", tmp_path / "out", "--workdir", tmp_path / "work", "--no-verify", "--json")
    told = run("plan", tmp_path / "tars", *asked)
    assert told.exit_code == 2, told.output
    assert "0000.jpg has several images (.jpg, .png): say with --image-column" in told.stderr
    told = run("plan", tmp_path / "tars", *asked, "--image-column", "jpg")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["not_published"] == {"columns": ["png"]}


def test_any_sample_of_several_images_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [{"png": b"p"}, {"jpg": b"j"}, {"webp": b"w", "png": b"p"}])
    rows = open_source(str(tmp_path)).rows("train")
    assert [next(rows).image, next(rows).image] == [b"p", b"j"]
    with pytest.raises(InputError, match=re.escape("0002.webp has several images (.webp, .png)")):
        next(rows)


@pytest.mark.slow
def test_a_split_with_a_dot_is_released_as_tars(run: Run, small: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "clean", tmp_path / "out"
    shutil.copytree(small, folder)
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    card += "  - {split: train.full, path: data/train-0.parquet}\n---\n"
    (folder / "README.md").write_text(card)
    asked = ("--to", out, "--workdir", tmp_path / "work", "--format", "parquet,webdataset")
    cheap = ("--no-verify", "--method", "random-noise", "--workers", "1")
    told = run("push", folder, *asked, *cheap)
    assert told.exit_code == 0, told.output
    told = run("check", out)
    assert told.exit_code == 0, told.output
