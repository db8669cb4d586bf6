"""What people read of a result: whether it holds, under what, and where the report is."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from clean_data import CLASSES, Run, write_split
from hub_source import CHEAP
from typer.testing import Result

from tests.hub.server import Hub

BRIEF = ("--victim", "vgg-w16", "--workers", "1")


@pytest.fixture(scope="module")
def misleading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test labels are other than what can be learnt: no victim scores above chance."""
    folder = tmp_path_factory.mktemp("misleading")
    labels = np.arange(64) % CLASSES
    shades = np.repeat(labels[:, None, None].astype(np.uint8) * 60, 32, axis=1).repeat(32, axis=2)
    write_split(folder / "data/train-0.parquet", shades, labels)
    write_split(folder / "data/test-0.parquet", shades, (labels + 1) % CLASSES)
    return folder


@pytest.fixture(scope="module")
def pushed(run: Run, misleading: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    home = tmp_path_factory.mktemp("release")
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(temporary))
        patched.setattr(tempfile, "tempdir", str(temporary))
        told = run("push", misleading, "--to", home / "out", "--workdir", home / "work", *CHEAP)
    assert told.exit_code == 0, told.output
    assert not list(temporary.iterdir()), "nobody would ever remove it"
    return told


@pytest.fixture
def release(pushed: Result) -> Path:
    (report,) = re.findall(r"report: (\S+)/reports/r0001/report.html\n", pushed.stdout)
    return Path(report)


def test_a_push_says_where_its_report_is(release: Path) -> None:
    assert (release / "reports/r0001/report.html").is_file()
    card = (release / "README.md").read_text()
    assert "### Further cautions" in card
    assert card.count("nothing is known about") == 1


def test_what_cannot_be_judged_is_not_said_to_miss(
    run: Run, release: Path, misleading: Path, tmp_path: Path
) -> None:
    asked = ("--clean", misleading, "--countermeasure", "grayscale", "--workdir", tmp_path)
    told = run("verify", release, *asked, *BRIEF, "--epochs", "1", "--publish")
    assert told.exit_code == 3, told.output
    error = told.stderr.splitlines()[-1]
    assert error.startswith("error: out: the vgg-w16 did not even learn from the clean images with")
    assert "cannot be judged" in error
    assert "does not hold" not in error
    assert "did not even learn" not in told.stdout, "it is said once"
    assert "grayscale" in told.stdout, "whose figures these are"
    (page,) = release.glob("reports/verified-*/report.html")
    assert f"report: {page}\n" in told.stdout


@pytest.mark.slow
def test_compared_methods_that_cannot_be_judged_neither_hold_nor_miss(
    run: Run, misleading: Path, tmp_path: Path
) -> None:
    asked = (*("--methods", "random-noise", "--preset", "quick"), *BRIEF, "--victim-epochs", "1")
    told = run("compare", misleading, *asked, "--workdir", tmp_path / "work", "--out", tmp_path)
    assert told.exit_code == 0, told.output
    assert "judged" in told.stdout
    (row,) = json.loads((tmp_path / "comparison.json").read_text())["methods"]
    assert row["holds"] is None
    assert "<td>not judged</td>" in (tmp_path / "comparison.html").read_text()


@pytest.mark.slow
def test_a_release_that_cannot_be_judged_is_not_published(
    run: Run, misleading: Path, tmp_path: Path
) -> None:
    asked = ("--method", "random-noise", *BRIEF, "--victim-epochs", "1")
    work = tmp_path / "work"
    told = run("push", misleading, *asked, "--to", tmp_path / "out", "--workdir", work)
    assert told.exit_code == 3
    assert "nothing was published: it cannot be judged" in told.stdout
    assert f"report: {work}/report/report.html\n" in told.stdout
    assert "try more --victim-epochs, or another --victim" in told.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "at"),
    [((), ""), (("--revision", "a/b"), "@a%2Fb"), (("--create-pr",), "@refs%2Fpr%2F1")],
    ids=["main", "branch", "pull request"],
)
def test_a_report_on_the_hub_is_named_by_an_address(
    run: Run, hub: Hub, small: Path, tmp_path: Path, options: tuple[str, ...], at: str
) -> None:
    from huggingface_hub import HfFileSystem

    target = ("--to", "org/shown", "--workdir", tmp_path, "--state", tmp_path / "state")
    told = run("push", small, *target, *CHEAP, *options)
    assert told.exit_code == 0, told.output
    address = f"hf://datasets/org/shown{at}/reports/r0001/report.html"
    assert f"report: {address}\n" in told.stdout
    assert HfFileSystem().isfile(address)
