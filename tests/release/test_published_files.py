"""What is published is never opened for writing, since a folder's files are links to those that
were staged, and readers may be reading them."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from clean_data import Run
from growing import Growing, grown

from release.linking import write_apart

Looks = dict[str, tuple[bytes, int, int]]


@pytest.fixture
def released(run: Run, tmp_path: Path) -> Growing:
    return grown(run, tmp_path)


def held(folder: Path, links: Path) -> Path:
    """Links to every file of the folder, which keep each as it was published."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (links / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, links / path.relative_to(folder))
    return links


def looks(folder: Path) -> Looks:
    """Bytes, inode and time of the last writing of each file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {path: path.stat() for path in files}
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.st_ino, stat.st_mtime_ns)
        for path, stat in stats.items()
    }


def test_no_stage_writes_into_a_published_file(released: Growing, tmp_path: Path) -> None:
    links = held(released.target, tmp_path / "links")
    before = looks(links)
    work = tmp_path / "work"
    for command in ("publish", "card", "publish"):
        result = released.run(command, "--workdir", work)
        assert result.exit_code == 0, result.output
        assert looks(links) == before
    released.add("a/new.png", 90)
    assert released.push().exit_code == 0
    assert looks(links) == before
    assert released.run("check", released.target).exit_code == 0


def test_a_file_that_cannot_be_written_anew_stays_as_it_was(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("as readers see it")
    os.link(readme, tmp_path / "published")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))  # as on a disk with four bytes left
    try:
        with pytest.raises(OSError, match="File too large"):
            write_apart(readme, b"the next card")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert readme.read_text() == (tmp_path / "published").read_text() == "as readers see it"
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "published"}
    write_apart(readme, b"the next card")
    assert readme.read_text() == "the next card"
    assert (tmp_path / "published").read_text() == "as readers see it"


def test_what_is_left_of_a_cut_card_is_not_taken_for_lines_of_the_owner(
    released: Growing, tmp_path: Path
) -> None:
    card = released.target / "README.md"
    whole = card.read_text()
    card.write_text(whole[:-20])
    told = f"the README.md of {released.target} has lost the line <!-- protect-release: end ... -->"
    for command in ("plan", "push"):
        result = released.run(command, released.source, "--to", released.target)
        assert (result.exit_code, told in result.stderr) == (2, True), result.output
    result = released.run("publish", "--workdir", tmp_path / "work")
    assert (result.exit_code, told in result.stderr) == (2, True), result.output
    assert card.read_text() == whole[:-20]
    assert released.run("check", released.target).exit_code == 6
    card.write_text(f"{whole}\nby hand\n")
    released.add("a/new.png", 90)
    assert released.push().exit_code == 0
    assert card.read_text().endswith("\nby hand\n")
    assert released.run("check", released.target).exit_code == 0


def test_every_file_of_a_report_is_held_to_its_digest(released: Growing) -> None:
    files = sorted((released.target / "reports/r0001").iterdir())
    assert {"images.png", "report.html", "report.json"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-1])
        result = released.run("check", released.target)
        assert result.exit_code == 6
        assert f"{path} is not the file that its manifest describes" in result.stderr
        path.write_bytes(data)
    assert released.run("check", released.target).exit_code == 0
