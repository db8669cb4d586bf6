"""From the Hub to the Hub and back, by the real clients: two releases, and what readers get."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, of_four, put_rows, released_rows
from typer.testing import Result

from tests.hub.server import Hub

FIRST, ALL = 40, 60
THANKS = "\n## Thanks\n\nTo the photographers.\n"


@dataclass(frozen=True)
class Pushed:
    """Two releases on a Hub: what was said, and the head of the target after the first."""

    hub: Hub
    workdir: Path
    arguments: tuple[object, ...]
    first: Result
    second: Result
    head: str


@pytest.fixture(scope="module")
def pushed(
    run: Run, _hub: Hub, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pushed]:
    """40 rows are pushed from a private dataset, the card is edited by hand, and 20 rows added and
    pushed, while somebody edits the card once more."""
    home = tmp_path_factory.mktemp("pushed")
    _hub.reset()
    _hub.add_user("alice", "hf_alice")
    arguments = (
        *("push", SOURCE, "--workdir", home / "work", *CHEAP, "--rows-per-shard", "8"),
        *("--format", "parquet,webdataset", "--incremental-method", "random-noise", "--json"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_alice")
        put_rows(_hub, SOURCE, "data/train-0.parquet", digits, slice(0, FIRST), home)
        first = run(*arguments)
        assert first.exit_code == 0, first.output
        repo = _hub.repo(TARGET)
        head = repo.commits("main")[0].id
        _append(repo, THANKS)
        put_rows(_hub, SOURCE, "data/train-1.parquet", digits, slice(FIRST, ALL), home)
        # The first commit of a push is that of the state.
        _hub.faults.meanwhile("commit", lambda: _append(repo, "And their mothers.\n"), nth=2)
        second = run(*arguments)
        assert second.exit_code == 0, second.output
        yield Pushed(_hub, home / "work", arguments, first, second, head)


def _append(repo: Any, text: str) -> None:
    repo.put({"README.md": repo.read("main", "README.md") + text.encode()})


def test_a_release_is_private_tagged_and_one_commit(pushed: Pushed) -> None:
    repo, state = pushed.hub.repo(TARGET), pushed.hub.repo(STATE)
    assert (repo.private, state.private) == (True, True)
    first, second = (json.loads(told.stdout) for told in (pushed.first, pushed.second))
    assert (first["changed"], first["release"], first["rows"]) == (True, "r0001", FIRST)
    assert (second["release"], second["rows"], second["total"]) == ("r0002", ALL - FIRST, ALL)
    commits = repo.commits("main")
    titles = [commit.title for commit in commits]
    assert titles[:3] == ["protect-release r0002", "By hand", "By hand"]
    assert titles[3] == "protect-release r0001"
    assert len(titles) == 5  # the oldest is the Hub's own
    assert repo.tags == {"r0001": pushed.head, "r0002": commits[0].id}
    assert first["published"].endswith(f"/commit/{pushed.head}")


def test_shards_are_sent_before_the_release_is_made(pushed: Pushed) -> None:
    log = pushed.hub.log
    first_commit = next(
        at for at, r in enumerate(log) if r.route == "commit" and f"{TARGET}/" in r.path
    )
    sent = [at for at, r in enumerate(log) if r.route == "lfs-upload"]
    assert len([at for at in sent if at < first_commit]) >= 2 * FIRST / 8


def test_every_request_names_this_program(pushed: Pushed) -> None:
    agents = [r.user_agent for r in pushed.hub.requests("commit")]
    assert agents
    assert all(agent.startswith("protect-release/") for agent in agents)


@pytest.mark.parametrize(("revision", "count"), [("main", ALL), ("r0001", FIRST), ("r0002", ALL)])
def test_main_has_all_rows_and_a_tag_only_its_own(
    pushed: Pushed, digits: Digits, revision: str, count: int
) -> None:
    from datasets import load_dataset

    loaded = load_dataset(TARGET, split="train", revision=revision)
    streamed = load_dataset(TARGET, split="train", revision=revision, streaming=True)
    assert len(loaded) == count == sum(1 for _ in streamed)
    _demand_rows(loaded, digits, count)


def _demand_rows(loaded: Any, digits: Digits, count: int) -> None:
    """The first digits, in order, each moved a little."""
    pixels, labels = of_four(digits)
    assert loaded["label"] == labels[:count].tolist()
    moved = np.stack([np.asarray(row["image"]).astype(int) for row in loaded])
    assert 0 < np.abs(moved - pixels[:count]).max() <= 8


# webdataset leaves the last tar open for the collector to close.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_tars_from_the_hub(pushed: Pushed, digits: Digits) -> None:
    import webdataset

    tars = [path for path in pushed.hub.repo(TARGET).files("main") if path.endswith(".tar")]
    urls = [f"hf://datasets/{TARGET}/{path}" for path in sorted(tars)]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["cls"] for sample in samples] == of_four(digits)[1][:ALL].tolist()


def test_nothing_new_is_no_commit(run: Run, pushed: Pushed) -> None:
    heads = [pushed.hub.repo(name).commits("main")[0].id for name in (TARGET, STATE)]
    result = run(*pushed.arguments)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"changed": False})
    assert heads == [pushed.hub.repo(name).commits("main")[0].id for name in (TARGET, STATE)]


def test_what_somebody_wrote_on_the_card_stays(pushed: Pushed) -> None:
    card = pushed.hub.repo(TARGET).read("main", "README.md").decode()
    assert f"{THANKS}And their mothers.\n" in card
    assert "r0002" in card
    assert card.count("## Releases") == 1


def test_a_release_on_the_hub_is_checked_and_its_releases_shown(run: Run, pushed: Pushed) -> None:
    result = run("check", TARGET, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == ALL == released_rows(pushed.hub, TARGET)
    told = json.loads(run("status", TARGET, "--json").stdout)
    assert [(release["release"], release["total"]) for release in told] == [
        ("r0001", FIRST),
        ("r0002", ALL),
    ]


def test_an_older_release_is_checked_by_its_tag(run: Run, pushed: Pushed) -> None:
    result = run("check", f"{TARGET}@r0001", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == FIRST
    gone = run("check", f"{TARGET}@r0009")
    assert gone.exit_code == 2
    assert "no revision 'r0009'" in gone.stderr


def test_what_was_not_verified_is_not_opened_to_everybody(run: Run, pushed: Pushed) -> None:
    result = run("publish", TARGET, "--public")
    assert result.exit_code == 2
    assert "never verified" in result.stderr
    assert pushed.hub.repo(TARGET).private


def test_what_was_not_verified_is_not_opened_by_a_later_push(run: Run, pushed: Pushed) -> None:
    result = run(*pushed.arguments, "--public", "--verify")
    assert result.exit_code == 2
    assert f"r0001 of {TARGET} is not for everybody, since it was never verified" in result.stderr
    assert pushed.hub.repo(TARGET).private


def test_what_is_added_to_an_opened_dataset_is_for_everybody(
    run: Run, pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to repeat --public, and nobody gets around what it asks for."""
    monkeypatch.setattr(pushed.hub.repo(TARGET), "private", False)
    unverified = run(*pushed.arguments)
    assert unverified.exit_code == 2
    assert "must be verified: drop --no-verify" in unverified.stderr
    assert "r0001" in run(*pushed.arguments, "--verify").stderr
    monkeypatch.setattr("release.published._KEPT_PRIVATE", {})  # as if both had been verified
    result = run(*pushed.arguments, "--verify")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"changed": False})


def test_settings_that_wait_for_a_new_release_are_named(
    run: Run, pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.published._KEPT_PRIVATE", {})  # as if both had been verified
    result = run(*pushed.arguments, "--public", "--verify", "--gated", "auto")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"changed": False})
    told = next(line for line in result.stderr.splitlines() if "nothing is new" in line)
    assert f"--public (see `protect-release publish {TARGET} --public`)" in told
    assert f"--gated (see `hf repos settings {TARGET} --gated auto" in told
    repo = pushed.hub.repo(TARGET)
    assert (repo.private, repo.gated) == (True, False)


def test_no_secret_is_public(pushed: Pushed) -> None:
    """Everything that readers of the target can get, and all that the command said, holds neither
    seed nor key, token, path, pin, nor the digest of a clean image or what the state holds."""
    said = (pushed.first.output + pushed.second.output).replace(str(_key_file()), "KEY FILE")
    public = _everything(pushed.hub) | {"output": said.encode()}
    secrets = _secrets(pushed)
    assert len(secrets) > 12
    for where, data in public.items():
        found = [what for what, secret in secrets.items() if secret in data]
        assert not found, (where, found)


def test_the_seed_is_kept_encrypted_only(pushed: Pushed) -> None:
    from release.workdir import data_home, pair_id

    assert not (data_home() / "seeds" / pair_id(SOURCE, TARGET)).exists()


def _key_file() -> Path:
    from release.workdir import data_home, target_id

    return data_home() / "keys" / target_id(TARGET)


def _everything(hub: Hub) -> dict[str, bytes]:
    """Every file of every commit of the target, and what its commits say."""
    repo = hub.repo(TARGET)
    found: dict[str, bytes] = {}
    for commit in repo.commits("main"):
        found[f"commit {commit.id}"] = f"{commit.title}\n{commit.message}".encode()
        for path in repo.files(commit.id):
            found[f"{commit.id}:{path}"] = repo.read(commit.id, path)
    return found


def _secrets(pushed: Pushed) -> dict[str, bytes]:
    plan = json.loads((pushed.workdir / "plan.json").read_text())
    digests = np.load(pushed.workdir / "survey/train/digests.npy")
    found = {
        "seed": plan["seed"].encode(),
        "seed bytes": bytes.fromhex(plan["seed"]),
        "key": _key_file().read_bytes().strip(),
        "token": b"hf_alice",
        "pin": plan["source"]["pin"].encode(),
        "workdir": str(pushed.workdir).encode(),
        "home": str(Path(os.environ["XDG_DATA_HOME"])).encode(),
        "row digest": digests[0].tobytes(),
        "row digest in hex": digests[0].tobytes().hex().encode(),
        "fingerprint": (pushed.workdir / "staged").read_bytes(),
    }
    state = pushed.hub.repo(STATE)
    for path in state.files("main"):
        if path.endswith(".enc"):
            found[f"state {path}"] = state.read("main", path)
    return found
