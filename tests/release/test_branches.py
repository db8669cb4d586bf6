"""A dataset of the Hub with releases on two branches, which share one state."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, put_rows, released_rows
from vaults import keep, open_vault

from release.errors import InputError
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


def test_what_never_came_to_be_is_dropped_by_its_own_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sixteen letters!")
    store = FolderStore(tmp_path / "state")
    keep(open_vault(store), 1, "a1")
    keep(open_vault(store), 2, "b2", release="v-2/x-r0002", confirmed={"v-2/x-r0001": "a1"})
    keep(open_vault(store), 2, "d2", release="v-2/x-r0002", confirmed={"v-2/x-r0001": "a1"})
    for number, id in ((2, "c2"), (3, "c3")):
        keep(open_vault(store), number, id, confirmed={"r0001": "a1", "r0002": "c2"})
    assert len(open_vault(store).ledger(["a1", "b2"]).rows) == 4
    assert len(open_vault(store).ledger(["a1", "d2"]).rows) == 4
    seen = {"v-2/x-r0001": "a1", "v-2/x-r0002": "d2"}
    keep(open_vault(store), 3, "d3", release="v-2/x-r0003", confirmed=seen)
    assert len(open_vault(store).ledger(["a1", "d2", "d3"]).rows) == 6
    assert len(open_vault(store).ledger(["a1", "c2", "c3"]).rows) == 6
    with pytest.raises(InputError, match=r"does not know release 2 of 2 \(b2\)"):
        open_vault(store).ledger(["a1", "b2"])
