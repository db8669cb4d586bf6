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
