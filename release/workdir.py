"""WORKDIR: where a release is made. Private (0700), locked while in use, safe to delete.

plan.json            the plan                          survey/SPLIT/       what each row is
cache/KEY/           rows at net size, decoded         state/KEY/          what fit left: secret
shards/KEY/          finished shards and their records protected/KEY/      shards read back
trials/KEY.json      one training each                 report/             report and plots
pairs/KEY.npy        rows that victims train on        published/          released before
private/             clean and difference pictures     release/            what is published
seconds.json         how long each stage took          progress/           how far ranks are
verification.json    the plan of `verify RELEASE`      comparison/         what `compare` found
fitted/KEY.json      seconds of a fit of `compare`     reports/METHOD/     what it reports of each
scratch/KEY/         what fit keeps for crafting here, or to go on from: secret
workers.log          tracebacks of ranks
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from release.errors import InputError
from release.paths import written

if TYPE_CHECKING:
    import numpy as np


def write_private(path: Path, text: str) -> None:
    """`path` holds `text`, readable by the owner alone; a reader sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def cache_home() -> Path:
    """Where working folders go: XDG_CACHE_HOME, or the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protect-release"


def data_home() -> Path:
    """Where seeds are kept: XDG_DATA_HOME, or the user's data folder."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "protect-release"


def pair_id(source: str, target: str) -> str:
    """A short name for one source and target."""
    return hashlib.sha256(f"{source}\n{target}".encode()).hexdigest()[:16]


def target_id(target: str) -> str:
    """A short name for one target."""
    return hashlib.sha256(target.encode()).hexdigest()[:16]


def default_workdir(source: str, target: str) -> Path:
    return cache_home() / "work" / pair_id(place_of(source), target)


@dataclass(frozen=True)
class Seed:
    """What all randomness of a dataset comes from: 64 hex digits. typed: a person chose the number
    that they were made from, so that others can try it."""

    digits: str
    typed: bool


def place_of(source: str) -> str:
    """One text for one source, however its folder was written."""
    path = written(source)
    return str(path.resolve()) if source and path.exists() else source


def demand_plain_path(folder: Path, what: str) -> None:
    """Readers such as `datasets` find this very folder by its path, and no other one: InputError
    where the path has characters that they take for a pattern or cannot write down."""
    text = str(folder)
    odd = next((mark for mark in ("[", "]", "*", "?", "::") if mark in text), None)
    odd = odd if shown(text) == text else "bytes that are no UTF-8"
    if odd is not None:
        raise InputError(
            f"{what} {shown(text)} has {odd} in its path, which `datasets` does not take as it is "
            "and may read another folder for: rename the folder"
        )


def shown(path: str) -> str:
    r"""The path with \udcNN for each byte in it that is no UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


def kept_seed(source: str, target: str) -> Seed:
    """From the operating system: drawn once for this source and target, then read."""
    path = _seed_file(source, target)
    if not path.exists():
        write_private(path, secrets.token_hex(32))
    return Seed(path.read_text().strip(), typed=False)


def forget_seed(source: str, target: str) -> None:
    """The drawn seed lies here no more: whoever needs it has it from elsewhere."""
    _seed_file(source, target).unlink(missing_ok=True)


def _seed_file(source: str, target: str) -> Path:
    return data_home() / "seeds" / pair_id(place_of(source), target)


def typed_seed(seed: int) -> Seed:
    """From a number a person typed."""
    return Seed(hashlib.sha256(f"typed {seed}".encode()).hexdigest(), typed=True)


class Workdir:
    """The folders of one WORKDIR, and the notes kept there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def verification(self) -> Path:
        """The plan of a verification of something published."""
        return self.path / "verification.json"

    def survey(self, split: str) -> Path:
        return self.path / "survey" / split

    def cache(self, key: str, part: str) -> Path:
        return self.path / "cache" / key / part

    def state(self, key: str) -> Path:
        return self.path / "state" / key

    def scratch(self, key: str) -> Path:
        """Where the method whose State has this key may keep what never leaves this machine; it
        makes the folder itself, for its owner alone."""
        return self.path / "scratch" / key

    def shards(self, key: str) -> Path:
        return self.path / "shards" / key

    def protected(self, key: str) -> Path:
        return self.path / "protected" / key

    def trial(self, key: str) -> Path:
        return self.path / "trials" / f"{key}.json"

    def pairs(self, key: str) -> np.ndarray:
        """(M,2) int64, by the first: rows of the source that victims train on, and the number that
        each is released under."""
        import numpy as np

        found: np.ndarray = np.load(self.path / "pairs" / f"{key}.npy")
        return found

    def save_pairs(self, key: str, pairs: np.ndarray) -> None:
        import numpy as np

        folder = self.path / "pairs"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{key}.npy", pairs)

    @property
    def asked_trials(self) -> Path:
        """Which trials the ranks are to run."""
        return self.path / "trials.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def private(self) -> Path:
        return self.path / "private"

    @property
    def release(self) -> Path:
        return self.path / "release"

    @property
    def published(self) -> Path:
        """Rows of earlier releases, as they were published."""
        return self.path / "published"

    @property
    def card(self) -> Path:
        """The card of the staged release, before it is laid over the target's README.md."""
        return self.path / "card.md"

    @property
    def staged(self) -> Path:
        """Names the plan whose release lies in `release`."""
        return self.path / "staged"

    @property
    def progress(self) -> Path:
        return self.path / "progress"

    @property
    def log(self) -> Path:
        return self.path / "workers.log"

    @property
    def failure(self) -> Path:
        return self.path / "failure.json"

    def seconds(self) -> dict[str, float]:
        """How long each stage took when it last ran."""
        path = self.path / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def note_seconds(self, stage: str, seconds: float) -> None:
        write_private(
            self.path / "seconds.json", json.dumps(self.seconds() | {stage: round(seconds, 2)})
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works here meanwhile; InputError names the process that does, and a file
        that was there before this tool was: here it would be tidied away."""
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise InputError(
                    f"process {lock.read().strip() or 'another'} is working in {self.path}: wait "
                    "for it, or name another --workdir"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _lock_file(self) -> TextIO:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._demand_own()
            self.path.chmod(0o700)
            return open(self.path / "lock", "a+")
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"--workdir {self.path} cannot be used ({problem.strerror}): name another folder"
            ) from None

    def _demand_own(self) -> None:
        """InputError unless the folder is empty, or was locked before."""
        strange = sorted(path.name for path in self.path.iterdir())
        if strange and not (self.path / "lock").is_file():
            raise InputError(
                f"{self.path} holds files that are not this tool's ({strange[0]}): they were left "
                "as they are; name another folder with --workdir"
            )

    def clear_progress(self) -> None:
        shutil.rmtree(self.progress, ignore_errors=True)
        self.progress.mkdir(parents=True)
        self.failure.unlink(missing_ok=True)
