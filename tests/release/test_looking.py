"""Looking before anything is released, and at what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split

from tests.hub.server import Hub


@pytest.fixture
def sorted_rows(tmp_path: Path) -> Path:
    """Six rows of the first class come before those of the others, of which one has a single."""
    labels = np.array([0] * 6 + [1] * 4 + [2])
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    write_split(tmp_path / "sorted/data/train-0.parquet", pixels.repeat(4, 1).repeat(4, 2), labels)
    return tmp_path / "sorted"


@pytest.mark.slow
def test_rows_of_one_class_are_drawn_where_nothing_learns_from_them(
    run: Run, sorted_rows: Path, tmp_path: Path
) -> None:
    asked = ("--method", "random-noise", "--rows", "4", "--workdir", tmp_path / "w")
    told = run("preview", sorted_rows, *asked, "--images", "9", "--out", tmp_path / "seen.png")
    assert told.exit_code == 0, told.output
    assert told.stdout.endswith("seen.png: 4 rows (it holds clean pixels: do not publish it)\n")
    assert told.stderr.splitlines()[0] == f"clean {sorted_rows}"
    assert "never-published" not in told.output


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("4", "the first 4 rows of {} have only one class (none): there is nothing to classify; "),
        ("7", "class one of {} has fewer than 2 rows among the first 7 rows (3 such): "),
    ],
)
def test_a_method_that_learns_from_labels_is_sent_to_more_rows(
    run: Run, sorted_rows: Path, tmp_path: Path, rows: str, says: str
) -> None:
    asked = ("--method", "lsp", "--rows", rows, "--workdir", tmp_path / "w")
    told = run("preview", sorted_rows, *asked, "--out", tmp_path / "seen.png")
    assert told.exit_code == 2
    assert f"{says.format(sorted_rows)}take more than {rows} with --rows" in told.stderr


@pytest.mark.parametrize("command", ["preview", "compare"])
def test_what_publishes_nothing_has_no_options_of_releases(run: Run, command: str) -> None:
    shown = run(command, "--help").stdout
    for option in ("--keep-c", "--source-is", "--encoding", "--rows-per", "--to", "Target"):
        assert option not in shown
    assert "--hub-patience" in shown


@pytest.mark.slow
def test_clean_images_that_anyone_can_read_may_be_looked_at(
    run: Run, hub: Hub, sorted_rows: Path, tmp_path: Path
) -> None:
    repo = hub.add_repo("alice/open", private=False)
    file = sorted_rows / "data/train-0.parquet"
    repo.put({"data/train-0.parquet": file.read_bytes()})
    asked = ("--method", "random-noise", "--workdir", tmp_path / "w", "--out", tmp_path / "a.png")
    told = run("preview", "alice/open", *asked)
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize("command", ["verify", "check", "status"])
def test_a_release_that_is_not_there_is_not_looked_into(run: Run, command: str) -> None:
    told = run(command, "./nothere")
    assert told.exit_code == 2
    assert told.output == "error: ./nothere is neither a folder nor a Hub id org/name[@revision]\n"


def test_commands_are_listed_by_one_sentence(run: Run) -> None:
    listed = " ".join(run("--help").stdout.replace("\u2502", " ").split())
    assert "Put a planned release where readers find it, or open a private one. preview" in listed
    assert "Train victims on a published RELEASE and report what they learn. compare" in listed
    assert "what several methods protect, and what they cost. status" in listed
