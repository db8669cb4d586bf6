"""What the real client writes is what the Hub has."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitInfo, HfApi, get_session
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub import CommitOperationCopy as Copy
from huggingface_hub import CommitOperationDelete as Delete
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.server import Hub

ID = "org/pets"
BIG = bytes(range(256)) * 400

Committing = Callable[..., CommitInfo]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_repository_is_created_once(hub: Hub, api: HfApi) -> None:
    again = api.create_repo(ID, repo_type="dataset", exist_ok=True)
    assert again == f"{hub.url}/datasets/{ID}"
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(ID, repo_type="dataset")
    assert hub.repo(ID).files() == [".gitattributes"]
    assert not hub.repo(ID).private


def test_a_repository_is_private_from_its_first_moment(hub: Hub, api: HfApi) -> None:
    api.create_repo("alice/own", repo_type="dataset", private=True)
    assert hub.repo("alice/own").private
    api.update_repo_settings("alice/own", repo_type="dataset", private=False, gated="auto")
    assert (hub.repo("alice/own").private, hub.repo("alice/own").gated) == (False, "auto")


def test_a_deleted_repository_is_gone(hub: Hub, api: HfApi) -> None:
    api.delete_repo(ID, repo_type="dataset")
    assert not api.repo_exists(ID, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(ID, repo_type="dataset")


def test_large_and_regular_files_arrive_whole(hub: Hub, commit: Committing) -> None:
    made = commit(Add("data/a.parquet", BIG), Add("README.md", b"# Pets"), Add("empty", b""))
    repo = hub.repo(ID)
    assert repo.files() == [".gitattributes", "README.md", "data/a.parquet", "empty"]
    assert repo.read("main", "data/a.parquet") == BIG
    assert repo.read("main", "README.md") == b"# Pets"
    assert hub.uploaded == {_sha256(BIG): len(BIG)}
    assert (repo.commits()[0].id, repo.commits()[0].title) == (made.oid, "Pets")


def test_shards_are_sent_ahead_and_only_once(
    hub: Hub, api: HfApi, commit: Committing, tmp_path: Path
) -> None:
    shard = tmp_path / "a.parquet"
    shard.write_bytes(BIG)
    ahead = Add("data/a.parquet", shard)
    api.preupload_lfs_files(ID, [ahead], repo_type="dataset")
    assert hub.repo(ID).files() == [".gitattributes"]
    shard.unlink()
    commit(ahead)
    commit(Add("copy/a.parquet", BIG))
    assert hub.repo(ID).read("main", "copy/a.parquet") == BIG
    assert hub.uploaded == {_sha256(BIG): len(BIG)}


def test_a_shard_is_sent_in_parts_where_the_hub_asks(hub: Hub, commit: Committing) -> None:
    hub.part_size = 40_000
    commit(Add("a.parquet", BIG))
    assert hub.repo(ID).read("main", "a.parquet") == BIG
    assert len(hub.requests("lfs-part")) == 3
    assert len(list((hub.repo(ID).folder / "lfs").iterdir())) == 1


def test_a_large_shard_is_held_by_neither_side(
    hub: Hub, commit: Committing, tmp_path: Path
) -> None:
    shard = tmp_path / "a.parquet"
    shard.write_bytes(bytes(32 << 20))
    tracemalloc.start()
    commit(Add("a.parquet", shard))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hub.uploaded.total() == 32 << 20
    assert peak < 12 << 20


def test_what_is_not_what_was_declared_is_refused(hub: Hub, api: HfApi) -> None:
    batch = {"transfers": ["basic"], "objects": [{"oid": _sha256(BIG), "size": len(BIG)}]}
    lfs = f"{hub.url}/datasets/{ID}.git/info/lfs/objects/batch"
    headers = {"Authorization": "Bearer hf_alice"}
    planned = get_session().post(lfs, json=batch, headers=headers).json()["objects"][0]
    href = planned["actions"]["upload"]["href"]
    assert get_session().put(href, content=BIG[1:]).status_code == 422
    assert get_session().put(href.partition("?")[0], content=BIG).status_code == 403
    assert list((hub.repo(ID).folder / "lfs").iterdir()) == []


def test_an_unchanged_file_makes_no_commit(hub: Hub, commit: Committing) -> None:
    first = commit(Add("a.parquet", BIG), Add("README.md", b"# Pets"))
    again = commit(Add("a.parquet", BIG), Add("README.md", b"# Pets"))
    assert again.oid == first.oid
    assert len(hub.requests("commit")) == 1


def test_a_commit_on_what_is_no_longer_the_head_is_refused(hub: Hub, commit: Committing) -> None:
    head = hub.repo(ID).commits()[0].id
    hub.faults.meanwhile("commit", lambda: hub.repo(ID).put({"quicker.txt": b"first"}))
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as refused:
        commit(Add("slower.txt", b"second"), parent_commit=head)
    assert refused.value.response.status_code == 412
    assert hub.repo(ID).files() == [".gitattributes", "quicker.txt"]


def test_files_are_copied_and_deleted(hub: Hub, commit: Committing) -> None:
    commit(Add("old/a.parquet", BIG), Add("old/b.txt", b"b"), Add("c.txt", b"c"))
    commit(Copy("old/a.parquet", "new/a.parquet"), Delete("old/"), Delete("c.txt"))
    assert hub.repo(ID).files() == [".gitattributes", "new/a.parquet"]
    with pytest.raises(EntryNotFoundError):
        commit(Delete("c.txt"))


@pytest.mark.parametrize("card", [b"---\na: [\n---\n", b"---\ntags: pets\n---\n"])
def test_a_card_with_broken_metadata_is_refused_before_anything_is_sent(
    hub: Hub, commit: Committing, card: bytes
) -> None:
    with pytest.raises(ValueError, match="Invalid metadata in README"):
        commit(Add("README.md", card), Add("a.parquet", BIG))
    assert not hub.uploaded
    assert hub.repo(ID).files() == [".gitattributes"]


def test_tags_and_branches_name_commits(hub: Hub, api: HfApi, commit: Committing) -> None:
    first = commit(Add("a.txt", b"1"))
    api.create_tag(ID, tag="r0001", revision=first.oid, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(ID, tag="r0001", repo_type="dataset")
    api.create_branch(ID, branch="next/one", repo_type="dataset")
    commit(Add("a.txt", b"2"), revision="next/one")
    repo = hub.repo(ID)
    assert repo.tags == {"r0001": first.oid}
    for name in ("r0001", "refs/tags/r0001", "refs/heads/main", first.oid[:7]):
        assert api.dataset_info(ID, revision=name).sha == first.oid
    assert (repo.read("main", "a.txt"), repo.read("next/one", "a.txt")) == (b"1", b"2")
    api.delete_tag(ID, tag="r0001", repo_type="dataset")
    api.delete_branch(ID, branch="next/one", repo_type="dataset")
    assert (repo.tags, list(repo.branches)) == ({}, ["main"])
    with pytest.raises(RevisionNotFoundError):
        commit(Add("a.txt", b"3"), revision="next/one")
