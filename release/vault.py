"""What later releases of a target need, under the owner's key: the seed, fitted States, and which
rows are released.

salt                              with it the key is stretched; not secret
facts.enc                         the target, and the seed and whether it was typed
states/KEY/files.enc              the names of a State's files
states/KEY/NAME.safetensors.enc   one of them
ledger/TAG-ID.enc                 the rows of the release of this tag and id (`release.ledger`)

Each .enc file is AES-256-GCM: 12 random bytes, the ciphertext and its tag. The file's own name is
authenticated with it, so that no file can be put in another's place. (Fernet, being base64, would
make them a third larger and take three times the memory.)
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from release.arrays import whole_folder
from release.errors import InputError, StorageError
from release.ledger import Ledger, LedgerEntry
from release.ledger import marks as keyed_marks
from release.store import Content, Store, write_owned
from release.workdir import Seed

KEY_VARIABLE = "PROTECT_RELEASE_KEY"
_SHORTEST = 16
_NONCE = 12
_FORMAT = 1
_SALT = "salt"
_FACTS = "facts.enc"


def _state_name(key: str, file: str) -> str:
    return f"states/{key}/{file}.enc"


def _listing_name(key: str) -> str:
    return _state_name(key, "files")


def _entry_name(tag: str, release_id: str) -> str:
    return f"ledger/{tag}-{release_id}.enc"


def _entries(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name, tag, id) of each ledger entry among these names."""
    for name in names:
        found = re.fullmatch(r"ledger/(.+)-(.+)\.enc", name)
        if found:
            yield name, found[1], found[2]


def knows(names: Iterable[str], release_ids: Sequence[str]) -> bool:
    """Whether a store of these names has the rows of each of these releases."""
    return {release_id for _, _, release_id in _entries(names)}.issuperset(release_ids)


class _OwnerKey:
    """The text of the owner's key: typed into the environment, or kept in a file."""

    def __init__(self, file: Path, tell: Callable[[str], None]) -> None:
        self._file, self._tell = file, tell
        self._typed = os.environ.get(KEY_VARIABLE)
        if self._typed is not None and len(self._typed.strip()) < _SHORTEST:
            raise InputError(
                f"{KEY_VARIABLE} has fewer than {_SHORTEST} characters: set it to the key of this "
                "target, or for a new one to the output of `openssl rand -hex 32`"
            )

    def __str__(self) -> str:
        return KEY_VARIABLE if self._typed is not None else f"the key in {self._file}"

    @property
    def file(self) -> Path:
        """Where it is kept if nobody typed it."""
        return self._file

    @property
    def is_there(self) -> bool:
        return self._typed is not None or self._file.exists()

    def text(self) -> str:
        """The key, made and told of where there was none."""
        if self._typed is not None:
            return self._typed.strip()
        if not self._file.exists():
            self._make()
        found = self._file.read_text().strip()
        if not re.fullmatch("[0-9a-f]{64}", found):
            raise InputError(
                f"{self._file} holds no key (64 hex digits): restore it from your copy, or set "
                f"{KEY_VARIABLE}"
            )
        return found

    def _make(self) -> None:
        making = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_owned(making, f"{secrets.token_hex(32)}\n".encode())
            # Unlike a rename, this never replaces the key that another process just made.
            os.link(making, self._file)
        except OSError as problem:
            if self._file.exists():
                return
            raise InputError(
                f"no key could be kept in {self._file} ({problem.strerror}): set {KEY_VARIABLE} to "
                "the output of `openssl rand -hex 32`, and keep a copy"
            ) from None
        finally:
            with suppress(OSError):
                making.unlink()
        self._tell(
            f"a new key lies in {self._file}: keep a copy, for without it nothing can be added to "
            f"this release; in CI set {KEY_VARIABLE} to what it holds"
        )


@dataclass(frozen=True)
class Kept:
    """An entry of the ledger: what its release is called there, where it lies, and the entry."""

    release: str
    place: str
    entry: LedgerEntry


@dataclass(frozen=True, repr=False)
class _Keys:
    """What a stretched key gives: one for the files, one for the marks of rows."""

    salt: bytes
    cipher: bytes
    digest: bytes

    @classmethod
    def stretched(cls, text: str, salt: bytes) -> _Keys:
        both = Scrypt(salt=salt, length=64, n=2**15, r=8, p=1).derive(text.encode())
        return cls(salt, both[:32], both[32:])

    def seal(self, name: str, data: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return nonce + AESGCM(self.cipher).encrypt(nonce, data, name.encode())

    def unseal(self, name: str, sealed: bytes) -> bytes | None:
        """What was sealed under this name; None where it was not, or with another key."""
        nonce, rest = sealed[:_NONCE], memoryview(sealed)[_NONCE:]
        try:
            return AESGCM(self.cipher).decrypt(nonce, rest, name.encode())
        except (InvalidTag, ValueError):
            return None


class Vault:
    """The seed, fitted States and the ledger of one target, under the owner's key."""

    def __init__(self, store: Store, target: str, owner: _OwnerKey) -> None:
        self._store, self._target, self._owner = store, target, owner
        self._keys: _Keys | None = None
        self._seed: Seed | None = None
        self._begun_for = target
        self._names: set[str] = set()

    @classmethod
    def open(
        cls, store: Store, *, target: str, key_file: Path, tell: Callable[[str], None]
    ) -> Vault:
        """The vault of `target` in `store`; where that is empty, nothing is written yet.

        The key is PROTECT_RELEASE_KEY, else what `key_file` holds; that is made when a key is first
        needed, and `tell` says so. InputError where the key is too short or is not the vault's.
        """
        vault = cls(store, target, _OwnerKey(key_file, tell))
        vault._names = set(store.names())
        if vault.exists:
            vault._unlock()
        elif any(name.endswith(".enc") for name in vault._names):
            raise StorageError(
                f"{store.place} has lost its {_SALT}, without which no key opens it: restore it "
                "from an earlier version"
            )
        return vault

    @property
    def exists(self) -> bool:
        """Whether anything is kept."""
        return _SALT in self._names

    def prepare(self) -> None:
        """Its place and its key are there: what can be refused is refused now."""
        self._store.prepare()
        self._unlocked()

    def demand_own(self, release_ids: Sequence[str]) -> None:
        """InputError where it is another target's. One that was moved or renamed since is known by
        its releases, which are these."""
        if self._begun_for == self._target or (release_ids and knows(self._names, release_ids)):
            return
        raise InputError(
            f"the state at {self._store.place} belongs to {self._begun_for}, not to "
            f"{self._target}: name another --state"
        )

    def seed(self) -> Seed | None:
        """The seed that is kept, or None."""
        return self._seed

    def has_state(self, key: str) -> bool:
        """Whether the State of this key is kept."""
        return _listing_name(key) in self._names

    def is_state(self, key: str, folder: Path) -> bool:
        """Whether the State that is kept under this key is the one in `folder`."""
        files: list[str] = json.loads(self._read(_listing_name(key)))
        return all(
            (folder / file).is_file()
            and (folder / file).read_bytes() == self._read(_state_name(key, file))
            for file in files
        )

    def load_state(self, key: str, folder: Path) -> None:
        """The State's files lie in `folder`, which appears whole and is for its owner's eyes alone.

        StorageError where one of them is missing or was changed, or the disk is full.
        """
        files: list[str] = json.loads(self._read(_listing_name(key)))
        with whole_folder(folder, "make room") as making:
            making.chmod(0o700)
            for file in files:
                write_owned(making / file, self._read(_state_name(key, file)))

    def marks(self, digests: np.ndarray) -> np.ndarray:
        """(N,32) uint8: by what the ledger knows the rows, or pictures, of these digests (N,D)."""
        return keyed_marks(self._unlocked().digest, digests)

    def ledger(self, release_ids: Sequence[str]) -> Ledger:
        """The rows of these releases, in this order; InputError where one of them is not kept."""
        names = {release_id: name for name, _, release_id in _entries(self._names)}
        for number, release_id in enumerate(release_ids, 1):
            if release_id not in names:
                raise InputError(
                    f"the state at {self._store.place} does not know release {number} of "
                    f"{len(release_ids)} ({release_id}) of {self._target}: name the --state that "
                    "this release was made with"
                )
        return Ledger([self._entry(names[release_id]) for release_id in release_ids])

    def unseen(self, release_ids: Sequence[str]) -> Iterator[Kept]:
        """What is kept of every release but these, looked for anew and one in memory at a time:
        those that wait as pull requests, were withdrawn, are on other branches or in copies of the
        dataset, or never came to be."""
        self._names = self._names_now()
        for name, release, release_id in _entries(sorted(self._names)):
            if release_id not in release_ids:
                place = f"{name} of the state at {self._store.place}"
                yield Kept(release, place, self._entry(name))

    def keep(
        self,
        *,
        seed: Seed,
        states: Mapping[str, Path],
        release: str,
        release_id: str,
        rows: LedgerEntry,
        confirmed: bool,
    ) -> None:
        """In one change: the seed, the States by key (folders of release.state) and the rows of
        this release are kept.

        States that were kept before stay as they are, and so does a seed once a release is
        `confirmed`, which readers see and whose rows were made with it. No rows are ever dropped:
        of a release that is not to be seen, nobody knows who saw it. `release` is the release's
        tag. Doing this again changes nothing.
        """
        there = self._look_again()
        with self._sealed_states(states, there) as additions:
            additions |= {} if self.exists else {_SALT: self._unlocked().salt}
            if seed != self._seed and not (self._seed and confirmed):
                additions |= self._facts(seed)
            entry = _entry_name(release, release_id)
            additions |= self._changed(entry, rows.to_bytes(), there)
            if additions:
                self._store.change(additions, [], f"Keep {release} ({release_id})")
        self._names = there | set(additions)
        if _FACTS in additions:
            self._seed = seed

    def _look_again(self) -> set[str]:
        """What is there now, after whatever others did since this vault was opened."""
        if not self.exists:
            self.prepare()
        return self._names_now()

    def _names_now(self) -> set[str]:
        there = set(self._store.names())
        if not self.exists and _SALT in there:
            raise StorageError(
                f"another run began the state at {self._store.place} at the same time: run the "
                "same command again"
            )
        return there

    def _facts(self, seed: Seed) -> dict[str, Content]:
        named = {"seed": seed.digits, "typed": seed.typed}
        facts = {"format": _FORMAT, "target": self._target} | named
        return self._sealed(_FACTS, json.dumps(facts).encode())

    def _entry(self, name: str) -> LedgerEntry:
        return LedgerEntry.from_bytes(self._read(name), f"{self._store.place}/{name}")

    def _changed(self, name: str, data: bytes, there: set[str]) -> dict[str, Content]:
        """The sealed file to add, or nothing where the same is kept."""
        same = name in there and self._read(name) == data
        return {} if same else self._sealed(name, data)

    @contextmanager
    def _sealed_states(
        self, states: Mapping[str, Path], there: set[str]
    ) -> Iterator[dict[str, Content]]:
        """The files to add for the States that are not kept, one in memory at a time."""
        folders = {k: f for k, f in states.items() if _listing_name(k) not in there}
        additions: dict[str, Content] = {}
        made = [folder.with_name(f"{folder.name}.sealed") for folder in folders.values()]
        try:
            for (key, folder), sealed in zip(folders.items(), made, strict=True):
                additions |= self._sealed_state(key, folder, sealed)
            yield additions
        finally:
            for sealed in made:
                shutil.rmtree(sealed, ignore_errors=True)

    def _sealed_state(self, key: str, folder: Path, sealed: Path) -> dict[str, Content]:
        files = sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors")
        with whole_folder(sealed, "make room") as making:
            for file in files:
                name = _state_name(key, file)
                data = (folder / file).read_bytes()
                write_owned(making / file, self._unlocked().seal(name, data))
        additions: dict[str, Content] = {_state_name(key, file): sealed / file for file in files}
        return additions | self._sealed(_listing_name(key), json.dumps(files).encode())

    def _sealed(self, name: str, data: bytes) -> dict[str, Content]:
        return {name: self._unlocked().seal(name, data)}

    def _read(self, name: str) -> bytes:
        data = self._unlocked().unseal(name, self._store.read(name))
        if data is None:
            raise StorageError(
                f"{self._store.place}/{name} was damaged or changed: restore it from an earlier "
                "version"
            )
        return data

    def _unlocked(self) -> _Keys:
        if self._keys is None:
            self._keys = _Keys.stretched(self._owner.text(), secrets.token_bytes(16))
        return self._keys

    def _unlock(self) -> None:
        place = self._store.place
        if not self._owner.is_there:
            raise InputError(
                f"the state at {place} has a key that is not here: set {KEY_VARIABLE} to it, or "
                f"put it into {self._owner.file}; where the dataset had another name or place "
                "before, the file that was made with it lies beside that one"
            )
        self._keys = _Keys.stretched(self._owner.text(), self._store.read(_SALT))
        data = self._keys.unseal(_FACTS, self._store.read(_FACTS))
        if data is None:
            raise InputError(
                f"the state at {place} does not open with {self._owner}: set {KEY_VARIABLE} to "
                "the key it was made with"
            )
        facts = json.loads(data)
        if facts["format"] != _FORMAT:
            raise InputError(f"the state at {place} is of a newer version of this tool: upgrade it")
        self._begun_for = facts["target"]
        self._seed = Seed(facts["seed"], facts.get("typed", False))
