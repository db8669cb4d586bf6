"""The key of a vault: typed, made when it is first needed, or missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from vaults import KEY, SEED, keep, open_vault

from release.errors import InputError
from release.store import FolderStore
from release.vault import KEY_VARIABLE


@pytest.fixture(autouse=True)
def _typed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "state")


@pytest.fixture
def key(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key is kept that nobody typed."""
    monkeypatch.delenv(KEY_VARIABLE)
    return store.path.with_name("keys") / "key"


def test_another_key_does_not_open_it(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(open_vault(store))
    monkeypatch.setenv(KEY_VARIABLE, "another sixteen letters")
    with pytest.raises(InputError, match=f"does not open with {KEY_VARIABLE}: set"):
        open_vault(store)


@pytest.mark.parametrize("key", ["", "fifteen letters", " \n" * 10])
def test_a_short_key_is_refused(
    key: str, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(InputError, match=f"{KEY_VARIABLE} has fewer than 16 characters"):
        open_vault(store)


def test_a_key_is_made_when_first_needed_and_told_of_once(store: FolderStore, key: Path) -> None:
    told: list[str] = []
    vault = open_vault(store, tell=told.append)
    assert not key.parent.exists()
    keep(vault)
    keep(open_vault(store, tell=told.append), 2, "b2")
    assert len(told) == 1
    assert str(key) in told[0]
    assert "keep a copy" in told[0]
    assert KEY_VARIABLE in told[0]
    assert key.read_text().strip() not in told[0]
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert list(key.parent.iterdir()) == [key]
    assert len(bytes.fromhex(key.read_text())) == 32


def test_a_key_file_s_text_opens_it_from_the_environment(
    store: FolderStore, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(open_vault(store))
    monkeypatch.setenv(KEY_VARIABLE, key.read_text())
    key.unlink()
    assert open_vault(store).seed() == SEED


def test_a_key_made_by_another_process_meanwhile_is_taken(
    store: FolderStore, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists, told = Path.exists, list[str]()

    def made_just_after(self: Path) -> bool:
        found = exists(self)
        if self == key and not found:
            key.parent.mkdir(exist_ok=True)
            key.write_text("ab" * 32)
        return found

    monkeypatch.setattr(Path, "exists", made_just_after)
    keep(open_vault(store, tell=told.append))
    assert key.read_text() == "ab" * 32
    assert not told
    assert list(key.parent.iterdir()) == [key]


def test_a_missing_key_is_asked_for_and_not_made(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(open_vault(store))
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(InputError, match=f"key that is not here: set {KEY_VARIABLE}"):
        open_vault(store)
    assert not store.path.with_name("keys").exists()


def test_a_damaged_key_file_is_named(store: FolderStore, key: Path) -> None:
    key.parent.mkdir()
    key.write_text("abc")
    with pytest.raises(InputError, match="key holds no key"):
        keep(open_vault(store))
    assert not store.names()


def test_a_key_that_cannot_be_kept_is_asked_for(store: FolderStore, key: Path) -> None:
    key.parent.touch()
    with pytest.raises(InputError, match=f"could be kept in .*keys/key.*: set {KEY_VARIABLE}"):
        open_vault(store).prepare()


def test_preparing_makes_its_place_and_its_key(store: FolderStore, key: Path) -> None:
    vault = open_vault(store)
    vault.prepare()
    assert store.path.is_dir()
    assert key.exists()
    assert not vault.exists
    assert not store.names()
