"""The stages in order. Each first brings about what it needs, and skips itself where its output is
already valid, so that running the same command again is the resume.

    plan -> fit -> craft -> verify -> card -> publish
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from release import increment, state
from release.discover import is_hub_source
from release.errors import GateMissed, HubRefused, InputError, SecondNoise
from release.launch import Launcher, opened
from release.options import ReleaseOptions
from release.places import Places, places_of
from release.plan import ReleasePlan
from release.publish import HeadMoved
from release.rank import Order
from release.resolve import resolve
from release.sending import sending_ahead
from release.shards import ShardRecord, cut, finished
from release.staging import judge, stage_release
from release.terminal import Terminal, duration, now
from release.training import Asked
from release.training_rows import cache_clean, read_back
from release.transaction import publish_release
from release.workdir import Workdir

if TYPE_CHECKING:
    from evaluation.report import Report
    from evaluation.trial import Outcome

_RACES = 5
"""How often a release is planned again because another one was published meanwhile."""


@dataclass(frozen=True)
class Made:
    """What a run came to: its plan, its shards, its report, the rows of the dataset with them, the
    seconds of each stage, and where the release can be seen once it is published."""

    plan: ReleasePlan
    records: list[ShardRecord]
    report: Report
    total: int
    seconds: dict[str, float]
    published: str | None = None


@dataclass(frozen=True)
class _Missed:
    """A plan whose release did not hold, and what was said of it."""

    plan: ReleasePlan
    problem: GateMissed


class Pipeline:
    """One release being made in one WORKDIR, by the ranks that `launcher` starts."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.workdir = launcher.workdir
        self.terminal = launcher.terminal
        self.made: Made | None = None
        self._opened: Places | None = None

    def plan(self, options: ReleaseOptions) -> ReleasePlan | None:
        """The plan is on disk and says all that later stages need; None where the target has every
        row of the source already."""
        with self._timed("plan"):
            plan = resolve(options, self.workdir, self.terminal)
        if plan is not None:
            plan.save(self.workdir.plan)
        return plan

    def fit(self, plan: ReleasePlan) -> None:
        """The State is on disk, and what crafting needs beside it."""
        folder = self.workdir.state(plan.fit_key())
        if self._is_here(plan):
            return
        if self._is_kept(plan):
            self._places(plan).vault.load_state(plan.state_key(), folder)
            return
        if not plan.configured().has_fit:
            state.save(folder, {})
            return
        if plan.is_increment:
            self._demand_own_state(plan)
        with self._timed("fit"):
            cache_clean(plan, self.workdir, plan.fit_part, self.terminal)
            self._ranks("fit", plan, plan.fit_workers, plan.fit_threads, "epochs")

    def is_fitted(self, plan: ReleasePlan) -> bool:
        """Whether fit would train nothing: the State is here, or kept since an earlier release."""
        return self._is_here(plan) or self._is_kept(plan)

    def craft(self, plan: ReleasePlan) -> None:
        """Every shard is finished; those of a Hub target were sent ahead, as far as it answered."""
        self.fit(plan)
        shards = cut(plan.num_rows, plan.rows_per_shard, plan.release)
        if len(self._records(plan)) < len(shards):
            folder = self.workdir.shards(plan.craft_key())
            with self._timed("craft"), sending_ahead(self._places(plan).target, folder, plan.split):
                ranks = min(plan.workers, len(shards))
                self._ranks("craft", plan, ranks, _threads(plan), "rows")

    def verify(self, plan: ReleasePlan) -> Report:
        """Victims were trained on the finished shards; the report is kept in WORKDIR/report."""
        self.craft(plan)
        records = self._records(plan)
        missing = [s for s in plan.trials() if not self._trial(plan, s).exists()]
        if plan.verify and missing:
            with self._timed("verify"):
                cache_clean(plan, self.workdir, "train", self.terminal)
                cache_clean(plan, self.workdir, "test", self.terminal)
                read_back(plan, self.workdir, records, self._places(plan).target)
                Asked(missing).save(self.workdir.asked_trials)
                ranks = min(plan.workers, len(missing))
                self._ranks("verify", plan, ranks, _threads(plan), "trainings")
        before = self._places(plan).chain_before()
        report = judge(plan, self.workdir, records, self._outcomes(plan), before)
        total = before.num_rows + sum(len(record.rows) for record in records)
        self.made = Made(plan, records, report, total, self.workdir.seconds())
        return report

    def card(self, plan: ReleasePlan) -> None:
        """What this release adds lies in WORKDIR/release as readers will find it; GateMissed where
        it does not hold."""
        report = self.verify(plan)
        self._demand_gate(plan, report)
        with self._timed("card"):
            before = self._places(plan).chain_before()
            stage_release(plan, self.workdir, self._records(plan), report, before)

    def publish(self, plan: ReleasePlan) -> None:
        """Readers of the target see the whole release, and the vault holds what the next one needs.
        HeadMoved where another release was published since this one was planned."""
        with self._timed("publish"):
            place = publish_release(plan, self.workdir, self._places(plan))
        if self.made is not None:
            self.made = replace(self.made, published=place, seconds=self.workdir.seconds())

    def run(self, options: ReleaseOptions) -> None:
        """Everything, from the source to the published release; nothing where the target has every
        row already."""
        missed: _Missed | None = None
        for _ in range(_RACES):
            self.made = None
            plan = self._plan_after(missed, options)
            if plan is None:
                return
            self._places(plan).prepare()
            try:
                self.card(plan)
                self.publish(plan)
                return
            except HeadMoved:
                self.terminal.line(f"{plan.target} was changed meanwhile: planning again")
            except GateMissed as problem:
                options = self._with_own_method(plan, options, problem)
                missed = _Missed(plan, problem)
        raise HubRefused(
            f"the target was changed {_RACES} times while this release was made: wait until "
            "nobody else publishes there, then run the same command again; nothing is lost"
        )

    def _plan_after(self, missed: _Missed | None, options: ReleaseOptions) -> ReleasePlan | None:
        """The plan for these options; where another method missed the gate, its shards make room,
        or, where this one must not give the rows a second noise, that is what it comes to."""
        try:
            plan = self.plan(options)
        except SecondNoise as noise:
            if missed is None:
                raise
            own = options.incremental_method
            raise GateMissed(
                f"{missed.problem.found}; and {own} cannot protect these rows instead: {noise}"
            ) from None
        if missed is not None:
            shutil.rmtree(self.workdir.shards(missed.plan.craft_key()), ignore_errors=True)
        return plan

    def _is_here(self, plan: ReleasePlan) -> bool:
        folder = self.workdir.state(plan.fit_key())
        return folder.exists() and not self._lacks_scratch(plan)

    def _is_kept(self, plan: ReleasePlan) -> bool:
        return plan.is_increment and self._places(plan).vault.has_state(plan.state_key())

    def _lacks_scratch(self, plan: ReleasePlan) -> bool:
        """Whether a first release's rows would be crafted without what fit left for them."""
        kept = self.workdir.scratch(plan.fit_key())
        return plan.configured().keeps_scratch and not plan.is_increment and not kept.exists()

    def _demand_own_state(self, plan: ReleasePlan) -> None:
        """InputError where the dataset's own method would be fitted anew: other noise than that of
        the rows before, by options that were not said again."""
        first = self._places(plan).chain_before().manifests[0]
        if plan.method == first.method:
            raise InputError(
                f"the state of {plan.target} holds nothing for {plan.method} with these options: "
                "say the same --target-map and --incremental-set as before, or choose another "
                "--incremental-method"
            )

    def _demand_gate(self, plan: ReleasePlan, report: Report) -> None:
        if report.verdict is None or report.verdict.holds:
            return
        advice = "another --method, more steps or a larger --budget, or raise --max-accuracy"
        if report.verdict.is_open:
            advice = "more --victim-epochs, or another --victim"
        elif plan.is_increment:
            first = self._places(plan).chain_before().manifests[0].method
            other = first if plan.method != first else increment.DEFAULT_INCREMENTAL
            advice = f"--incremental-method {other}, or raise --max-accuracy"
        found = (
            f"{report.verdict.reason}; nothing was published, the report is "
            f"{self.workdir.report / 'report.html'}"
        )
        raise GateMissed(f"{found}: try {advice}", found)

    def _with_own_method(
        self, plan: ReleasePlan, options: ReleaseOptions, missed: GateMissed
    ) -> ReleaseOptions:
        """The options with the dataset's own method, where an increment did not hold with the
        default one; raises `missed` otherwise."""
        own = None
        if plan.is_increment:
            own = increment.own_method(self._places(plan).chain_before(), options)
        if own is None or own == plan.method:
            raise missed
        self.terminal.line(
            f"with {plan.method} the release does not hold: the new rows are protected again, "
            f"with the dataset's own method {own}"
        )
        return replace(options, incremental_method=own, incremental_set=[])

    def _records(self, plan: ReleasePlan) -> list[ShardRecord]:
        """The records of the finished shards, in row order."""
        folder = self.workdir.shards(plan.craft_key())
        shards = cut(plan.num_rows, plan.rows_per_shard, plan.release)
        records = [finished(folder, plan.split, shard) for shard in shards]
        return [record for record in records if record is not None]

    def _places(self, plan: ReleasePlan) -> Places:
        if self._opened is None or self._opened.plan is not plan:
            self._opened = places_of(plan, self.terminal)
        return self._opened

    def _outcomes(self, plan: ReleasePlan) -> list[Outcome]:
        from evaluation.trial import Outcome

        if not plan.verify:
            return []
        paths = [self._trial(plan, spec) for spec in plan.trials()]
        return [Outcome.from_json(json.loads(path.read_text())) for path in paths]

    def _trial(self, plan: ReleasePlan, spec: object) -> Path:
        return self.workdir.trial(plan.trial_key(spec))  # type: ignore[arg-type]

    def _ranks(self, stage: str, plan: ReleasePlan, ranks: int, threads: int, unit: str) -> None:
        order = Order(
            stage,
            str(self.workdir.path),
            threads,
            plan.device,
            plan.hub_patience,
            reads_hub=stage == "craft" and is_hub_source(plan.source["spec"]),
        )
        self.launcher.run(order, ranks=ranks, unit=unit, max_restarts=plan.max_restarts)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = now()
        yield
        seconds = now() - started
        self.workdir.note_seconds(stage, seconds)
        self.terminal.line(f"{stage}: {duration(seconds)}")


@contextmanager
def open_pipeline(workdir: Workdir, terminal: Terminal) -> Iterator[Pipeline | None]:
    """The pipeline of a locked WORKDIR; None on a rank that follows one."""
    with opened(workdir, terminal) as launcher:
        yield None if launcher is None else Pipeline(launcher)


def _threads(plan: ReleasePlan) -> int:
    """Threads of a crafting or verifying rank: one on CPU, where ranks fill the cores."""
    return 1 if plan.device == "cpu" else 4
