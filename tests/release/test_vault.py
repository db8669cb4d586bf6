"""What later releases need is kept whole, opens for its owner alone, and shows any change."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from vaults import DIGESTS, KEY, SEED, keep, open_vault

from release import state
from release.errors import InputError, StorageError
from release.store import FolderStore
from release.vault import KEY_VARIABLE
from release.workdir import Seed

WEIGHTS = torch.arange(500, dtype=torch.float32) + 0.125
STATE = {
    "checkpoint-00/head.weight": WEIGHTS,
    "checkpoint-01/head.weight": -WEIGHTS,
    "centres": torch.ones(3, 4),
}


@pytest.fixture(autouse=True)
def _typed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "state")


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """A State as fit leaves it."""
    state.save(tmp_path / "work/fitted", STATE)
    return tmp_path / "work/fitted"


def _bytes(store: FolderStore) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


def _file(store: FolderStore, name: str) -> Path:
    """Where the store keeps a name, to be damaged."""
    (path,) = [path for path in store.path.rglob(Path(name).name) if str(path).endswith(name)]
    return path


def test_what_is_kept_is_found_again(store: FolderStore, fitted: Path, tmp_path: Path) -> None:
    keep(open_vault(store), states={"k1": fitted})
    vault = open_vault(store)
    assert vault.exists
    assert vault.seed() == SEED
    assert vault.has_state("k1")
    assert not vault.has_state("k2")
    vault.load_state("k1", tmp_path / "loaded")
    loaded = state.load(tmp_path / "loaded")
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)
    compared = vault.ledger(["a1"]).compare(vault.marks(DIGESTS[:3]))
    assert compared.old.tolist() == [[0, 0], [1, 1]]
    assert compared.new.tolist() == [2]


def test_nothing_is_written_before_the_first_change(store: FolderStore) -> None:
    vault = open_vault(store)
    vault.marks(DIGESTS)
    assert not vault.exists
    assert vault.seed() is None
    assert not vault.has_state("k1")
    assert not len(vault.ledger([]).rows)
    assert not store.path.exists()


def test_a_vault_knows_at_once_what_it_kept(store: FolderStore, fitted: Path) -> None:
    vault = open_vault(store)
    keep(vault, states={"k1": fitted})
    assert vault.exists
    assert vault.seed() == SEED
    assert vault.has_state("k1")
    assert vault.ledger(["a1"]).rows.tolist() == [0, 1]


def test_a_seed_of_which_nothing_is_released_gives_way(store: FolderStore) -> None:
    keep(open_vault(store))
    vault, typed = open_vault(store), Seed("abcd" * 16, typed=True)
    keep(vault, seed=typed)
    assert vault.seed() == open_vault(store).seed() == typed


def test_the_ledger_has_the_releases_asked_for_in_their_order(store: FolderStore) -> None:
    for number, id in enumerate(("a1", "b2", "c3"), 1):
        keep(open_vault(store), number, id)
    assert open_vault(store).ledger(["c3", "a1"]).rows.tolist() == [4, 5, 0, 1]


def test_a_loaded_state_is_for_its_owner_alone(
    store: FolderStore, fitted: Path, tmp_path: Path
) -> None:
    keep(open_vault(store), states={"k1": fitted})
    folder = tmp_path / "loaded"
    open_vault(store).load_state("k1", folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 3


def test_a_state_without_tensors_is_kept_too(store: FolderStore, tmp_path: Path) -> None:
    state.save(tmp_path / "empty", {})
    keep(open_vault(store), states={"k1": tmp_path / "empty"})
    vault = open_vault(store)
    assert vault.has_state("k1")
    vault.load_state("k1", tmp_path / "loaded")
    assert state.load(tmp_path / "loaded") == {}


def test_a_seed_and_a_state_that_were_kept_stay(
    store: FolderStore, fitted: Path, tmp_path: Path
) -> None:
    keep(open_vault(store), states={"k1": fitted})
    before = _bytes(store)
    state.save(tmp_path / "other", {"other": torch.zeros(1)})
    other, states = Seed("0" * 64, typed=False), {"k1": tmp_path / "other"}
    keep(open_vault(store), 2, "b2", seed=other, states=states, confirmed=True)
    assert open_vault(store).seed() == SEED
    after = _bytes(store)
    assert after.keys() - before.keys() == {"ledger/r0002-b2.enc"}
    assert before.items() <= after.items()


def test_keeping_a_release_again_changes_nothing(store: FolderStore, fitted: Path) -> None:
    vault = open_vault(store)
    keep(vault, states={"k1": fitted})
    before = _bytes(store)
    for opened in (vault, open_vault(store)):
        keep(opened, states={"k1": fitted})
        assert _bytes(store) == before


def test_a_release_that_readers_do_not_see_is_kept_too(store: FolderStore) -> None:
    """It may be a pull request, or have been seen before it was withdrawn."""
    keep(open_vault(store))
    one, other = open_vault(store), open_vault(store)
    keep(one, 2, "pending", confirmed=True)
    keep(other, 2, "b2", confirmed=True)
    vault = open_vault(store)
    keep(vault, 3, "c3", confirmed=True)
    assert vault.ledger(["a1", "b2", "c3"]).rows.tolist() == [0, 1, 2, 3, 4, 5]
    (kept,) = vault.unseen(["a1", "b2", "c3"])
    assert (kept.release, kept.entry.rows.tolist()) == ("r0002", [2, 3])
    assert kept.place == f"ledger/r0002-pending.enc of the state at {store.place}"


def test_what_another_run_kept_meanwhile_is_seen(store: FolderStore) -> None:
    keep(open_vault(store))
    vault = open_vault(store)
    assert not list(vault.unseen(["a1"]))
    keep(open_vault(store), 2, "b2")
    assert [kept.release for kept in vault.unseen(["a1"])] == ["r0002"]
    assert not list(vault.unseen(["a1", "b2"]))


def test_a_state_is_told_from_another(store: FolderStore, fitted: Path, tmp_path: Path) -> None:
    keep(open_vault(store), states={"k1": fitted})
    vault = open_vault(store)
    assert vault.is_state("k1", fitted)
    state.save(tmp_path / "other", STATE | {"centres": torch.zeros(3, 4)})
    assert not vault.is_state("k1", tmp_path / "other")
    assert not vault.is_state("k1", tmp_path / "nowhere")


def test_a_release_that_is_not_kept_is_named(store: FolderStore) -> None:
    keep(open_vault(store))
    with pytest.raises(InputError, match=r"does not know release 2 of 3 \(b2\) of org/name.*state"):
        open_vault(store).ledger(["a1", "b2", "c3"])


def test_of_two_runs_that_begin_a_vault_one_does(store: FolderStore) -> None:
    one, other = open_vault(store), open_vault(store)
    keep(one)
    for meets in (lambda: keep(other, 1, "b2"), lambda: list(other.unseen([]))):
        with pytest.raises(StorageError, match=r"another run began.*run the same command again"):
            meets()
    assert open_vault(store).ledger(["a1"]).rows.tolist() == [0, 1]


def test_no_file_shows_what_is_kept(store: FolderStore, fitted: Path) -> None:
    keep(open_vault(store), states={"k1": fitted})
    secrets = [
        *(SEED.digits.encode(), bytes.fromhex(SEED.digits), KEY.encode(), b"org/name"),
        *(WEIGHTS.numpy().tobytes()[at : at + 16] for at in range(0, 2000, 16)),
        *(row.tobytes() for row in DIGESTS[:2]),
        *(mark.tobytes() for mark in open_vault(store).marks(DIGESTS[:2])),
    ]
    for name, data in _bytes(store).items():
        assert not any(secret in name.encode() + data for secret in secrets), name


def test_the_same_thing_never_looks_the_same(store: FolderStore, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    for place in (store, other):
        keep(open_vault(place))
    one, two = _bytes(store), _bytes(other)
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)
    assert not np.array_equal(open_vault(store).marks(DIGESTS), open_vault(other).marks(DIGESTS))


def test_no_two_files_are_sealed_with_the_same_nonce(store: FolderStore, fitted: Path) -> None:
    keep(open_vault(store), states={"k1": fitted})
    keep(open_vault(store), 2, "b2")
    starts = [data[:12] for name, data in _bytes(store).items() if name.endswith(".enc")]
    assert len(starts) == 7
    assert len(set(starts)) == 7


def test_another_target_is_refused(store: FolderStore) -> None:
    keep(open_vault(store))
    open_vault(store).demand_own([])
    for ids in ([], ["b2"], ["a1", "b2"]):
        with pytest.raises(InputError, match=r"belongs to org/name, not to org/other.*--state"):
            open_vault(store, "org/other").demand_own(ids)
    open_vault(store, "org/other").demand_own(["a1"])


def test_a_copy_of_a_dataset_and_the_dataset_both_grow(store: FolderStore) -> None:
    """Each knows what the other released, since one picture may be in both."""
    keep(open_vault(store))
    ids = {"org/name": ["a1"], "org/copy": ["a1"]}
    for number in (2, 3):
        for target, seen in ids.items():
            keep(open_vault(store, target), number, f"{target[-4:]}{number}", confirmed=True)
            seen.append(f"{target[-4:]}{number}")
    for target, seen in ids.items():
        vault = open_vault(store, target)
        assert len(vault.ledger(seen).rows) == 6
        assert [kept.release for kept in vault.unseen(seen)] == ["r0002", "r0003"]


@pytest.mark.parametrize("at", [0, 11, 12, 40, -1])
def test_a_changed_byte_is_noticed(
    at: int, store: FolderStore, fitted: Path, tmp_path: Path
) -> None:
    keep(open_vault(store), states={"k1": fitted})
    path = _file(store, "checkpoint-00.safetensors.enc")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"k1/checkpoint-00\.safetensors\.enc was damaged"):
        open_vault(store).load_state("k1", tmp_path / "loaded")
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("length", [0, 5, 12, 30, -1])
def test_a_shortened_file_is_noticed(length: int, store: FolderStore) -> None:
    keep(open_vault(store))
    path = _file(store, "ledger/r0001-a1.enc")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match=r"ledger/r0001-a1\.enc was damaged or changed"):
        open_vault(store).ledger(["a1"])


def test_a_file_in_another_ones_place_is_noticed(
    store: FolderStore, fitted: Path, tmp_path: Path
) -> None:
    keep(open_vault(store), states={"k1": fitted})
    keep(open_vault(store), 2, "b2")
    for name, other in (
        ("checkpoint-00.safetensors.enc", "checkpoint-01.safetensors.enc"),
        ("ledger/r0002-b2.enc", "ledger/r0001-a1.enc"),
    ):
        shutil.copy(_file(store, name), _file(store, other))
    with pytest.raises(StorageError, match="checkpoint-01"):
        open_vault(store).load_state("k1", tmp_path / "loaded")
    with pytest.raises(StorageError, match="r0001-a1"):
        open_vault(store).ledger(["a1", "b2"])


def test_a_missing_file_of_a_state_is_noticed(
    store: FolderStore, fitted: Path, tmp_path: Path
) -> None:
    keep(open_vault(store), states={"k1": fitted})
    _file(store, "checkpoint-01.safetensors.enc").unlink()
    with pytest.raises(StorageError, match="checkpoint-01"):
        open_vault(store).load_state("k1", tmp_path / "loaded")


def test_a_lost_salt_is_noticed(store: FolderStore) -> None:
    keep(open_vault(store))
    _file(store, "salt").unlink()
    with pytest.raises(StorageError, match="has lost its salt"):
        open_vault(store)


def test_a_change_that_fails_keeps_nothing(
    store: FolderStore, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise StorageError("full")

    vault = open_vault(store)
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "change", fails)
        with pytest.raises(StorageError, match="full"):
            keep(vault, states={"k1": fitted})
    assert not vault.exists
    assert not vault.has_state("k1")
    keep(vault, states={"k1": fitted})
    assert open_vault(store).has_state("k1")
    assert list(fitted.parent.iterdir()) == [fitted]
