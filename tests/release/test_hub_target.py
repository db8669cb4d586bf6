"""A release reaches the Hub by one commit, or readers see what was there before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hub_releases import CARD, added, large, manifest, staged
from hub_targets import NAME, PATIENCE, publish, target_of, titles_of
from huggingface_hub import HfApi

from release import __version__
from release.errors import HubRefused, InputError
from release.hub_target import HubTarget
from release.publish import HeadMoved
from tests.hub.server import Hub


def test_a_first_release_is_one_commit_in_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    url = publish(target_of(), tmp_path, "r0001")
    repo = hub.repo(NAME)
    assert repo.private
    assert titles_of(hub) == ["protect-release r0001", "initial commit"]
    assert set(repo.files()) == added("r0001") | {"README.md", ".gitattributes"}
    assert repo.tags == {"r0001": repo.branches["main"]}
    assert url == f"{hub.url}/datasets/{NAME}/commit/{repo.branches['main']}"
    assert "2 in data" in repo.commits()[0].message
    path = "data/train/r0001-00000.parquet"
    assert repo.read("main", path) == (tmp_path / "r0001" / path).read_bytes()


def test_nothing_is_written_before_the_work(hub: Hub) -> None:
    target_of().refuse("org/flowers")
    with pytest.raises(KeyError):
        hub.repo(NAME)


def test_a_second_release_keeps_every_file_of_the_first(hub: Hub, tmp_path: Path) -> None:
    publish(target_of(), tmp_path, "r0001")
    repo = hub.repo(NAME)
    before = repo.commit("r0001").tree
    publish(target_of(), tmp_path, "r0002")
    after = repo.commit("main").tree
    assert {path for path in before if after.get(path) != before[path]} == {"README.md"}
    assert set(after) == set(before) | added("r0002")
    assert repo.commit("r0001").tree == before
    assert repo.tags["r0002"] == repo.branches["main"]


def test_what_is_published_is_read_at_its_head(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    empty = target.published()
    assert (empty.head, empty.releases, empty.readme) == (None, {}, "")
    for release in ("r0001", "r0002"):
        publish(target, tmp_path, release)
    found = target.published()
    assert found.head == hub.repo(NAME).branches["main"]
    assert list(found.releases.items()) == [(name, manifest(name)) for name in ("r0001", "r0002")]
    assert found.readme == f"{CARD}card of r0002\n"
    path = "data/train/r0001-00000.parquet"
    original = (tmp_path / "r0001" / path).read_bytes()
    assert target.fetch(path, found.head, tmp_path / "here").read_bytes() == original
    assert target.read(path, found.head) == original


def test_a_missing_file_is_refused_by_name(hub: Hub, tmp_path: Path) -> None:
    publish(target_of(), tmp_path, "r0001")
    with pytest.raises(HubRefused, match="data/nothing does not exist"):
        target_of().fetch("data/nothing", None, tmp_path / "here")


def test_every_request_says_who_asks(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    publish(target, tmp_path, "r0001")
    target.fetch("README.md", None, tmp_path / "here")
    asked = [request for request in hub.log if not request.route.startswith("lfs-upload")]
    named = f"protect-release/{__version__};"
    assert [r.route for r in asked if not r.user_agent.startswith(named)] == []
    assert not hub.requests("whoami")


def test_shards_sent_ahead_are_seen_by_nobody_and_not_sent_twice(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    target.prepare()
    folder = staged(tmp_path / "r0001", "r0001")
    for file in large(folder):
        target.offer(file, file.relative_to(folder).as_posix())
    assert hub.repo(NAME).files() == [".gitattributes"]
    batches = len(hub.requests("lfs-batch"))
    target.publish(folder, "r0001", target.published())
    assert set(hub.uploaded.values()) == {file.stat().st_size for file in large(folder)}
    assert len(hub.requests("lfs-batch")) == batches
    assert added("r0001") <= set(hub.repo(NAME).files())


def test_a_shard_that_changed_since_it_was_sent_is_sent_again(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    target.prepare()
    path = "data/train/r0001-00000.parquet"
    folder = staged(tmp_path / "r0001", "r0001")
    target.offer(folder / path, path)
    (folder / path).write_bytes(b"another" * 200_000)
    target.publish(folder, "r0001", target.published())
    assert hub.repo(NAME).read("main", path) == b"another" * 200_000


@pytest.mark.parametrize("fault", ["503", "403", "reset"])
def test_what_cannot_be_sent_ahead_is_sent_later(hub: Hub, tmp_path: Path, fault: str) -> None:
    target = target_of()
    target.prepare()
    folder = staged(tmp_path / "r0001", "r0001")
    hub.faults.fail("lfs-batch", fault)
    target.offer(large(folder)[0], "data/train/r0001-00000.parquet")
    assert not hub.uploaded
    target.publish(folder, "r0001", target.published())
    assert added("r0001") <= set(hub.repo(NAME).files())


def test_publishing_again_only_mends_what_follows_the_commit(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    url = publish(target, tmp_path, "r0001")
    repo = hub.repo(NAME)
    commit = repo.tags.pop("r0001")
    repo.put({"README.md": b"edited by a person"})
    later = target_of(public=True, gated="manual")
    assert later.publish(tmp_path / "r0001", "r0001", later.published()) == url
    assert repo.tags == {"r0001": commit}
    assert (repo.private, repo.gated) == (False, "manual")
    assert titles_of(hub) == ["By hand", "protect-release r0001", "initial commit"]
    assert later.publish(tmp_path / "r0001", "r0001", later.published()) == url


def test_a_tag_on_another_commit_is_named(hub: Hub, tmp_path: Path) -> None:
    repo = hub.add_repo(NAME, private=True)
    repo.tags["r0001"] = repo.branches["main"]
    with pytest.raises(HubRefused, match=f"hf repos tag delete {NAME} r0001"):
        publish(target_of(), tmp_path, "r0001")


def test_a_competitor_is_noticed_and_nothing_is_published(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    target.prepare()
    repo = hub.repo(NAME)
    hub.faults.meanwhile("commit", lambda: repo.put({"README.md": b"theirs"}))
    with pytest.raises(HeadMoved):
        target.publish(staged(tmp_path / "a", "r0001"), "r0001", target.published())
    assert titles_of(hub) == ["By hand", "initial commit"]
    assert not repo.tags
    target.publish(staged(tmp_path / "b", "r0001"), "r0001", target.published())
    assert titles_of(hub) == ["protect-release r0001", "By hand", "initial commit"]


def test_a_head_that_moved_before_costs_no_upload(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    target.prepare()
    before = target.published()
    hub.repo(NAME).put({"README.md": b"theirs"})
    with pytest.raises(HeadMoved):
        target.publish(staged(tmp_path / "a", "r0001"), "r0001", before)
    assert not hub.uploaded


def test_a_release_planned_before_the_repository_was_made(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    nothing = target.published()
    target.prepare()
    target.publish(staged(tmp_path / "a", "r0001"), "r0001", nothing)
    with pytest.raises(HeadMoved):
        target.publish(staged(tmp_path / "b", "r0002"), "r0002", nothing)


def test_a_branch_is_made_from_main_and_main_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    publish(target_of(), tmp_path, "r0001")
    repo = hub.repo(NAME)
    main = repo.branches["main"]
    preview = target_of(revision="preview")
    assert preview.published().head == main
    publish(preview, tmp_path, "r0002")
    assert repo.branches["main"] == main
    assert titles_of(hub, "preview")[:2] == ["protect-release r0002", "protect-release r0001"]
    assert list(preview.published().releases) == ["r0001", "r0002"]
    assert repo.tags == {"r0001": main, "preview-r0002": repo.branches["preview"]}
    publish(target_of(), tmp_path, "r0002")
    assert repo.tags["r0002"] == repo.branches["main"] != repo.branches["preview"]


def test_a_release_is_gated_before_everybody_sees_it(hub: Hub, tmp_path: Path) -> None:
    hub.faults.fail("settings", "403", nth=2)
    with pytest.raises(HubRefused, match=r"hf repos settings .* --public --repo-type dataset"):
        publish(target_of(public=True, gated="auto"), tmp_path, "r0001")
    repo = hub.repo(NAME)
    assert (repo.private, repo.gated) == (True, "auto")
    target = target_of(public=True, gated="auto")
    target.publish(tmp_path / "r0001", "r0001", target.published())
    assert (repo.private, repo.gated) == (False, "auto")
    assert titles_of(hub) == ["protect-release r0001", "initial commit"]


def test_a_private_release_is_opened_later(hub: Hub, tmp_path: Path) -> None:
    publish(target_of(), tmp_path, "r0001")
    for _ in range(2):
        target_of().open_to_everybody()
    assert not hub.repo(NAME).private
    assert len(hub.requests("settings")) == 1


def _refused(**asked: Any) -> str:
    """What a person is told before any work."""
    with pytest.raises((InputError, HubRefused)) as refused:
        target_of(**asked).refuse("org/flowers")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("source", [NAME, f"{NAME}@v1", f"hf://datasets/{NAME}"])
def test_the_source_is_notarget_of(hub: Hub, source: str) -> None:
    with pytest.raises(InputError, match="is the source itself"):
        target_of().refuse(source)
    assert not hub.log


def test_without_a_token_a_login_is_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "`hf auth login`, or set HF_TOKEN" in _refused()


def test_a_token_that_nobody_knows(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "does not know this token" in _refused()
    assert "hf_old" not in _refused()


@pytest.mark.parametrize("of", ["hf_reader", "hf_guest"])
def test_a_token_that_may_not_write(hub: Hub, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    hub.add_repo(NAME, private=True)
    hub.add_token("alice", "hf_reader", "read")
    hub.add_user("guest", "hf_guest")
    hub.add_org("org", "alice", guest="read")
    monkeypatch.setenv("HF_TOKEN", of)
    assert "use one with write access" in _refused()


def test_a_private_repository_of_others(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo(NAME, private=True)
    hub.add_user("bob", "hf_bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    target = target_of()
    target.refuse("org/flowers")  # to bob it looks as if it did not exist
    with pytest.raises(HubRefused, match=f"hf repos create {NAME} --private --repo-type dataset"):
        target.prepare()


def test_a_model_of_that_name(hub: Hub) -> None:
    hub.add_repo(NAME, kind="model")
    assert "is a model on the Hub, not a dataset" in _refused()


def test_a_public_target_needs_to_be_asked_for(hub: Hub, tmp_path: Path) -> None:
    repo = hub.add_repo(NAME)
    assert "add --public" in _refused()
    target_of(public=True).refuse("org/flowers")
    repo.private = True
    target = target_of()
    target.refuse("org/flowers")
    repo.private = False
    with pytest.raises(InputError, match="add --public"):
        target.publish(staged(tmp_path, "r0001"), "r0001", target.published())
    assert repo.files() == [".gitattributes"]


def test_other_files_are_left_as_they_are(hub: Hub) -> None:
    repo = hub.add_repo(NAME, private=True)
    repo.put({"README.md": b"a card", "LICENSE": b"mine"})
    target_of().refuse("org/flowers")
    repo.put({"data/train.csv": b"a,b"})
    assert "holds other files (data/train.csv)" in _refused()


def test_a_name_that_cannot_be(hub: Hub) -> None:
    with pytest.raises(InputError, match="is no name of a repository"):
        HubTarget("org/a..b", patience=PATIENCE).refuse("x")


def test_a_job_publishes_without_a_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.trust(f"datasets/{NAME}", "org/code")
    _as_job(hub, monkeypatch, "org/code")
    with pytest.raises(HubRefused, match="hf repos create"):
        target_of().prepare()
    hub.add_repo(NAME, private=True)
    publish(target_of(), tmp_path, "r0001")
    assert titles_of(hub) == ["protect-release r0001", "initial commit"]


def test_a_job_that_is_not_trusted(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_job(hub, monkeypatch, "org/other")
    assert "trusted publishers" in _refused()


def _as_job(hub: Hub, monkeypatch: pytest.MonkeyPatch, repository: str) -> None:
    """This process is a job of a code repository, with no token of its own."""
    monkeypatch.setattr("huggingface_hub.utils._auth._OIDC_TOKEN_CACHE", None)
    hub.add_job("job", repository)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_OIDC_RESOURCE", f"datasets/{NAME}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{hub.url}/oidc/token")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job")


def test_what_was_uploaded_before_the_hub_went_down_is_kept(hub: Hub, tmp_path: Path) -> None:
    target = target_of()
    target.prepare()
    before = target.published()
    folder = staged(tmp_path / "r0001", "r0001")
    hub.faults.fail("commit", "503", times=1000)
    with pytest.raises(HubRefused, match="what is uploaded and finished is kept"):
        target.publish(folder, "r0001", before)
    assert hub.repo(NAME).files() == [".gitattributes"]
    hub.faults.clear()
    sent = dict(hub.uploaded)
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in large(folder)}
    assert set(sent) == digests
    later = target_of()
    later.publish(folder, "r0001", later.published())
    assert dict(hub.uploaded) == sent
    assert titles_of(hub) == ["protect-release r0001", "initial commit"]


def test_a_hub_that_is_gone_for_good(hub: Hub, tmp_path: Path) -> None:
    target = target_of(patience=0.4)
    target.prepare()
    before = target.published()
    hub.down()
    try:
        with pytest.raises(HubRefused, match="run the same command again later") as refused:
            target.publish(staged(tmp_path / "r0001", "r0001"), "r0001", before)
    finally:
        hub.up()
    assert refused.value.exit_code == 5
    target.publish(tmp_path / "r0001", "r0001", before)
    assert HfApi().dataset_info(NAME).sha == hub.repo(NAME).tags["r0001"]
