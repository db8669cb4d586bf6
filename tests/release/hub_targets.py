"""A target on the Hub, as tests publish to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hub_releases import staged

from release.hub_target import HubTarget
from tests.hub.server import Hub

NAME = "org/flowers-protected"
PATIENCE = 1.0


def target_of(**asked: Any) -> HubTarget:
    """The target that tests publish to, waited for a second."""
    return HubTarget(NAME, **{"patience": PATIENCE, **asked})


def publish(target: HubTarget, folder: Path, release: str) -> str:
    """As the pipeline does, from the check before any work to the commit."""
    target.refuse("org/flowers")
    target.prepare()
    return target.publish(staged(folder / release, release), release, target.published())


def titles_of(hub: Hub, revision: str = "main") -> list[str]:
    """Those of its commits, the latest first."""
    return [commit.title for commit in hub.repo(NAME).commits(revision)]
