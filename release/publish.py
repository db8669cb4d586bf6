"""Where a finished release goes, all at once or not at all.

A target is append-only: a release adds files and rewrites README.md alone. It says before any work
whether it may be written (`refuse`), and takes the staged files of one release in one step
(`publish`). It is a folder (here) or a dataset repository of the Hub (`release.hub_target`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from release.errors import InputError, StorageError
from release.linking import copy_modes, link_tree, place_file
from release.manifest import FOLDER, MADE_BY, manifest_path
from release.paths import absolute, written
from release.swapping import alone, beside, recover, swap_in
from release.workdir import demand_plain_path

CARD = "README.md"
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_PREFIX = "hf://"
_DATASET_PREFIX = "hf://datasets/"
_RELEASE = re.compile(rf"{FOLDER}/(r\d+)\.json")
_GATES = ("auto", "manual")
MAIN = "main"
"""The branch that readers get who name none."""


@dataclass(frozen=True)
class Published:
    """What readers of a target see now.

    head: the commit; None for a folder, or where nothing is there; releases: the bytes of each
    releases/NAME.json by NAME (r0001, ...), in order; readme: README.md, empty where there is none.
    """

    head: str | None
    releases: Mapping[str, bytes]
    readme: str


class HeadMoved(Exception):
    """Somebody else changed the target meanwhile: nothing was published."""


class Target(Protocol):
    """Where readers find the releases of one dataset."""

    @property
    def name(self) -> str:
        """org/name on the Hub, or the absolute path of a folder."""
        ...

    @property
    def is_hub(self) -> bool:
        """Whether it is a repository of the Hub."""
        ...

    @property
    def branch(self) -> str | None:
        """Where in it releases go; None in a folder."""
        ...

    def is_public(self) -> bool:
        """Whether everybody can read it now."""
        ...

    def refuse(self, source: str) -> None:
        """Raises InputError or HubRefused where a release of `source` must not or cannot go here;
        writes nothing."""
        ...

    def prepare(self) -> None:
        """It can be written; on the Hub it exists, private where it did not before."""
        ...

    def published(self) -> Published:
        """What readers see now."""
        ...

    def read(self, path: str, head: str | None) -> bytes:
        """A published file, whole."""
        ...

    def fetch(self, path: str, head: str | None, into: Path) -> Path:
        """A published file, linked or copied to `into`/`path`."""
        ...

    def offer(self, file: Path, path: str) -> None:
        """A finished file may be sent ahead, to be seen by nobody before it is published."""
        ...

    def publish(
        self, staged: Path, release: str, after: Published, hidden: str | None = None
    ) -> str:
        """Readers see the staged files on top of what was there, as `release`; says where to look.
        HeadMoved where the target is no longer `after`, and then nothing is changed. `hidden` says
        why not everybody may read the release, None where everybody may: InputError where everybody
        can, before anything is changed; where that came about in that very moment the target is
        made private, and the error says so."""
        ...

    def add(self, staged: Path, title: str, after: Published) -> str:
        """Readers see the staged files, which are no release, on top of what was there; says where
        to look. HeadMoved where the target is no longer `after`, and then nothing is changed."""
        ...

    def name_releases(self, releases: Sequence[str]) -> None:
        """Each of these releases, which readers see, can be asked for by its name."""
        ...

    def open_to_everybody(self) -> None:
        """Everybody can read it; InputError where that is not for this program to do."""
        ...


@dataclass(frozen=True)
class LocalTarget:
    """A folder. What it shall hold is made beside it and renamed into place."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def is_hub(self) -> bool:
        return False

    @property
    def branch(self) -> str | None:
        return None

    def is_public(self) -> bool:
        return False

    def refuse(self, source: str) -> None:
        folder = written(source)
        if folder.exists() and self.path == folder.resolve():
            raise InputError(f"--to {self.path} is the source itself: name another folder")
        if folder.exists() and folder.resolve().is_relative_to(self.path):
            raise InputError(f"--to {self.path} holds the source: name another folder")
        if folder.exists() and self.path.is_relative_to(folder.resolve()):
            raise InputError(
                f"--to {self.path} lies in the source, which would hold protected images beside "
                "clean ones: name another folder"
            )
        self._recover()
        if not self.path.exists():
            demand_plain_path(self.path, "--to")
        elif not self.is_ours():
            raise InputError(
                f"{self.path} exists and is not a release of this tool: it was left as it is; "
                "name another folder with --to"
            )

    def is_ours(self) -> bool:
        """Whether releases of this tool lie here."""
        return any(_made_here(manifest) for manifest in self._releases().values())

    def prepare(self) -> None:
        parent = self.path.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise self._unwritable(problem) from None
        with self._alone():
            pass  # so what it shall hold can be made beside it

    def published(self) -> Published:
        self._recover()
        return self._look()

    def _look(self) -> Published:
        card = self.path / CARD
        readme = card.read_bytes().decode("utf-8", "replace") if card.is_file() else ""
        return Published(None, self._releases(), readme)

    def read(self, path: str, head: str | None) -> bytes:
        return self._file(path).read_bytes()

    def fetch(self, path: str, head: str | None, into: Path) -> Path:
        within = into / path
        place_file(self._file(path), within)
        return within

    def offer(self, file: Path, path: str) -> None:
        """Nothing: a folder takes everything at once."""

    def publish(
        self, staged: Path, release: str, after: Published, hidden: str | None = None
    ) -> str:
        with self._alone():
            if self._releases().get(release) != (staged / manifest_path(release)).read_bytes():
                self._lay(staged, after)
        return self.name

    def add(self, staged: Path, title: str, after: Published) -> str:
        with self._alone():
            self._lay(staged, after)
        return self.name

    def _lay(self, staged: Path, after: Published) -> None:
        """What is there with the staged files over it takes its place."""
        if self._look() != after:
            raise HeadMoved(self.name)
        incoming = beside(self.path, "incoming")
        try:
            incoming.mkdir(mode=0o700 if self.path.exists() else 0o777)
            link_tree(self.path, incoming)
            link_tree(staged, incoming)
            copy_modes(self.path, incoming)
            swap_in(self.path)
        except OSError as problem:
            shutil.rmtree(incoming, ignore_errors=True)
            raise self._unwritable(problem) from None

    def name_releases(self, releases: Sequence[str]) -> None:
        """Nothing: a folder is what it is now."""

    def open_to_everybody(self) -> None:
        raise InputError(f"{self.path} is a folder: only a dataset on the Hub can be made public")

    def _releases(self) -> dict[str, bytes]:
        folder = self.path / FOLDER
        paths = [f"{FOLDER}/{path.name}" for path in folder.glob("*.json")]
        return {name: (self.path / path).read_bytes() for name, path in release_names(paths)}

    def _file(self, path: str) -> Path:
        file = self.path / path
        if not file.is_file():
            raise StorageError(f"{self.path} has no {path} any more: restore it from a copy")
        return file

    def _recover(self) -> None:
        """What a run that was killed here left is put right."""
        try:
            recover(self.path)
        except OSError as problem:
            raise self._unwritable(problem) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other run changes the folder meanwhile, and it is whole; StorageError where nothing
        can be written beside it."""
        with ExitStack() as until_then:
            try:
                until_then.enter_context(alone(self.path))
            except OSError as problem:
                raise self._unwritable(problem) from None
            yield

    def _unwritable(self, problem: OSError) -> StorageError:
        return StorageError(
            f"{self.path} could not be written ({problem.strerror}): make room or choose another "
            "--to, then run the same command again; nothing finished is lost"
        )


def release_names(paths: list[str]) -> list[tuple[str, str]]:
    """(NAME, path) of each releases/NAME.json among the paths, in the order of the releases."""
    found = [(match[1], path) for path in paths if (match := _RELEASE.fullmatch(path))]
    return sorted(found, key=lambda each: int(each[0][1:]))


def _made_here(manifest: bytes) -> bool:
    try:
        return bool(json.loads(manifest).get("made_by") == MADE_BY)
    except (ValueError, AttributeError):
        return False


def target_of(
    to: str | None,
    source: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    public: bool = False,
    gated: str | None = None,
    patience: float = 600.0,
) -> Target:
    """The target named by --to, or beside a source on the Hub; InputError where none is named, or
    what is asked for cannot be had there."""
    repo_id = _hub_id(to) if to is not None else _beside_source(source)
    if repo_id is None:
        _demand_for_folder(revision=revision, create_pr=create_pr, public=public, gated=gated)
        return LocalTarget(absolute(to or ""))
    if gated not in (None, *_GATES):
        raise InputError(f"--gated {gated} is neither {' nor '.join(_GATES)}")
    from release.hub_target import HubTarget

    return HubTarget(
        repo_id,
        revision=revision,
        create_pr=create_pr,
        public=public,
        gated=gated,
        patience=patience,
    )


def tag_name(release: str, branch: str | None) -> str:
    """The tag of a release on the Hub. Those on another branch than main have the branch's name, so
    that they never stand in the way of main's."""
    return release if branch in (None, MAIN) else f"{branch}-{release}"


def is_hub_id(name: str) -> bool:
    """Whether this can be the name of a repository on the Hub."""
    return _HUB_ID.fullmatch(name.removeprefix(_DATASET_PREFIX)) is not None


def _hub_id(to: str) -> str | None:
    """org/name where --to names a repository of the Hub, None where it names a folder."""
    name = to.removeprefix(_DATASET_PREFIX).rstrip("/")
    if to.startswith(_HUB_PREFIX):
        if to.startswith(_DATASET_PREFIX) and _HUB_ID.fullmatch(name):
            return name
        raise InputError(f"--to {to} is not {_DATASET_PREFIX}org/name; a branch is --revision")
    if not _HUB_ID.fullmatch(to):
        return None
    if Path(to).exists():
        raise InputError(
            f"--to {to} is a folder here and may be a dataset on the Hub: write ./{to} for the "
            f"folder, {_DATASET_PREFIX}{to} for the Hub"
        )
    return to


def _beside_source(source: str) -> str:
    """The repository that a release of a Hub source goes to where no other is named."""
    name = source.removeprefix(_DATASET_PREFIX).partition("@")[0]
    is_hub = source.startswith(_DATASET_PREFIX) or not written(source).exists()
    if is_hub and _HUB_ID.fullmatch(name):
        return f"{name}-protected"
    raise InputError(
        f"no target: say where the release of {source} goes, such as --to ./{_stem(source)}"
    )


def _demand_for_folder(**asked: object) -> None:
    """Nothing is asked for that folders do not have."""
    for name, value in asked.items():
        if value:
            option = name.replace("_", "-")
            raise InputError(
                f"--{option} is for the Hub, and --to names a folder: drop --{option}, or name "
                "org/name"
            )


def _stem(source: str) -> str:
    name = source.removeprefix("sample:").rstrip("/").split("/")[-1].split("@")[0]
    return f"{name or 'dataset'}-protected"
