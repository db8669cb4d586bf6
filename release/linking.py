"""Finished files at a second place, without a second copy where the file system allows that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def place_file(source: Path, target: Path) -> None:
    """`target` is the file: a hard link where the file system allows it, since published files are
    never written again in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_apart(path: Path, data: bytes) -> None:
    """`path` holds the bytes in a file of its own: whatever else is linked to the one that was
    there, such as what readers see, is as it was."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        making.write_bytes(data)
        making.replace(path)
    except OSError:
        making.unlink(missing_ok=True)
        raise


def link_tree(source: Path, target: Path) -> None:
    """Every file of `source` is in `target`, in place of one of the same path."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            place_file(path, target / path.relative_to(source))


def copy_modes(source: Path, target: Path) -> None:
    """Each folder of `source` has in `target` the mode that it has there."""
    if source.exists():
        for folder in (source, *(path for path in source.rglob("*") if path.is_dir())):
            shutil.copymode(folder, target / folder.relative_to(source))
