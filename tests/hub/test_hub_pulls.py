"""Proposals: made, read before they are merged, and merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.server import Hub

ID = "org/pets"


def test_a_proposal_is_loaded_and_merged(
    hub: Hub, api: HfApi, commit: Callable[..., CommitInfo], tmp_path: Path
) -> None:
    Dataset.from_dict({"age": [1]}).to_parquet(tmp_path / "a.parquet")
    proposed = commit(Add("data/a.parquet", tmp_path / "a.parquet"), create_pr=True)
    assert (proposed.pr_num, proposed.pr_revision) == (1, "refs/pr/1")
    assert hub.repo(ID).files() == [".gitattributes"]
    assert load_dataset(ID, split="train", revision="refs/pr/1")["age"][:] == [1]
    hub.repo(ID).put({"b.txt": b"meanwhile"})
    api.merge_pull_request(ID, 1, repo_type="dataset")
    assert hub.repo(ID).files() == [".gitattributes", "b.txt", "data/a.parquet"]
    assert api.get_discussion_details(ID, 1, repo_type="dataset").status == "merged"
    refs = api.list_repo_refs(ID, repo_type="dataset", include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests or ()] == ["refs/pr/1"]


def test_a_folder_is_proposed_by_somebody_who_may_not_merge(
    hub: Hub, api: HfApi, tmp_path: Path
) -> None:
    hub.add_user("bob", "hf_bob")
    bob = HfApi(token="hf_bob")
    (tmp_path / "a.txt").write_text("a")
    bob.upload_folder(folder_path=tmp_path, repo_id=ID, repo_type="dataset", create_pr=True)
    assert hub.repo(ID).read("refs/pr/1", "a.txt") == b"a"
    with pytest.raises(HfHubHTTPError, match="no write access"):
        bob.merge_pull_request(ID, 1, repo_type="dataset")
    api.change_discussion_status(ID, 1, "closed", repo_type="dataset")
    assert hub.repo(ID).pulls[1].status == "closed"


def test_both_sides_of_a_file_are_not_merged(
    hub: Hub, api: HfApi, commit: Callable[..., CommitInfo]
) -> None:
    commit(Add("a.txt", b"theirs"), create_pr=True)
    hub.repo(ID).put({"a.txt": b"ours"})
    with pytest.raises(HfHubHTTPError, match="changed on both sides"):
        api.merge_pull_request(ID, 1, repo_type="dataset")
    assert hub.repo(ID).read("main", "a.txt") == b"ours"
