"""The step that makes a release public: all at once, once only, or not at all.

The vault learns of the release first, so that its rows are never published again; whether they
count as released is for the target to say, by the release's id in its chain.
"""

from __future__ import annotations

import json

from release.chain import Chain
from release.committed import demand_one_noise, entry_of
from release.errors import InputError
from release.places import Places
from release.plan import ReleasePlan
from release.publish import HeadMoved, tag_name
from release.published import why_private
from release.staging import demand_staged, staged_release
from release.workdir import Seed, Workdir, forget_seed

_EDITS = 5
"""How often a card is merged again because somebody edited the target meanwhile."""


def publish_release(plan: ReleasePlan, workdir: Workdir, places: Places) -> str:
    """Readers see the release; returns where. The vault holds what the next release needs.

    HeadMoved where another release was published since this one was planned. A release that is
    there already, by its id, is not published again.
    """
    demand_staged(plan, workdir)
    demand_own_gate(plan, workdir)
    places.prepare()
    hidden = why_private((workdir.report / "report.json").read_bytes())
    for _ in range(_EDITS):
        after = places.target.published()
        chain = Chain.of(after.releases, places.target.name)
        if plan.release_id() not in chain.ids:
            if chain.last_digest != plan.previous:
                raise HeadMoved(places.target.name)
            _keep(plan, workdir, places, chain)
        # One has no tag yet where its pull request was merged, or its run was killed too soon.
        places.target.name_releases([manifest.release for manifest in chain.manifests])
        staged = staged_release(workdir, after.readme, places.target.name)
        try:
            return places.target.publish(staged, plan.release, after, hidden)
        except HeadMoved:
            continue  # the next look tells an edited card from another release
    raise HeadMoved(places.target.name)


def _keep(plan: ReleasePlan, workdir: Workdir, places: Places, chain: Chain) -> None:
    """The vault holds the seed, the State and every row of this release; SecondNoise where one of
    them was given another noise since the release was planned, on whatever machine."""
    demand_one_noise(plan, workdir, places.vault, chain.ids, reads=False)
    places.vault.keep(
        seed=Seed(plan.seed, plan.typed_seed),
        states={plan.state_key(): workdir.state(plan.fit_key())},
        release=tag_name(plan.release, places.target.branch),
        release_id=plan.release_id(),
        rows=entry_of(plan, workdir, places.vault),
        confirmed=bool(chain.manifests),
    )
    forget_seed(plan.source["spec"], plan.target)


def demand_own_gate(plan: ReleasePlan, workdir: Workdir) -> None:
    """InputError where a release that only a raised gate lets through would become public."""
    found = json.loads((workdir.report / "report.json").read_text())
    if plan.public and "raised-gate" in [flag["id"] for flag in found["flags"]]:
        raise InputError(
            "a release that only a raised --max-accuracy lets through is not for everybody: drop "
            f"--max-accuracy, or keep {plan.target} private"
        )
