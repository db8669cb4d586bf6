"""Datasets that are published already, on the Hub or in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from release.chain import Chain
from release.errors import InputError
from release.manifest import report_path
from release.publish import Target, is_hub_id, target_of

_KEPT_PRIVATE = {
    "not-verified": "it was never verified",
    "raised-gate": "only a raised gate let it through",
    "typed-seed": "its seed was typed and can be guessed",
}
"""Flags with which a release is not opened to everybody, and why."""


def chain_of(name: str) -> Chain:
    """The releases of the dataset that people call `name`; InputError where it has none."""
    target = named(name)
    chain = Chain.of(target.published().releases, name)
    if not chain.manifests:
        raise InputError(f"{name} holds no release of this tool: check its name")
    return chain


def local_copy(name: str) -> Path:
    """A folder with the whole dataset as readers get it: for one on the Hub, in their cache."""
    return copy_of(named(name))


def copy_of(target: Target, patience: float = 600.0) -> Path:
    """A folder with everything that readers of the target see: for one on the Hub, which is waited
    for up to `patience` seconds, in their cache."""
    if not target.is_hub:
        return Path(target.name)
    from huggingface_hub import snapshot_download

    from release.hub import KIND, HubRepo

    head = target.published().head
    repo = HubRepo(target.name, patience=patience)
    return Path(repo.ask(lambda: snapshot_download(target.name, repo_type=KIND, revision=head)))


def open_to_everybody(name: str) -> None:
    """A dataset on the Hub that was published privately is public; InputError where one of its
    releases was not verified, or has what nobody should be shown."""
    target = named(name)
    if not target.is_hub:
        raise InputError(f"{name} is a folder: only a dataset on the Hub can be made public")
    demand_for_everybody(target, chain_of(name), target.published().head)
    target.open_to_everybody()


def demand_for_everybody(target: Target, chain: Chain, head: str | None) -> None:
    """InputError where a release of the chain, which the target has at `head`, was not verified, or
    has what nobody should be shown."""
    for manifest in chain.manifests:
        reason = why_private(target.read(report_path(manifest.release), head))
        if reason is not None:
            raise InputError(
                f"release {manifest.release} of {target.name} is not for everybody, since "
                f"{reason}: leave it private, without --public, or make a release without that "
                "under another name"
            )


def why_private(report: bytes) -> str | None:
    """Why the release with this report.json is not for everybody; None where it may be."""
    flags = [flag["id"] for flag in json.loads(report)["flags"]]
    return next((_KEPT_PRIVATE[flag] for flag in flags if flag in _KEPT_PRIVATE), None)


def _there(target: Target, name: str) -> Target:
    if target.is_hub:
        return target
    target.published()  # which puts a folder back that was being replaced when a run was killed
    if not Path(target.name).is_dir():
        raise InputError(f"{name} is neither a folder nor a Hub id org/name[@revision]")
    return target


def named(name: str, patience: float = 600.0) -> Target:
    """The published dataset that people call `name`: a folder, org/name, or org/name@revision, of
    which the Hub is asked whether it is there; InputError where it is not."""
    repo_id, _, revision = name.partition("@")
    if not revision or not is_hub_id(repo_id) or Path(name).exists():
        return _there(target_of(name, name, patience=patience), name)
    target = target_of(repo_id, repo_id, revision=revision, patience=patience)
    from release.hub import HubRepo

    if HubRepo(target.name, revision, patience).head() is None:
        raise InputError(
            f"{target.name} has no revision {revision!r}, or this account may not see it: name a "
            "branch, a tag or a commit that is still there, and log in"
        )
    return target
