"""What is at the target before a release is made, and whether this one may go there."""

from __future__ import annotations

from dataclasses import dataclass

from release import demand, increment, places
from release.chain import Chain
from release.options import ReleaseOptions
from release.publish import Target
from release.published import demand_for_everybody
from release.terminal import Terminal
from release.vault import Vault
from release.workdir import Seed, kept_seed, typed_seed


@dataclass(frozen=True)
class Existing:
    """The target, the releases that it has, and what is kept for it, at `state`.

    for_everybody: whether everybody will be able to read the release; seed: what it and all later
    ones are made with.
    """

    target: Target
    chain: Chain
    state: str
    vault: Vault
    for_everybody: bool
    seed: Seed


def look(options: ReleaseOptions, target: Target, terminal: Terminal) -> Existing:
    """What is there; InputError where the release may not go there."""
    increment.demand_options(options)
    target.refuse(options.source)
    for_everybody = options.public or target.is_public()
    if for_everybody:
        demand.worth_public(options, target.name)
    published = target.published()
    demand.whole_card(published.readme, target.name)
    chain = Chain.of(published.releases, target.name)
    state = places.state_text(options, target, chain.ids)
    vault = places.vault_at(state, target, options.hub_patience, terminal)
    vault.demand_own(chain.ids)
    if chain.manifests:
        increment.demand_same_seed(options, vault.seed())
    seed = _seed(options, vault, target.name)
    if for_everybody:
        demand_for_everybody(target, chain, published.head)
        demand.secret_seed(seed, target.name)
    return Existing(target, chain, state, vault, for_everybody, seed)


def _seed(options: ReleaseOptions, vault: Vault, target: str) -> Seed:
    if options.seed is not None:
        return typed_seed(options.seed)
    return vault.seed() or kept_seed(options.source, target)
