"""What a rank does in verification: it trains the victims that fall to it, one after another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crafting.batch import PixelSplit
from release.errors import InputError
from release.plan import ReleasePlan
from release.rank import Rank
from release.verification.plan import VerificationPlan
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    from evaluation.analyses import Material
    from evaluation.trial import Rows, TrialSpec
    from evaluation.verify import Splits


@dataclass(frozen=True)
class Asked:
    """What the ranks are to do, as the parent writes it down once: a rank that looked for itself
    could miss what another finishes. But for each rank's first, no training is begun that is
    expected to end after `deadline`, in seconds since 1970, and no analysis after it."""

    trials: Sequence[TrialSpec]
    analyses: Sequence[str] = ()
    deadline: float | None = None

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Asked:
        from evaluation.trial import TrialSpec

        values = json.loads(path.read_text())
        trials = [TrialSpec(**spec) for spec in values["trials"]]
        return cls(trials, values["analyses"], values["deadline"])

    def share(self, rank: int, world: int) -> list[TrialSpec]:
        """The trainings of this rank: where time is limited in the order given, twins together,
        else so that all ranks end at about the same time."""
        from evaluation.trial import schedule

        if self.deadline is None:
            return schedule(self.trials, world)[rank]
        pairs = list(dict.fromkeys(replace(spec, data="protected") for spec in self.trials))
        mine = set(pairs[rank::world])
        return [spec for spec in self.trials if replace(spec, data="protected") in mine]


class Ground(Protocol):
    """The images that victims of one plan train on and are scored on."""

    def splits(self, spec: TrialSpec) -> Splits:
        """What this training needs."""
        ...

    def path(self, spec: TrialSpec) -> Path:
        """Where its outcome is kept."""
        ...


def verify_planned(rank: Rank) -> None:
    """Every trial of a planned release that falls to this rank has its outcome on disk."""
    asked = Asked.load(rank.workdir.asked_trials)
    _train(rank, Planned(rank.plan, rank.workdir), asked)


def verify_published(rank: Rank) -> None:
    """Every trial and analysis of a published release that falls to this rank, and for which there
    is time, has what came of it on disk; where no training is left, one analysis in any case, so
    that whoever runs the same command again gets on."""
    asked = Asked.load(rank.workdir.asked_trials)
    ground = Published(rank.verification, rank.workdir)
    _train(rank, ground, asked)
    for number, written in enumerate(asked.analyses[rank.rank :: rank.world]):
        is_due = number == 0 and not asked.trials
        if is_due or asked.deadline is None or time.time() < asked.deadline:
            _analyse(rank, ground, written)


def _train(rank: Rank, ground: Ground, asked: Asked) -> None:
    mine = [s for s in asked.share(rank.rank, rank.world) if not ground.path(s).exists()]
    for number, spec in enumerate(_in_time(mine, asked.deadline)):
        _train_one(rank, ground, spec, partial(_tell_after, rank, number, len(mine)))


def _in_time(specs: Sequence[TrialSpec], deadline: float | None) -> Iterator[TrialSpec]:
    """Those that will be done by the deadline, as far as those before tell; the first in any case,
    so that whoever runs the same command again gets on."""
    seconds, cost = 0.0, 0.0
    for spec in specs:
        began = time.time()
        if cost and deadline is not None and began + spec.cost * seconds / cost > deadline:
            continue
        yield spec
        seconds, cost = seconds + time.time() - began, cost + spec.cost


def _train_one(
    rank: Rank, ground: Ground, spec: TrialSpec, progress: Callable[[float], None]
) -> None:
    """The outcome of one trial is on disk."""
    from evaluation.verify import run

    splits = ground.splits(spec)
    try:
        outcome = run(spec, splits, device=rank.device, progress=progress)
    except ValueError as problem:  # more trying would not mend it
        raise InputError(f"{spec.victim} under {spec.public.countermeasure}: {problem}") from None
    write_private(ground.path(spec), json.dumps(outcome.to_json(), allow_nan=False))


def _analyse(rank: Rank, ground: Published, written: str) -> None:
    from evaluation.analyses import parse

    path = ground.analysis_path(written)
    if not path.exists():
        try:
            found = parse(written).run(ground.material(rank), lambda done: None)
        except ValueError as problem:
            raise InputError(f"analysis {written}: {problem}") from None
        write_private(path, json.dumps(found.to_json(), allow_nan=False))


def _tell_after(rank: Rank, before: float, total: float, done: float) -> None:
    rank.tell(before + done, total)


@dataclass(frozen=True)
class Planned:
    """The ground of a release on its way out: clean rows from the cache, protected ones from the
    finished shards."""

    plan: ReleasePlan
    workdir: Workdir

    def path(self, spec: TrialSpec) -> Path:
        return self.workdir.trial(self.plan.trial_key(spec))

    def splits(self, spec: TrialSpec) -> Splits:
        from evaluation.verify import Splits

        rows = self._training_rows(spec.rows)
        train = self._protected if spec.data == "protected" else self._clean
        return Splits(
            # Twins see their rows in the same order.
            train=replace(train.take(rows), seed=spec.seed),
            test=self._test,
            twin=self._clean.take(rows),
        )

    @cached_property
    def _clean(self) -> PixelSplit:
        return PixelSplit.load(self.workdir.cache(self.plan.cache_key(), "train"))

    @cached_property
    def _protected(self) -> PixelSplit:
        return PixelSplit.load(self.workdir.protected(self.plan.protected_key()))

    @cached_property
    def _test(self) -> PixelSplit:
        if self.plan.test_split is not None:
            return PixelSplit.load(self.workdir.cache(self.plan.cache_key(), "test"))
        return self._clean.take(self._held_out())

    def _training_rows(self, rows: Rows) -> list[int]:
        chosen = self._clean.rows
        if rows == "new" and self.plan.pairs is not None:
            pairs = self.workdir.pairs(self.plan.pairs)
            chosen = pairs[pairs[:, 1] >= self.plan.first_row, 0]
        held_out = set(self._held_out()) if self.plan.test_split is None else set()
        return [int(row) for row in chosen if int(row) not in held_out]

    def _held_out(self) -> list[int]:
        return held_out_rows(self._clean, self.plan.seed)


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


@dataclass(frozen=True)
class Published:
    """The ground of something published: its rows as they are delivered, and the clean ones."""

    plan: VerificationPlan
    workdir: Workdir

    def path(self, spec: TrialSpec) -> Path:
        return self.workdir.trial(self.plan.trial_key(spec))

    def analysis_path(self, written: str) -> Path:
        """Where the findings of an analysis are kept."""
        return self.workdir.trial(self.plan.analysis_key(written))

    def splits(self, spec: TrialSpec) -> Splits:
        from evaluation.verify import Splits

        train = self.protected if spec.data == "protected" else self.clean
        assert train is not None, "no clean twin is asked for without clean rows"
        return Splits(train=replace(train, seed=spec.seed), test=self.test, twin=self.clean)

    def material(self, rank: Rank) -> Material:
        """What analyses look at."""
        from evaluation.analyses import Material

        return Material(
            protected=self.protected,
            clean=self.clean,
            test=self.test,
            net_size=self.plan.net_size,
            preset=self.plan.preset,
            device=rank.device,
            seed=0,
            epochs=self.plan.epochs,
        )

    @cached_property
    def protected(self) -> PixelSplit:
        """The released rows that victims train on."""
        return PixelSplit.load(self.workdir.cache(self.plan.data_key(), "protected"))

    @cached_property
    def clean(self) -> PixelSplit | None:
        """The clean images of the same rows, by the same numbers."""
        if self.plan.clean is None:
            return None
        return PixelSplit.load(self.workdir.cache(self.plan.data_key(), "clean"))

    @cached_property
    def test(self) -> PixelSplit:
        """What victims are scored on."""
        return PixelSplit.load(self.workdir.cache(self.plan.data_key(), "test"))
