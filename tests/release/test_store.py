"""A store changes all at once or not at all, and nobody but its owner reads it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from release.errors import HubRefused, InputError, StorageError
from release.hub import HubRepo
from release.ledger import LedgerEntry
from release.store import FolderStore, HubStore, Store, store_of
from release.vault import Vault
from release.workdir import Seed
from tests.hub.server import Hub

ID = "org/name-state"


def _on_hub() -> HubStore:
    return HubStore(HubRepo(ID, patience=1.0))


@pytest.fixture(params=["folder", "hub"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Each call gives the same place as another run would open it."""
    if request.param == "folder":
        return lambda: FolderStore(tmp_path / "state")
    request.getfixturevalue("hub")
    return _on_hub


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    """A folder that holds `a` and `b/c`."""
    store = FolderStore(tmp_path / "state")
    store.prepare()
    store.change({"a": b"1", "b/c": b"2"}, [], "First")
    return store


@pytest.fixture
def kept(hub: Hub) -> HubStore:
    """A private repository that holds `a` and `b/c`."""
    store = _on_hub()
    store.prepare()
    store.change({"a": b"1", "b/c": b"2"}, [], "First")
    return store


def _held(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


def _commits(hub: Hub) -> list[str]:
    return [commit.title for commit in hub.repo(ID).commits()]


def test_what_changed_is_there_for_the_next_run(again: Callable[[], Store], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    store = again()
    store.prepare()
    store.change({"a": b"1", "b/c": b"2", "b/d": tmp_path / "file"}, [], "First")
    assert _held(again()) == {"a": b"1", "b/c": b"2", "b/d": b"from a file"}
    store.change({"a": b"3", "e": b"4"}, ["b/c", "never there"], "Second")
    assert _held(again()) == {"a": b"3", "b/d": b"from a file", "e": b"4"}
    assert (store.read("a"), store.read("e")) == (b"3", b"4")
    assert (tmp_path / "file").read_bytes() == b"from a file"


def test_a_place_that_does_not_exist_holds_nothing(again: Callable[[], Store]) -> None:
    store = again()
    store.refuse()
    assert store.names() == []
    with pytest.raises(StorageError, match="has no a any more"):
        store.read("a")


def test_a_place_that_was_prepared_is_taken_as_it_is(again: Callable[[], Store]) -> None:
    for _ in range(2):
        again().refuse()
        again().prepare()
    assert again().names() == []


def test_a_name_that_another_run_wrote_meanwhile_is_not_overwritten(
    again: Callable[[], Store],
) -> None:
    one, other = again(), again()
    for store in (one, other):
        store.prepare()
        assert store.names() == []
    one.change({"salt": b"one"}, [], "One")
    with pytest.raises(StorageError, match=r"another run wrote salt to .*run the same command"):
        other.change({"salt": b"other", "more": b"x"}, [], "Other")
    assert _held(again()) == {"salt": b"one"}


def test_different_names_of_two_runs_are_both_there(again: Callable[[], Store]) -> None:
    one, other = again(), again()
    for store in (one, other):
        store.prepare()
        store.names()
    one.change({"1": b"one"}, [], "One")
    other.change({"2": b"other"}, [], "Other")
    assert _held(again()) == {"1": b"one", "2": b"other"}


def test_a_folder_is_its_owners_alone(folder: FolderStore) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    inside = list(folder.path.rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in inside if path.is_dir()} == {0o700}
    holding = [path for path in inside if path.is_file() and path.name != "lock"]
    assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}
    assert len(holding) == 2


def test_a_full_disk_leaves_a_folder_as_it_was(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left.*make room there, then run"):
            folder.change({"a": b"3", "d": b"4"}, ["b/c"], "Second")
    assert _held(FolderStore(folder.path)) == {"a": b"1", "b/c": b"2"}
    assert sorted(os.listdir(folder.path)) == ["1", "lock"]


@pytest.mark.parametrize("before", [True, False])
def test_a_change_killed_at_its_rename_is_done_or_not(
    before: bool, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    rename = Path.rename

    def killed(self: Path, to: Path) -> Path:
        if not before:
            rename(self, to)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            folder.change({"a": b"3"}, ["b/c"], "Second")
    later = FolderStore(folder.path)
    later.refuse()
    assert _held(later) == ({"a": b"1", "b/c": b"2"} if before else {"a": b"3"})
    later.change({"d": b"4"}, [], "Third")
    assert later.read("d") == b"4"
    assert len(os.listdir(folder.path)) == 2


def test_a_file_is_no_state_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file: name a folder"):
        FolderStore(tmp_path / "file").refuse()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(InputError, match=r"holds other things \(photo\.png\)"):
        FolderStore(tmp_path).refuse()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: name another folder"):
        FolderStore(tmp_path / "file/state").refuse()
    with pytest.raises(StorageError, match=r"could not be written.*choose another --state"):
        FolderStore(tmp_path / "file/state").prepare()


def test_nothing_is_written_while_refusing(hub: Hub, tmp_path: Path) -> None:
    FolderStore(tmp_path / "state").refuse()
    assert not (tmp_path / "state").exists()
    _on_hub().refuse()
    assert not hub.requests("create")


def test_a_repository_is_made_private(hub: Hub, kept: HubStore) -> None:
    assert hub.repo(ID).private
    assert hub.repo(ID).files() == [".gitattributes", "a", "b/c"]
    assert _commits(hub) == ["First", "initial commit"]


def test_a_public_repository_is_refused(hub: Hub) -> None:
    hub.add_repo(ID, private=False)
    for demand in (_on_hub().refuse, _on_hub().prepare):
        with pytest.raises(HubRefused, match=f"{ID} is public.*make it private.*--state"):
            demand()


def test_a_repository_that_became_public_gets_nothing(hub: Hub, kept: HubStore) -> None:
    hub.repo(ID).private = False
    asked = len(hub.log)
    with pytest.raises(HubRefused, match="is public"):
        kept.change({"secret": b"s" * 100}, [], "Second")
    assert _commits(hub) == ["First", "initial commit"]
    assert not {"commit", "preupload", "lfs-batch"} & {seen.route for seen in hub.log[asked:]}


def test_a_repository_that_became_public_before_the_second_attempt_gets_nothing(
    hub: Hub, kept: HubStore
) -> None:
    def publish() -> None:
        hub.repo(ID).put({"README.md": b"theirs"}, "Theirs")
        hub.repo(ID).private = False

    hub.faults.meanwhile("commit", publish)
    with pytest.raises(HubRefused, match="is public"):
        kept.change({"secret": b"s" * 100}, [], "Second")
    assert _commits(hub) == ["Theirs", "First", "initial commit"]


def test_a_token_that_may_not_write_is_refused(
    hub: Hub, kept: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_token("alice", "hf_reads", role="read")
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    with pytest.raises(HubRefused, match=ID):
        _on_hub().refuse()


def test_a_lost_race_is_run_again_on_the_new_head(hub: Hub, kept: HubStore) -> None:
    hub.faults.meanwhile("commit", lambda: hub.repo(ID).put({"b/c": None}, "Theirs"))
    kept.change({"d": b"4"}, ["b/c"], "Second")
    assert _commits(hub) == ["Second", "Theirs", "First", "initial commit"]
    assert _held(_on_hub()) == {"a": b"1", "d": b"4"}


def test_a_lost_race_for_one_name_is_given_up(hub: Hub, kept: HubStore) -> None:
    hub.faults.meanwhile("commit", lambda: hub.repo(ID).put({"d": b"theirs"}, "Theirs"))
    with pytest.raises(StorageError, match="another run wrote d"):
        kept.change({"d": b"4"}, [], "Second")
    assert _held(_on_hub())["d"] == b"theirs"


def test_a_repository_that_never_holds_still_is_given_up(hub: Hub, kept: HubStore) -> None:
    def edit() -> None:
        hub.repo(ID).put({"README.md": os.urandom(8)}, "Theirs")

    for attempt in range(1, 10):
        hub.faults.meanwhile("commit", edit, nth=attempt)
    with pytest.raises(HubRefused, match="changed by others 5 times"):
        kept.change({"d": b"4"}, [], "Second")
    assert "Second" not in _commits(hub)


def test_a_run_reads_one_commit_until_it_looks_again(hub: Hub, kept: HubStore) -> None:
    kept.names()
    hub.repo(ID).put({"a": b"theirs"})
    assert kept.read("a") == b"1"
    kept.names()
    assert kept.read("a") == b"theirs"


def test_large_files_are_kept(hub: Hub, kept: HubStore, tmp_path: Path) -> None:
    hub.lfs_threshold = 1000
    (tmp_path / "file").write_bytes(bytes(range(256)) * 8)
    kept.change({"large": tmp_path / "file"}, [], "Second")
    assert _on_hub_read("large") == bytes(range(256)) * 8
    assert hub.uploaded.total() == 2048


def _on_hub_read(name: str) -> bytes:
    store = _on_hub()
    store.names()
    return store.read(name)


def test_a_vault_lives_on_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numpy import arange, uint8

    monkeypatch.setenv("PROTECT_RELEASE_KEY", "k" * 16)
    digests = arange(96, dtype=uint8).reshape(3, 32)
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted/net.safetensors").write_bytes(b"weights" * 100)

    def opened() -> Vault:
        key = tmp_path / "key"
        return Vault.open(_on_hub(), target="org/name", key_file=key, tell=lambda line: None)

    for number, id in enumerate(("a1", "b2")):
        vault = opened()
        vault.keep(
            seed=Seed("5eed" * 16, typed=False),
            states={"k1": tmp_path / "fitted"},
            release=f"r{number + 1:04d}",
            release_id=id,
            rows=LedgerEntry.of(number, vault.marks(digests[number : number + 1])),
            confirmed=bool(number),
        )
    assert _commits(hub) == ["Keep r0002 (b2)", "Keep r0001 (a1)", "initial commit"]
    compared = opened().ledger(["a1", "b2"]).compare(opened().marks(digests))
    assert compared.old.tolist() == [[0, 0], [1, 1]]
    opened().load_state("k1", tmp_path / "loaded")
    assert (tmp_path / "loaded/net.safetensors").read_bytes() == b"weights" * 100
    stored = [hub.repo(ID).read("main", name) for name in hub.repo(ID).files()]
    assert not any(b"weights" in data for data in stored)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (None, "org/name-state"),
        ("org/kept", "org/kept"),
        ("hf://datasets/org/kept", "org/kept"),
        ("./org/kept", "{here}/org/kept"),
        ("kept", "{here}/kept"),
        ("/kept", "/kept"),
    ],
)
def test_a_store_is_named(
    text: str | None, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = store_of(
        text, target="org/name", is_hub=True, default_folder=tmp_path / "mine", patience=1.0
    )
    assert store.place == place.format(here=tmp_path)
    assert isinstance(store, HubStore if "org" in place[:3] else FolderStore)


def test_a_local_target_has_its_state_in_a_folder_of_the_owner(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    store = store_of(
        None, target=str(tmp_path / "out"), is_hub=False, default_folder=mine, patience=1.0
    )
    assert store.place == str(mine)


@pytest.mark.parametrize(
    ("text", "is_hub", "says"),
    [
        ("org/name", True, "is the target"),
        ("hf://datasets/org/name", True, "is the target"),
        ("hf://models/org/kept", True, "is not hf://datasets/org/name"),
        ("hf://datasets/kept", True, "is not hf://datasets/org/name"),
        ("./out", False, "lies in the target"),
        ("./out/state", False, "lies in the target"),
    ],
)
def test_a_store_that_readers_would_get_is_refused(
    text: str, is_hub: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = "org/name" if is_hub else str(tmp_path / "out")
    with pytest.raises(InputError, match=says):
        store_of(text, target=target, is_hub=is_hub, default_folder=tmp_path, patience=1.0)
