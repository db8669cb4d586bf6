"""`verify RELEASE` of what somebody else made, and of what lies on the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from hub_source import CHEAP, SOURCE, TARGET, Digits, of_four, put_rows
from verifying import FAST, ROWS, TESTED, verify

from tests.hub.server import Hub


@pytest.fixture
def foreign(tmp_path: Path, digits: Digits) -> Path:
    """A dataset of somebody else, with a test split."""
    pixels, labels = of_four(digits)
    noisy = pixels[:ROWS] ^ 1
    write_split(tmp_path / "foreign/data/train-0.parquet", noisy, labels[:ROWS])
    tests = slice(ROWS, ROWS + TESTED)
    write_split(tmp_path / "foreign/data/test-0.parquet", pixels[tests], labels[tests])
    return tmp_path / "foreign"


def test_a_release_of_others_is_scored_on_its_own_test_split(
    run: Run, foreign: Path, tmp_path: Path
) -> None:
    told = verify(run, foreign, "--countermeasure", "none", "--workdir", tmp_path / "work", *FAST)
    (trial,) = told["trials"]
    assert (trial["clean"], told["holds"]) == (None, None)
    assert "no-clean-twin" in told["flags"]
    report = json.loads((tmp_path / "work/report/report.json").read_text())
    assert (report["visibility"], report["verdict"]) == (None, None)


def test_only_releases_of_ours_get_a_line_on_their_card(
    run: Run, foreign: Path, tmp_path: Path
) -> None:
    """Which is said before any hours are spent."""
    line = verify(run, foreign, "--workdir", tmp_path / "work", "--publish", code=2)
    assert "is not a release of this tool" in line
    assert not (tmp_path / "work/trials").exists()
    assert not (foreign / "reports").exists()


@pytest.mark.parametrize("option", ["--countermeasure", "--analysis"])
def test_what_needs_the_clean_images_says_so(
    run: Run, foreign: Path, tmp_path: Path, option: str
) -> None:
    name = "mix-percent" if option == "--countermeasure" else "csd"
    line = verify(run, foreign, option, name, "--workdir", tmp_path / "work", code=2)
    assert "give them with --clean" in line


def test_a_release_of_one_class_is_refused(run: Run, tmp_path: Path, digits: Digits) -> None:
    pixels, labels = of_four(digits)
    alike = pixels[labels == 1][:20]
    folder = tmp_path / "alike"
    write_split(folder / "data/train-0.parquet", alike, np.ones(20, dtype=np.int64))
    write_split(folder / "data/test-0.parquet", pixels[:20], labels[:20])
    line = verify(run, folder, "--workdir", tmp_path / "work", code=2)
    assert "only one class (one)" in line


def test_test_rows_of_one_class_are_refused(run: Run, tmp_path: Path, digits: Digits) -> None:
    """Whoever always names it would be right every time."""
    pixels, labels = of_four(digits)
    folder = tmp_path / "alike"
    write_split(folder / "data/train-0.parquet", pixels[:40], labels[:40])
    write_split(folder / "data/test-0.parquet", pixels[labels == 1][:9], np.ones(9, dtype=np.int64))
    line = verify(run, folder, "--workdir", tmp_path / "work", code=2)
    assert "the test rows of" in line
    assert "only one class (one)" in line
    result = run("push", folder, "--to", tmp_path / "out", "--workdir", tmp_path / "push")
    assert result.exit_code == 2
    assert "have only one class (one)" in result.stderr


def test_an_empty_split_is_refused(run: Run, tmp_path: Path, digits: Digits) -> None:
    pixels, labels = of_four(digits)
    folder = tmp_path / "empty"
    write_split(folder / "data/train-0.parquet", pixels[:20], labels[:20])
    write_split(folder / "data/test-0.parquet", pixels[:0], labels[:0])
    assert "has no rows" in verify(run, folder, "--workdir", tmp_path / "work", code=2)


@pytest.fixture
def clean_on_hub(hub: Hub, digits: Digits, tmp_path: Path) -> Hub:
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, ROWS), tmp_path)
    tests = slice(ROWS, ROWS + TESTED)
    put_rows(hub, SOURCE, "data/test-0.parquet", digits, tests, tmp_path)
    return hub


@pytest.fixture
def on_hub(clean_on_hub: Hub, run: Run, tmp_path: Path) -> Hub:
    pushed = run("push", SOURCE, "--workdir", tmp_path / "push", *CHEAP)
    assert pushed.exit_code == 0, pushed.output
    return clean_on_hub


def test_a_release_on_the_hub_is_verified_and_gets_one_commit(
    run: Run, on_hub: Hub, tmp_path: Path
) -> None:
    repo = on_hub.repo(TARGET)
    before = len(repo.commits("main"))
    asked = (TARGET, "--clean", SOURCE, "--countermeasure", "none", *FAST)
    # Somebody edits the card between the look and the commit: it is edited anew.
    edited = repo.read("main", "README.md") + b"\n## Thanks\n"
    on_hub.faults.meanwhile("commit", lambda: repo.put({"README.md": edited}), nth=1)
    told = verify(run, *asked, "--workdir", tmp_path / "work", "--publish")
    assert told["release"] == TARGET
    assert "/commit/" in told["published"]
    assert len(repo.commits("main")) == before + 2
    card = repo.read("main", "README.md").decode()
    assert "## Verified again" in card
    assert "## Thanks" in card
    paths = repo.files("main")
    assert sum(path.startswith("reports/verified-") for path in paths) == 3


@pytest.mark.slow
def test_a_release_on_a_branch_gets_its_report_there(
    run: Run, clean_on_hub: Hub, tmp_path: Path
) -> None:
    to_branch = ("--revision", "draft", "--workdir", tmp_path / "push")
    assert run("push", SOURCE, *to_branch, *CHEAP).exit_code == 0
    repo = clean_on_hub.repo(TARGET)
    main = repo.branches["main"]
    assert list(repo.tags) == ["draft-r0001"]
    assert 'revision="draft"' in repo.read("draft", "README.md").decode()
    asked = (f"{TARGET}@draft", "--clean", SOURCE, "--countermeasure", "none", *FAST)
    verify(run, *asked, "--workdir", tmp_path / "work", "--publish")
    assert "## Verified again" in repo.read("draft", "README.md").decode()
    assert repo.branches["main"] == main


def test_the_hub_is_waited_for_as_long_as_was_asked(
    hub: Hub, run: Run, digits: Digits, tmp_path: Path
) -> None:
    """The copy of the release leaves the limits of this process as they are."""
    from release.hub_client import source_patience

    put_rows(hub, TARGET, "data/train-0.parquet", digits, slice(0, 8), tmp_path)
    asked = (TARGET, "--workdir", tmp_path / "work", "--split", "trian", "--hub-patience", "1.5")
    assert "no split 'trian'" in verify(run, *asked, code=2)
    assert source_patience() == 1.5
