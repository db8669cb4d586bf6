"""What bad input gets: one clear line, an exit code, and nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from PIL import Image

Change = Callable[[Path], None]


def _refused(run: Run, *arguments: object, code: int = 2) -> str:
    """The one line that a refused command says, after its exit code was as expected."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--split", "trian"], "no split 'trian'"),
        (["--image-column", "picture"], "picture"),
        (["--method", "sep-fa-vx"], "sep-fa-vr"),
        (["--set", "step=3"], "did you mean step"),
        (["--set", "steps=many"], "steps"),
        (["--set", "steps"], "NAME=VALUE"),
        (["--set", "checkpoints=200"], "checkpoints"),
        (["--set", "steps=0"], "at least 1"),
        (["--budget", "linf:0.5"], "linf:8"),
        (["--budget", "l0:1"], "takes linf"),
        (["--budget", "l2:1.0"], "step_levels=51"),
        (["--victim", "resnet11"], "resnet10-w16"),
        (["--countermeasure", "grayscael"], "grayscale"),
        (["--encoding", "jpeg"], "png or webp"),
        (["--format", "csv"], "parquet or webdataset"),
        (["--preset", "fast"], "paper or quick"),
        (["--keep-column", "thumb"], "--keep-clean-column thumb"),
        (["--keep-column", "nothing"], "nothing"),
        (["--protect-classes", "four"], "no class is called 'four'"),
        (["--target-map", "one:one"], "no other class for"),
        (["--show-rows", "1000"], "row 1000 is not released (rows 0 to 95)"),
        (["--show-rows", "3,-1"], "row numbers such as 3,14"),
        (["--max-bad", "lots"], "share such as 1%"),
        (["--test-split", "train"], "the split that is published"),
        (["--license", "mit", "--method", "random-noise", "--target-map", "one:two"], "no class"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_are_refused(
    run: Run, small: Path, out: Path, options: list[str], says: str
) -> None:
    workdir = out.with_name("work")
    assert says in _refused(run, "push", small, "--to", out, "--workdir", workdir, *options)
    assert not out.exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("no-such-folder", "neither a folder nor a Hub id"),
        ("no-such-org/name", "is not on the Hub"),
        ("sample:mnist", "mnist5k"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_unknown_sources(run: Run, out: Path, source: str, says: str) -> None:
    assert says in _refused(run, "push", source, "--to", out)


def test_a_local_source_needs_a_target(run: Run, small: Path) -> None:
    assert "--to" in _refused(run, "push", small)


def test_the_target_is_not_the_source(run: Run, small: Path) -> None:
    assert "is the source itself" in _refused(run, "push", small, "--to", small)
    assert "holds the source" in _refused(run, "push", small, "--to", small.parent)
    inside = small / "protected"
    assert "lies in the source" in _refused(run, "push", small, "--to", inside)
    work = _refused(run, "push", small, "--to", small.parent / "out", "--workdir", inside)
    assert "lies in the source" in work
    assert not inside.exists()


def test_a_workdir_with_other_files_is_left_alone(run: Run, small: Path, tmp_path: Path) -> None:
    """Folders called release, report and progress are made anew there."""
    theirs = tmp_path / "thesis"
    (theirs / "report").mkdir(parents=True)
    (theirs / "report/thesis.tex").write_text("chapter 1")
    mode = theirs.stat().st_mode
    says = _refused(run, "push", small, "--to", tmp_path / "out", "--workdir", theirs)
    assert "holds files that are not this tool's (report)" in says
    assert (theirs / "report/thesis.tex").read_text() == "chapter 1"
    assert theirs.stat().st_mode == mode
    assert [path.name for path in theirs.iterdir()] == ["report"]


def test_a_foreign_folder_is_left_alone(run: Run, small: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "photos"
    theirs.mkdir()
    (theirs / "cat.txt").write_text("meow")
    assert "not a release of this tool" in _refused(run, "push", small, "--to", theirs)
    assert [path.name for path in theirs.iterdir()] == ["cat.txt"]


def test_a_name_that_is_folder_and_hub_id(
    run: Run, small: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.parent)
    (small.parent / "org").mkdir(exist_ok=True)
    if not (small.parent / "org/name").exists():
        (small.parent / "org/name").symlink_to(small)
    assert "hf://datasets/org/name" in _refused(run, "push", "org/name", "--to", out)


def test_a_method_that_needs_labels(
    run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for number, image in enumerate(digits[0][:8]):
        Image.fromarray(image).save(folder / f"{number}.png")
    told = _refused(run, "push", folder, "--to", out)
    assert "have no labels" in told
    assert "random-noise" in told
    told = _refused(run, "push", folder, "--to", out, "--method", "random-noise")
    assert "--no-verify" in told


def _one_class(labels: np.ndarray) -> np.ndarray:
    return np.zeros_like(labels)


def _lonely_class(labels: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(labels)) == 0, 3, np.arange(len(labels)) % 3)


@pytest.mark.parametrize(
    ("relabel", "says"), [(_one_class, "only one class"), (_lonely_class, "fewer than 2 rows")]
)
def test_classes_that_cannot_be_told_apart(
    run: Run,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    out: Path,
    relabel: Callable[[np.ndarray], np.ndarray],
    says: str,
) -> None:
    labels = relabel(digits[1][:24])
    write_split(tmp_path / "source/train.parquet", digits[0][:24], labels)
    assert says in _refused(run, "push", tmp_path / "source", "--to", out)


def test_too_many_unreadable_rows(
    run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, out: Path
) -> None:
    source = tmp_path / "images"
    for number, (image, label) in enumerate(zip(digits[0][:40], digits[1] % 2, strict=False)):
        path = source / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    path.write_bytes(path.read_bytes()[:60])
    told = _refused(run, "push", source, "--to", out, "--workdir", tmp_path / "w", code=4)
    assert "1 of 40 rows" in told
    assert "--max-bad" in told
    assert not out.exists()


def test_a_second_run_in_one_workdir(run: Run, small: Path, out: Path, tmp_path: Path) -> None:
    from release.workdir import Workdir

    with Workdir(tmp_path / "w").locked():
        told = _refused(run, "push", small, "--to", out, "--workdir", tmp_path / "w")
    assert f"process {os.getpid()} is working" in told


def test_a_stage_without_a_plan(run: Run, tmp_path: Path) -> None:
    assert "no plan in" in _refused(run, "fit", "--workdir", tmp_path)


def test_publishing_what_was_not_staged(run: Run, small: Path, out: Path, tmp_path: Path) -> None:
    options = ("--workdir", tmp_path / "w", "--method", "random-noise")
    assert run("plan", small, "--to", out, *options).exit_code == 0
    assert "protect-release card" in _refused(run, "publish", "--workdir", tmp_path / "w")
    assert not out.exists()


def test_checking_what_is_no_release(run: Run, tmp_path: Path) -> None:
    assert "no releases/r0001.json" in _refused(run, "check", tmp_path)


def test_rows_that_do_not_suit_a_method_are_told(run: Run, small: Path, out: Path) -> None:
    """Only fit sees that one grey square has two corners, and that there are four classes."""
    asked = ("--method", "lsp", "--set", "cells=1", "--no-verify")
    told = _refused(run, "push", small, "--to", out, "--workdir", out.with_name("work"), *asked)
    assert "method lsp: 1 cells a side tell at most 2 classes apart, not 4" in told
