"""A WORKDIR holds the seed and clean pixels: it never lies where others read, nor is it read as
data."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP
from verifying import verify


def _refused(run: Run, *arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def link(out: Path) -> Path:
    """A folder elsewhere that leads into the target, which is not there yet."""
    link = out.with_name("link")
    link.symlink_to(out / "deep", target_is_directory=True)
    return link


@pytest.mark.parametrize("command", ["push", "plan"])
def test_a_workdir_in_the_target_is_refused(
    run: Run, small: Path, out: Path, link: Path, command: str
) -> None:
    for workdir in (out, out / "work", link, link / "work"):
        told = _refused(run, command, small, "--to", out, "--workdir", workdir, *CHEAP)
        assert "lies in the target, whose readers would get the secret seed" in told
    assert not out.exists()


def test_so_is_the_usual_one_where_the_target_holds_the_cache(
    run: Run, small: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(out / "cache"))
    assert "lies in the target" in _refused(run, "push", small, "--to", out, *CHEAP)
    assert not out.exists()


@pytest.mark.slow
def test_a_verification_is_not_made_in_what_it_reads(
    run: Run, small: Path, out: Path, link: Path
) -> None:
    pushed = run("push", small, "--to", out, "--workdir", out.with_name("work"), *CHEAP)
    assert pushed.exit_code == 0, pushed.output
    before = sorted(out.rglob("*"))
    for workdir in (out, out / "v", link):
        told = verify(run, out, "--clean", small, "--workdir", workdir, code=2)
        assert "lies in the release, whose readers would get clean images" in told
    told = verify(run, out, "--clean", small, "--workdir", small / "v", code=2)
    assert "lies in the clean dataset" in told
    assert sorted(out.rglob("*")) == before
    assert not (small / "v").exists()


@pytest.mark.slow
def test_a_folder_beside_the_target_that_begins_like_it_is_another(
    run: Run, small: Path, out: Path
) -> None:
    workdir = out.with_name(f"{out.name}-work")
    result = run("push", small, "--to", out, "--workdir", workdir, *CHEAP)
    assert result.exit_code == 0, result.output
