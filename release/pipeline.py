"""The stages in order. Each first brings about what it needs, and skips itself where its output is
already valid, so that running the same command again is the resume.

    plan -> fit -> craft -> verify -> card -> publish
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from release import cache
from release.errors import GateMissed, ShardCorrupt
from release.launch import JoinedWorld, is_joined, run_ranks
from release.options import ReleaseOptions
from release.plan import ReleasePlan
from release.publish import LocalTarget
from release.resolve import resolve
from release.shards import ShardRecord, cut, finished
from release.source import Source
from release.staging import judge, stage_release, staged_release
from release.survey import Survey
from release.terminal import Terminal, duration, now
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    from evaluation.report import Report
    from evaluation.verify import Outcome


@dataclass(frozen=True)
class Made:
    """What a run came to: its plan, its shards, its report, the seconds of each stage."""

    plan: ReleasePlan
    records: list[ShardRecord]
    report: Report
    seconds: dict[str, float]
    published: bool = False


class Pipeline:
    """One release being made in one WORKDIR. In a world that was started from outside, this is its
    first rank, and `world` the others."""

    def __init__(
        self, workdir: Workdir, terminal: Terminal, world: JoinedWorld | None = None
    ) -> None:
        self.workdir = workdir
        self.terminal = terminal
        self.world = world
        self.made: Made | None = None

    def plan(self, options: ReleaseOptions) -> ReleasePlan:
        """The plan is on disk and says all that later stages need."""
        with self._timed("plan"):
            plan = resolve(options, self.workdir, self.terminal)
        plan.save(self.workdir.plan)
        return plan

    def fit(self, plan: ReleasePlan) -> None:
        """The State is on disk."""
        if not self.workdir.state(plan.fit_key()).exists():
            with self._timed("fit"):
                self._cache_rows(plan)
                self._ranks("fit", plan, plan.fit_workers, plan.fit_threads, "epochs")

    def craft(self, plan: ReleasePlan) -> None:
        """Every shard is finished."""
        self.fit(plan)
        shards = cut(plan.num_rows, plan.rows_per_shard)
        if len(self._records(plan)) < len(shards):
            with self._timed("craft"):
                ranks = min(plan.workers, len(shards))
                self._ranks("craft", plan, ranks, _threads(plan), "rows")

    def verify(self, plan: ReleasePlan) -> Report:
        """Victims were trained on the finished shards; the report is kept in WORKDIR/report."""
        self.craft(plan)
        records = self._records(plan)
        missing = [s for s in plan.trials() if not self._trial(plan, s).exists()]
        if plan.verify and missing:
            with self._timed("verify"):
                self._cache_rows(plan)
                self._read_back(plan, records)
                asked = json.dumps([asdict(spec) for spec in missing])
                write_private(self.workdir.asked_trials, asked)
                ranks = min(plan.workers, len(missing))
                self._ranks("verify", plan, ranks, _threads(plan), "trainings")
        report = judge(plan, self.workdir, records, self._outcomes(plan))
        self.made = Made(plan, records, report, self.workdir.seconds())
        return report

    def card(self, plan: ReleasePlan) -> None:
        """The whole release lies in WORKDIR/release as readers will find it; GateMissed where it
        does not hold."""
        report = self.verify(plan)
        if report.verdict is not None and not report.verdict.holds:
            raise GateMissed(
                f"{report.verdict.reason}; nothing was published, the report is in "
                f"{self.workdir.report}: try another --method, more steps or a larger --budget, "
                "or raise --max-accuracy"
            )
        with self._timed("card"):
            stage_release(plan, self.workdir, self._records(plan), report)

    def publish(self, plan: ReleasePlan) -> None:
        """Readers of the target see the whole release."""
        target = LocalTarget(Path(plan.target))
        target.refuse(plan.source["spec"])
        with self._timed("publish"):
            target.publish(staged_release(plan, self.workdir))
        if self.made is not None:
            self.made = replace(self.made, published=True, seconds=self.workdir.seconds())

    def run(self, options: ReleaseOptions) -> None:
        """Everything, from the source to the published release."""
        plan = self.plan(options)
        self.card(plan)
        self.publish(plan)

    def _records(self, plan: ReleasePlan) -> list[ShardRecord]:
        """The records of the finished shards, in row order."""
        folder = self.workdir.shards(plan.craft_key())
        shards = cut(plan.num_rows, plan.rows_per_shard)
        records = [finished(folder, plan.split, shard) for shard in shards]
        return [record for record in records if record is not None]

    def _cache_rows(self, plan: ReleasePlan) -> None:
        """Rows at net size are on disk: what fit and victims train on, and the clean test split."""
        build = partial(
            cache.build,
            Source.from_json(plan.source).bare(),
            net_size=plan.net_size,
            num_classes=plan.num_classes,
            seed=int(plan.seed[:8], 16),
        )
        parts = [("train", plan.split, plan.fit_rows)]
        if plan.test_split is not None:
            parts.append(("test", plan.test_split, plan.test_rows))
        for part, split, num_rows in parts:
            folder = self.workdir.cache(plan.cache_key(), part)
            if not folder.exists():
                survey = Survey.load(self.workdir.survey(split))
                rows = cache.sample(survey, num_rows, plan.seed)
                with self.terminal.stage(f"cache {split}") as tell:
                    build(split=split, survey=survey, rows=rows, folder=folder, progress=tell)

    def _read_back(self, plan: ReleasePlan, records: list[ShardRecord]) -> None:
        """What victims train on is on disk, read from the finished shards as a reader would."""
        import datasets

        from evaluation.released import read_release

        datasets.disable_progress_bars()
        folder = self.workdir.protected(plan.craft_key())
        if not folder.exists():
            shards = self.workdir.shards(plan.craft_key())
            chosen = plan.formats[0]
            files = [shards / file.path for record in records for file in record.of_format(chosen)]
            try:
                read_release(
                    files,
                    chosen,
                    image_column=plan.source["image_column"],
                    label_column=plan.source["label_column"],
                    num_classes=plan.num_classes,
                    net_size=plan.net_size,
                    folder=folder,
                )
            except ValueError as problem:
                raise ShardCorrupt(f"shards of {shards} do not read back: {problem}") from None

    def _outcomes(self, plan: ReleasePlan) -> list[Outcome]:
        from evaluation.verify import Outcome

        if not plan.verify:
            return []
        paths = [self._trial(plan, spec) for spec in plan.trials()]
        return [Outcome.from_json(json.loads(path.read_text())) for path in paths]

    def _trial(self, plan: ReleasePlan, spec: object) -> Path:
        return self.workdir.trial(plan.trial_key(spec))  # type: ignore[arg-type]

    def _ranks(self, stage: str, plan: ReleasePlan, ranks: int, threads: int, unit: str) -> None:
        """The stage has run in the joined world, where there is one of the right size, else in
        ranks of our own."""
        self.workdir.clear_progress()
        with self.terminal.watching(stage, self.workdir.progress, unit):
            if self.world is not None and (stage != "fit" or self.world.size == ranks):
                self.world.run(stage, self.workdir, threads)
            else:
                run_ranks(
                    stage,
                    self.workdir,
                    ranks=ranks,
                    threads=threads,
                    max_restarts=plan.max_restarts,
                )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = now()
        yield
        seconds = now() - started
        self.workdir.note_seconds(stage, seconds)
        self.terminal.line(f"{stage}: {duration(seconds)}")


@contextmanager
def open_pipeline(workdir: Workdir, terminal: Terminal) -> Iterator[Pipeline | None]:
    """The pipeline of a locked WORKDIR. Started as a rank that is not the first, this process does
    what the first one calls for, and then None is what is left to do."""
    if not is_joined():
        with workdir.locked():
            yield Pipeline(workdir, terminal)
        return
    world = JoinedWorld()
    if not world.is_first:
        world.follow()
        yield None
        return
    try:
        with workdir.locked():
            yield Pipeline(workdir, terminal, world)
    finally:
        world.end()


def _threads(plan: ReleasePlan) -> int:
    """Threads of a crafting or verifying rank: one on CPU, where ranks fill the cores."""
    return 1 if plan.device == "cpu" else 4
