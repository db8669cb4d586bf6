"""A release is proposed as a pull request, which changes nothing until it is merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_releases import added
from hub_targets import NAME, publish, target_of

from release.errors import HubRefused
from tests.hub.server import Hub


def test_a_proposal_changes_nothing_until_it_is_merged(hub: Hub, tmp_path: Path) -> None:
    target = target_of(create_pr=True)
    url = publish(target, tmp_path, "r0001")
    repo = hub.repo(NAME)
    assert url == f"{hub.url}/datasets/{NAME}/discussions/1"
    assert repo.files() == [".gitattributes"]
    assert added("r0001") <= set(repo.files("refs/pr/1"))
    assert not repo.tags
    assert target.publish(tmp_path / "r0001", "r0001", target.published()) == url
    assert list(repo.pulls) == [1]
    repo.pulls[1].status = "closed"
    again = target.publish(tmp_path / "r0001", "r0001", target.published())
    assert again.endswith("/discussions/2")


def test_whoever_may_read_may_propose(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo(NAME)
    hub.add_user("bob", "hf_bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    assert publish(target_of(create_pr=True, public=True), tmp_path, "r0001")
    assert hub.repo(NAME).files() == [".gitattributes"]


def test_whoever_may_only_propose_leaves_tags_to_others(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(target_of(), tmp_path, "r0001")
    hub.repo(NAME).private = False
    hub.repo(NAME).tags.clear()
    hub.add_user("bob", "hf_bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    target_of(create_pr=True).name_releases(["r0001"])
    assert not hub.repo(NAME).tags
    with pytest.raises(HubRefused):
        target_of().name_releases(["r0001"])


@pytest.mark.parametrize("fault", ["503", "reset", "lose", "half"])
def test_a_proposal_is_made_once(hub: Hub, tmp_path: Path, fault: str) -> None:
    hub.faults.fail("commit", fault)
    url = publish(target_of(create_pr=True), tmp_path, "r0001")
    assert url.endswith("/discussions/1")
    assert list(hub.repo(NAME).pulls) == [1]
