"""Where a finished release goes, all at once or not at all.

A target says before any work whether it may be written (`refuse`) and takes a staged folder in one
step (`publish`). Local folders are one kind of target; a Hub repository is to be another.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from release.errors import InputError, StorageError
from release.manifest import MADE_BY

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


class Target(Protocol):
    """Where readers will find the release."""

    def refuse(self, source: str) -> None:
        """Raises InputError where a release of `source` must not or cannot go here."""
        ...

    def publish(self, staged: Path) -> None:
        """Readers see the whole staged release, or, where this raises, what was there before."""
        ...


@dataclass(frozen=True)
class LocalTarget:
    """A folder. The release is written beside it and renamed into place."""

    path: Path

    def refuse(self, source: str) -> None:
        folder = Path(source).expanduser()
        if folder.exists() and self.path == folder.resolve():
            raise InputError(f"--to {self.path} is the source itself: name another folder")
        if folder.exists() and folder.resolve().is_relative_to(self.path):
            raise InputError(f"--to {self.path} holds the source: name another folder")
        self._recover()
        if self.path.exists() and not self.is_ours():
            raise InputError(
                f"{self.path} exists and is not a release of this tool: it was left as it is; "
                "name another folder with --to"
            )

    def is_ours(self) -> bool:
        """Whether a release of this tool lies here."""
        manifest = self.path / "manifest.json"
        if not manifest.is_file():
            return False
        try:
            return bool(json.loads(manifest.read_text()).get("made_by") == MADE_BY)
        except (json.JSONDecodeError, AttributeError):
            return False

    def publish(self, staged: Path) -> None:
        incoming = self._beside("incoming")
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            _link_tree(staged, incoming)
            self._swap(incoming)
        except OSError as problem:
            shutil.rmtree(incoming, ignore_errors=True)
            raise StorageError(
                f"{self.path} could not be written ({problem.strerror}): make room or choose "
                "another --to, then run the same command again; nothing finished is lost"
            ) from None

    def _swap(self, incoming: Path) -> None:
        previous = self._beside("previous")
        if self.path.exists():
            self.path.rename(previous)
        incoming.rename(self.path)
        shutil.rmtree(previous, ignore_errors=True)

    def _recover(self) -> None:
        """Undoes a swap that was killed between its two renames."""
        previous = self._beside("previous")
        if previous.exists() and not self.path.exists():
            previous.rename(self.path)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{what}")


def _link_tree(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        within = target / path.relative_to(source)
        if path.is_dir():
            within.mkdir()
        else:
            _link(path, within)


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system allows it: shards are never written again in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def target_of(to: str | None, source: str) -> LocalTarget:
    """The target named by --to; InputError where none is named or it is not a folder."""
    if to is None:
        raise InputError(
            f"no target: say where the release of {source} goes, such as --to ./{_stem(source)}"
        )
    if _HUB_ID.fullmatch(to):
        raise InputError(
            f"--to {to} reads like a Hub repository, and this version writes folders only: use "
            f"--to ./{to}"
        )
    return LocalTarget(Path(to).expanduser().resolve())


def _stem(source: str) -> str:
    name = source.removeprefix("sample:").rstrip("/").split("/")[-1].split("@")[0]
    return f"{name or 'dataset'}-protected"
