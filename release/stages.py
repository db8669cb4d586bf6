"""What each rank does in a stage: fit together, craft its own shards, train its own victims.

Whatever is finished already is skipped, so a stage that was stopped goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from crafting.batch import PixelSplit
from release import state
from release.craft import ShardCrafter
from release.errors import InputError
from release.forecast import calibrate
from release.rank import Rank
from release.shards import ShardSpec, cut, finished
from release.source import Source
from release.survey import Survey
from release.training import verify_planned, verify_published

if TYPE_CHECKING:
    from crafting.method import Context


def context(rank: Rank, survey: Survey) -> Context:
    """What the method may know on this rank."""
    from crafting.method import Context

    plan = rank.plan
    return Context(
        num_classes=plan.num_classes,
        shape=None if plan.shape is None else (plan.shape[0], plan.shape[1], plan.shape[2]),
        net_size=plan.net_size,
        device=rank.device,
        seed=bytes.fromhex(plan.seed),
        row_key=lambda row: survey.digests[row].tobytes(),
        rank=rank.rank,
        world=rank.world,
        accelerator=rank.accelerator,
        scratch=rank.workdir.scratch(plan.fit_key()),
        target_map=None if plan.target_map is None else tuple(plan.target_map),
        progress=rank.tell,
    )


def fit(rank: Rank) -> None:
    """The State is on disk; every rank took part, the first one wrote it."""
    plan = rank.plan
    survey = Survey.load(rank.workdir.survey(plan.split))
    data = PixelSplit.load(rank.workdir.cache(plan.cache_key(), plan.fit_part))
    ctx, method = replace(context(rank, survey), fit_share=plan.fit_share), plan.configured()
    try:
        fitted = method.fit(data, ctx)
    except ValueError as problem:  # these rows do not suit it, however often it is tried
        raise InputError(f"method {plan.method}: {problem}") from None
    rank.accelerator.wait_for_everyone()  # the others may still be reading what is in scratch
    if rank.rank == 0:
        state.save(rank.workdir.state(plan.fit_key()), fitted)
        if not method.keeps_scratch:
            shutil.rmtree(rank.workdir.scratch(plan.fit_key()), ignore_errors=True)


def craft(rank: Rank) -> None:
    """Every shard of this rank is finished."""
    plan = rank.plan
    survey = Survey.load(rank.workdir.survey(plan.survey))
    mine = shards_of(rank)[rank.rank :: rank.world]
    folder = rank.workdir.shards(plan.craft_key())
    missing = [shard for shard in mine if not finished(folder, plan.split, shard)]
    if missing:
        fitted = state.load(rank.workdir.state(plan.fit_key()))
        source = Source.from_json(plan.source)
        crafter = ShardCrafter(plan, source, survey, folder, context(rank, survey), fitted)
        _craft_all(rank, crafter, missing)


def _craft_all(rank: Rank, crafter: ShardCrafter, shards: list[ShardSpec]) -> None:
    total = sum(shard.stop - shard.start for shard in shards)
    done = 0
    rank.tell(done, total)
    for shard in shards:
        crafter.craft(shard, partial(_tell_after, rank, done, total))
        done += shard.stop - shard.start
    rank.tell(total, total)


def _tell_after(rank: Rank, before: float, total: float, done: float) -> None:
    rank.tell(before + done, total)


def shards_of(rank: Rank) -> list[ShardSpec]:
    """Every shard of the release, in order; the cuts depend on the plan alone."""
    return cut(rank.plan.num_rows, rank.plan.rows_per_shard, rank.plan.release)


STAGES: dict[str, Callable[[Rank], None]] = {
    "calibrate": calibrate,
    "fit": fit,
    "craft": craft,
    "verify": verify_planned,
    "verify-release": verify_published,
}
