"""Folders as people write them, and which of them must not lie in which."""

from __future__ import annotations

from pathlib import Path

from release.errors import InputError


def written(text: str) -> Path:
    """The path that a person wrote, with ~ for a home; InputError where that is nobody's here."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(
            f"{text} begins with the home of a user that is not known here: write the whole path"
        ) from None


def absolute(text: str) -> Path:
    """The same from the root on, through every link."""
    return written(text).resolve()


def demand_outside(workdir: Path, folder: Path, what: str) -> None:
    """InputError where WORKDIR is the folder or lies in it; `what` says which folder that is, and
    what would come of it."""
    place = workdir.resolve()
    if place.is_relative_to(folder.resolve()):
        raise InputError(f"--workdir {place} lies in {what}: name another folder")
