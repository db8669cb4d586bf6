"""Where later releases find what they need: named byte strings that change all at once, in a folder
or in a private repository of the Hub. What they hold is encrypted before it comes here
(`release.vault`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from release.errors import HubRefused, InputError, StorageError
from release.paths import absolute

if TYPE_CHECKING:
    from release.hub import HubRepo

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_PREFIX = "hf://"
_DATASET_PREFIX = "hf://datasets/"
_LOCK = "lock"
_MAKING = ".making"
_ATTEMPTS = 5

Content = bytes | Path
"""The bytes of a name, or a file that holds them."""


class Store(Protocol):
    """Named byte strings that change all at once."""

    @property
    def place(self) -> str:
        """What people call it: a folder or org/name."""
        ...

    def refuse(self) -> None:
        """Raises InputError or HubRefused where it must not or cannot be used; writes nothing."""
        ...

    def prepare(self) -> None:
        """It exists, and nobody but its owner can read it."""
        ...

    def names(self) -> list[str]:
        """What it holds, sorted; nothing where it does not exist."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a name; StorageError where it has none."""
        ...

    def change(
        self, additions: Mapping[str, Content], deletions: Sequence[str], message: str
    ) -> None:
        """All of it is done, or, where this raises, none.

        StorageError where a name to add is there that was not when `names` was last asked: another
        run has written it.
        """
        ...


class FolderStore:
    """A folder that its owner alone can read.

    What it holds lies in its one numbered folder. A change makes the folder of the next number
    beside it and renames that into place: the highest number is what holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: list[str] = []

    @property
    def place(self) -> str:
        return str(self.path)

    def refuse(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--state {self.path} is a file: name a folder")
        foreign = [name for name in self._listed() if not self._is_ours(name)]
        if foreign:
            raise InputError(
                f"--state {self.path} holds other things ({foreign[0]}): name an empty folder, or "
                "one that does not exist yet"
            )
        nearest = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"--state {self.path} cannot be written: name another folder")

    def prepare(self) -> None:
        with self._told_of_problems():
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)

    def names(self) -> list[str]:
        self._seen = self._names_now()
        return self._seen

    def read(self, name: str) -> bytes:
        try:
            return (self._current() / name).read_bytes()
        except FileNotFoundError:
            raise _missing(self.place, name) from None

    def change(
        self, additions: Mapping[str, Content], deletions: Sequence[str], message: str
    ) -> None:
        with self._told_of_problems(), self._locked():
            there = self._names_now()
            _demand_no_meeting(self.place, additions, there, self._seen)
            making = self.path / _MAKING
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(mode=0o700)
            for name in set(there).difference(additions, deletions):
                _put(making / name, self._current() / name)
            for name, content in additions.items():
                _put(making / name, content)
            self._replace_current(making)
            self.names()

    def _replace_current(self, making: Path) -> None:
        before = self._numbers()
        making.rename(self.path / str(max(before, default=0) + 1))
        for old in before:
            shutil.rmtree(self.path / str(old), ignore_errors=True)

    def _names_now(self) -> list[str]:
        current = self._current()
        return sorted(
            str(path.relative_to(current)) for path in current.rglob("*") if path.is_file()
        )

    def _current(self) -> Path:
        return self.path / str(max(self._numbers(), default=0))

    def _numbers(self) -> list[int]:
        return [int(name) for name in self._listed() if name.isdecimal()]

    def _listed(self) -> list[str]:
        return sorted(os.listdir(self.path)) if self.path.is_dir() else []

    def _is_ours(self, name: str) -> bool:
        return name.isdecimal() or name in (_LOCK, _MAKING)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other process changes it meanwhile."""
        with open(self.path / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _told_of_problems(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            shutil.rmtree(self.path / _MAKING, ignore_errors=True)
            advice = "choose another --state"
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                advice = "make room there"
            raise StorageError(
                f"the state folder {self.path} could not be written ({problem.strerror}): "
                f"{advice}, then run the same command again; what was there is unchanged"
            ) from None


class HubStore:
    """A private dataset repository of the Hub."""

    def __init__(self, repo: HubRepo) -> None:
        self._repo = repo
        self._head: str | None = None
        self._seen: list[str] = []

    @property
    def place(self) -> str:
        return self._repo.repo_id

    def refuse(self) -> None:
        if self._repo.exists():
            self._demand_private()
            self._repo.check_write()

    def prepare(self) -> None:
        if not self._repo.exists():
            self._repo.create_private()
        self._demand_private()

    def names(self) -> list[str]:
        """What it holds now; `read` answers from this commit until asked or changed again."""
        self._head = self._repo.head() if self._repo.exists() else None
        self._seen = self._names_at(self._head)
        return self._seen

    def read(self, name: str) -> bytes:
        if self._head is None or name not in self._seen:
            raise _missing(self.place, name)
        return self._repo.read(name, self._head)

    def change(
        self, additions: Mapping[str, Content], deletions: Sequence[str], message: str
    ) -> None:
        from release.publish import HeadMoved

        for _ in range(_ATTEMPTS):
            head = self._repo.head()
            there = self._names_at(head)
            _demand_no_meeting(self.place, additions, there, self._seen)
            gone = [name for name in deletions if name in there]
            self._demand_private()
            try:
                self._head = self._repo.commit(additions, gone, message, head)
                self._seen = sorted({*there, *additions} - {*gone})
                return
            except HeadMoved:
                continue
        raise HubRefused(
            f"{self.place} was changed by others {_ATTEMPTS} times meanwhile: run the same command "
            "again"
        )

    def _names_at(self, head: str | None) -> list[str]:
        names = self._repo.list(head) if head is not None else []
        return sorted(name for name in names if not name.startswith("."))

    def _demand_private(self) -> None:
        if not self._repo.is_private():
            raise HubRefused(
                f"{self.place} is public, and state that undoes the protection must not be: make "
                "it private in its settings on the Hub, or name another --state"
            )


def store_of(
    text: str | None, *, target: str, is_hub: bool, default_folder: Path, patience: float
) -> Store:
    """The store named by --state: TARGET-state by default where the target is on the Hub, else
    `default_folder`. InputError where readers of the target would get it too."""
    if text is None and not is_hub:
        return FolderStore(default_folder)
    repo_id = f"{target}-state" if text is None else _hub_id(text)
    if repo_id is not None:
        if is_hub and repo_id == target:
            raise InputError(f"--state {repo_id} is the target: readers would get it; name another")
        return _hub_store(repo_id, patience)
    path = absolute(text or "")
    if not is_hub and path.is_relative_to(Path(target).resolve()):
        raise InputError(f"--state {path} lies in the target: readers would get it; name another")
    return FolderStore(path)


def _hub_store(repo_id: str, patience: float) -> HubStore:
    from release.hub import HubRepo

    return HubStore(HubRepo(repo_id, patience=patience, role="state"))


def _hub_id(text: str) -> str | None:
    """org/name where --state names a repository, None where it names a folder."""
    name = text.removeprefix(_DATASET_PREFIX).rstrip("/")
    if _HUB_ID.fullmatch(name):
        return name
    if text.startswith(_HUB_PREFIX):
        raise InputError(f"--state {text} is not {_DATASET_PREFIX}org/name")
    return None


def _demand_no_meeting(
    place: str, additions: Mapping[str, Content], there: list[str], seen: list[str]
) -> None:
    """No name to add was written by another run since the names were seen."""
    both = sorted(set(additions).intersection(there).difference(seen))
    if both:
        raise StorageError(
            f"another run wrote {both[0]} to {place} at the same time, and nothing was changed: "
            "run the same command again"
        )


def write_owned(path: Path, data: bytes) -> None:
    """`path` is a new file that holds `data` and is on the disk; its owner alone can read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _put(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if isinstance(content, bytes):
        write_owned(path, content)
    elif not _linked(content, path):
        write_owned(path, content.read_bytes())


def _linked(source: Path, path: Path) -> bool:
    """Whether a hard link could be made: files here are never written again in place."""
    try:
        os.link(source, path)
    except OSError:
        return False
    return True


def _missing(place: str, name: str) -> StorageError:
    return StorageError(f"{place} has no {name} any more: restore it from an earlier version")
