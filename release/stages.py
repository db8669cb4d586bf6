"""What each rank does in a stage: fit together, craft its own shards, train its own victims.

Whatever is finished already is skipped, so a stage that was stopped goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from crafting.batch import PixelSplit
from release import state
from release.craft import ShardCrafter
from release.forecast import calibrate
from release.shards import ShardSpec, cut, finished
from release.source import Source
from release.survey import Survey
from release.workdir import write_private
from release.worker import Rank

if TYPE_CHECKING:
    from crafting.method import Context
    from evaluation.verify import Rows, TrialSpec


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
        target_map=None if plan.target_map is None else tuple(plan.target_map),
        progress=rank.tell,
    )


def fit(rank: Rank) -> None:
    """The State is on disk; every rank took part, the first one wrote it."""
    plan = rank.plan
    survey = Survey.load(rank.workdir.survey(plan.split))
    data = PixelSplit.load(rank.workdir.cache(plan.cache_key(), plan.fit_part))
    ctx = replace(context(rank, survey), fit_share=plan.fit_share)
    fitted = plan.configured().fit(data, ctx)
    if rank.rank == 0:
        state.save(rank.workdir.state(plan.fit_key()), fitted)


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


def verify(rank: Rank) -> None:
    """Every trial that falls to this rank has its outcome on disk."""
    from evaluation.verify import TrialSpec, schedule

    # Listed once by the parent: a rank that looked for itself could miss what another finishes.
    asked = [TrialSpec(**spec) for spec in json.loads(rank.workdir.asked_trials.read_text())]
    trials = Trials(rank)
    mine = schedule(asked, rank.world)[rank.rank]
    for number, spec in enumerate(mine):
        trials.run(spec, partial(_tell_after, rank, number, len(mine)))


class Trials:
    """The splits that victims train on and are scored on, opened once."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._key = rank.plan.cache_key()

    def run(self, spec: TrialSpec, progress: Callable[[float], None]) -> None:
        """The outcome of one trial is on disk; one that was there before a restart is kept."""
        from evaluation.verify import run

        plan = self._rank.plan
        path = self._rank.workdir.trial(plan.trial_key(spec))
        if path.exists():
            return
        train = self._protected if spec.data == "protected" else self._clean
        outcome = run(
            spec,
            # Twins see their rows in the same order.
            replace(train.take(self._training_rows(spec.rows)), seed=spec.seed),
            self._test,
            net_size=plan.net_size,
            device=self._rank.device,
            progress=progress,
        )
        write_private(path, json.dumps(outcome.to_json()))

    @cached_property
    def _clean(self) -> PixelSplit:
        return PixelSplit.load(self._rank.workdir.cache(self._key, "train"))

    @cached_property
    def _protected(self) -> PixelSplit:
        return PixelSplit.load(self._rank.workdir.protected(self._rank.plan.protected_key()))

    @cached_property
    def _test(self) -> PixelSplit:
        if self._rank.plan.test_split is not None:
            return PixelSplit.load(self._rank.workdir.cache(self._key, "test"))
        return self._clean.take(self._held_out())

    def _training_rows(self, rows: Rows) -> list[int]:
        plan = self._rank.plan
        chosen = self._clean.rows
        if rows == "new" and plan.pairs is not None:
            pairs = self._rank.workdir.pairs(plan.pairs)
            chosen = pairs[pairs[:, 1] >= plan.first_row, 0]
        held_out = set(self._held_out()) if plan.test_split is None else set()
        return [int(row) for row in chosen if int(row) not in held_out]

    def _held_out(self) -> list[int]:
        return held_out_rows(self._clean, self._rank.plan.seed)


def held_out_rows(data: PixelSplit, seed: str, share: float = 0.1) -> list[int]:
    """The rows that victims are scored on where the source has no test split: a tenth of each
    class, and at least one row of it, drawn from the seed."""
    import numpy as np

    generator = np.random.default_rng(int(seed[:16], 16))
    assert data.targets is not None
    held = []
    for label in range(data.num_classes):
        rows = data.rows[data.targets == label]
        held += list(generator.permutation(rows)[: max(1, round(share * len(rows)))])
    return sorted(int(row) for row in held)


STAGES: dict[str, Callable[[Rank], None]] = {
    "calibrate": calibrate,
    "fit": fit,
    "craft": craft,
    "verify": verify,
}
