"""Where a release goes and where its state is kept, as objects to work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from release.chain import Chain
from release.options import ReleaseOptions
from release.plan import ReleasePlan
from release.publish import HeadMoved, Target, target_of
from release.store import FolderStore, store_of
from release.terminal import Terminal
from release.vault import Vault, knows
from release.workdir import data_home, target_id


@dataclass(frozen=True)
class Places:
    """The target of one planned release, and the vault of what later releases need."""

    plan: ReleasePlan
    target: Target
    vault: Vault

    def prepare(self) -> None:
        """Both are there and can be written."""
        self.target.prepare()
        self.vault.prepare()

    def chain_before(self) -> Chain:
        """The releases before the planned one; HeadMoved where they are not those that it was
        planned after."""
        chain = Chain.of(self.target.published().releases, self.target.name)
        before = chain.before(self.plan.release)
        if before.last_digest != self.plan.previous:
            raise HeadMoved(self.target.name)
        return before


def places_of(plan: ReleasePlan, terminal: Terminal) -> Places:
    """Where the planned release goes."""
    target = target_of(
        plan.target if not plan.on_hub else f"hf://datasets/{plan.target}",
        plan.source["spec"],
        revision=plan.revision,
        create_pr=plan.create_pr,
        public=plan.public,
        gated=plan.gated,
        patience=plan.hub_patience,
    )
    return Places(plan, target, vault_at(plan.state, target, plan.hub_patience, terminal))


def state_text(options: ReleaseOptions, target: Target, release_ids: Sequence[str]) -> str:
    """The place of the state as a person would write it, for a target with these releases."""
    if options.state is not None:
        return options.state
    if target.is_hub:
        return f"hf://datasets/{target.name}-state"
    return str(_state_folder(target, release_ids))


def _state_folder(target: Target, release_ids: Sequence[str]) -> Path:
    """Where the state of a folder lies on this machine: by its path, or, where it was moved since
    it was released, by the one that it had."""
    own = data_home() / "state" / target_id(target.name)
    folders = [own, *sorted(own.parent.glob("*"))]
    known = (folder for folder in folders if knows(FolderStore(folder).names(), release_ids))
    return next(known, own)


def vault_at(state: str, target: Target, patience: float, terminal: Terminal) -> Vault:
    """The vault of the target at `state`; InputError where it must not be used. Writes nothing."""
    store = store_of(
        state,
        target=target.name,
        is_hub=target.is_hub,
        default_folder=_state_folder(target, ()),
        patience=patience,
    )
    store.refuse()
    key_file = data_home() / "keys" / _key_name(store.place, target)
    return Vault.open(store, target=target.name, key_file=key_file, tell=terminal.line)


def _key_name(place: str, target: Target) -> str:
    """What the file of its key is called: a folder that states usually lie in has its own name."""
    folder = Path(place)
    if folder.parent == (data_home() / "state").resolve():
        return folder.name
    return target_id(target.name)
