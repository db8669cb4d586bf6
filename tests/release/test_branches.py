"""A dataset of the Hub with releases on two branches, which share one state."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, put_rows, released_rows
from vaults import keep, open_vault

from release.store import FolderStore
from release.vault import KEY_VARIABLE
from tests.hub.server import Hub


@pytest.mark.slow
def test_each_branch_can_be_added_to_however_the_other_grows(
    hub: Hub, run: Run, digits: Digits, tmp_path: Path
) -> None:
    pushed = ("push", SOURCE, *CHEAP, "--incremental-method", "random-noise")
    dev = ("--revision", "dev")
    for number, branch in enumerate([(), dev, (), (), dev]):
        rows = slice(40 * number, 40 * number + 40)
        put_rows(hub, SOURCE, f"data/train-{number}.parquet", digits, rows, tmp_path)
        result = run(*pushed, "--workdir", tmp_path / f"work{len(branch)}", *branch)
        assert result.exit_code == 0, result.stderr
    assert (released_rows(hub, TARGET), released_rows(hub, TARGET, "dev")) == (160, 200)
    kept = [path for path in hub.repo(STATE).files("main") if path.startswith("ledger/")]
    assert sum("dev-r0" in path for path in kept) == 2
    assert len(kept) == 5


def test_a_release_of_another_branch_is_called_by_its_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sixteen letters!")
    store = FolderStore(tmp_path / "state")
    keep(open_vault(store), 1, "a1")
    keep(open_vault(store), 2, "b2", release="v-2/x-r0002", confirmed=True)
    vault = open_vault(store)
    keep(vault, 2, "c2", confirmed=True)
    assert len(vault.ledger(["a1", "b2"]).rows) == len(vault.ledger(["a1", "c2"]).rows) == 4
    assert [kept.release for kept in vault.unseen(["a1", "c2"])] == ["v-2/x-r0002"]
