"""The client that owners have, and a repository to use it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import CommitInfo, HfApi

from tests.hub.server import Hub

ID = "org/pets"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """The client as alice; the dataset repository org/pets has one commit."""
    api = HfApi()
    api.create_repo(ID, repo_type="dataset")
    return api


@pytest.fixture
def commit(api: HfApi) -> Callable[..., CommitInfo]:
    """One commit of the operations given, to org/pets."""

    def create(*operations: Any, **more: Any) -> CommitInfo:
        made: CommitInfo = api.create_commit(
            ID, list(operations), commit_message="Pets", repo_type="dataset", **more
        )
        return made

    return create
