"""Folders that cannot be made or written are told in one line before any work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP


def _refused(run: Run, *arguments: object, code: int = 2) -> str:
    """The one line of the error; nothing was crafted."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "craft:" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("workdir", ["/etc/hostname/x", "/proc/x", "FILE", "FILE/x"])
def test_a_workdir_that_cannot_be_made(
    run: Run, small: Path, out: Path, tmp_path: Path, workdir: str
) -> None:
    (tmp_path / "file").write_text("mine")
    workdir = workdir.replace("FILE", str(tmp_path / "file"))
    for command in (
        ("push", small, "--to", out, *CHEAP),
        ("verify", small, "--clean", small),
        ("fit",),
    ):
        told = _refused(run, *command, "--workdir", workdir)
        assert "name another folder" in told or "no plan in" in told
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("to", ["/proc/x-p", "/proc/x/y", "FILE/x"])
def test_a_target_that_cannot_be_made(run: Run, small: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "file").write_text("mine")
    to = to.replace("FILE", str(tmp_path / "file"))
    asked = ("--to", to, "--workdir", tmp_path / "work", *CHEAP)
    told = _refused(run, "push", small, *asked, code=6)
    assert f"{to} could not be written" in told
    assert "choose another --to" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "SOURCE", "--to", "~nobody9/x"),
        ("push", "~nobody9/x", "--to", "OUT"),
        ("push", "SOURCE", "--to", "OUT", "--workdir", "~nobody9/x"),
        ("push", "SOURCE", "--to", "OUT", "--state", "~nobody9/x", "--workdir", "OUT-work"),
        ("verify", "~nobody9/x", "--clean", "SOURCE"),
        ("verify", "SOURCE", "--clean", "~nobody9/x"),
        ("preview", "SOURCE", "--workdir", "~nobody9/x"),
        ("check", "~nobody9/x"),
        ("craft", "--workdir", "~nobody9/x"),
    ],
)
def test_the_home_of_nobody(run: Run, small: Path, out: Path, arguments: tuple[str, ...]) -> None:
    named = [text.replace("SOURCE", str(small)).replace("OUT", str(out)) for text in arguments]
    told = _refused(run, *named)
    assert told.startswith("error: ~nobody9/x")
    assert "begins with the home of a user that is not known here" in told


@pytest.mark.slow
def test_a_release_is_made_where_no_file_can_be_linked(
    run: Run, small: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setenv("PROTECT_RELEASE_KEY", "sixteen letters!")
    result = run("push", small, "--to", out, "--workdir", tmp_path / "work", *CHEAP)
    assert result.exit_code == 0, result.output
    assert run("check", out).exit_code == 0
