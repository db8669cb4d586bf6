"""What verification found, as one value: kept as report.json, shown as a table, quoted by the card.

report.schema.json documents the file. Accuracies are fractions everywhere but in tables.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crafting.registry import Preset
from evaluation.analyses import Findings
from evaluation.doubted import Doubted
from evaluation.flags import Flag, raised
from evaluation.gate import Gate, Verdict, judged
from evaluation.integrity import Visibility
from evaluation.scoring import dominant_shift, percent
from evaluation.trial import Outcome, Rows, Trial, TrialSpec, pair

__all__ = [
    "Gate",
    "Report",
    "Sample",
    "Span",
    "Subject",
    "Summary",
    "Verdict",
    "report_on",
    "table",
]

SCHEMA_VERSION = 4
SCHEMA = Path(__file__).with_name("report.schema.json")


class Span(NamedTuple):
    """A figure over several seeds; all three are equal where there was one."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return percent(self.mean)
        return f"{percent(self.mean)} ({percent(self.low)} to {percent(self.high)})"


class Sample(NamedTuple):
    """The rows that victims of a release trained on which adds to others: of `published` rows of
    the releases before, `old`, drawn by the seed, and its own `new` ones."""

    old: int
    published: int
    new: int


class Summary(NamedTuple):
    """One victim under one countermeasure over all its seeds; rows: `release` or `new`, as in
    `TrialSpec`; peak is None where no epoch was scored."""

    victim: str
    held_out: bool
    countermeasure: str
    rows: Rows
    seeds: int
    clean: Span | None
    protected: Span
    peak: Span | None
    renamed: Span


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a report is about, as everybody may know it.

    facts: of the release, such as rows, method and budget; surrogates: the nets that the method
    trained, if any; delivered_as: what was done to the images before victims met them, as
    `evaluation.delivery` writes it; test_split: of the clean images, what victims were scored on,
    or None where that was a tenth of the released rows, which none trained on; sample is None where
    victims trained on all rows of a first release. The others are as in `Doubted`.
    """

    name: str
    date: str
    class_names: Sequence[str]
    facts: Mapping[str, Any]
    preset: Preset
    test_split: str | None
    license: str | None = None
    surrogates: Sequence[str] = ()
    delivered_as: str = ""
    sample: Sample | None = None
    labelled: bool = True
    source_is_public: bool = False
    typed_seed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "date": self.date,
            "class_names": list(self.class_names),
            "release": dict(self.facts),
            "delivered_as": self.delivered_as or None,
            "test_split": self.test_split,
            "sample": None if self.sample is None else self.sample._asdict(),
        }


@dataclass(frozen=True)
class Report:
    """Every training of a release, its trials, and what follows from them.

    left_out, unexamined: trainings and analyses that were asked for and not made; analyses: what
    each, as it is written, found; visibility is None where nobody had the clean images; verdict is
    None where nothing was verified, or nothing that the gate looks at had a clean twin.
    """

    subject: Subject
    outcomes: tuple[Outcome, ...]
    trials: tuple[Trial, ...]
    left_out: tuple[TrialSpec, ...]
    unexamined: tuple[str, ...]
    analyses: Mapping[str, Findings]
    visibility: Visibility | None
    gate: Gate
    verdict: Verdict | None
    flags: tuple[Flag, ...]
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            **self.subject.to_json(),
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "gate": asdict(self.gate),
            "flags": [asdict(flag) for flag in self.flags],
            "trials": [asdict(trial) for trial in self.trials],
            "settings": sorted({t.countermeasure for t in self.trials if t.is_setting}),
            "left_out": [asdict(spec) for spec in self.left_out],
            "unexamined": list(self.unexamined),
            "analyses": [{"analysis": k, **found.to_json()} for k, found in self.analyses.items()],
            "trainings": [_training(outcome) for outcome in self.outcomes],
            "visibility": None if self.visibility is None else _seen(self.visibility),
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
        }

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @property
    def summaries(self) -> list[Summary]:
        """The trials by rows, victim and countermeasure, seeds taken together; those on all rows
        come first."""
        groups: dict[tuple[str, str, Rows], list[Trial]] = defaultdict(list)
        for trial in sorted(self.trials, key=lambda trial: trial.rows == "new"):
            groups[trial.victim, trial.countermeasure, trial.rows].append(trial)
        return [_summary(group) for group in groups.values()]

    @property
    def worst(self) -> Summary | None:
        """Of the victims that the gate looks at, the one that scored highest over its seeds, which
        need not have the seed nearest to what it allows; None where none was trained."""
        looked_at = {(trial.victim, trial.countermeasure) for trial in judged(self.trials)}
        found = (
            row
            for row in self.summaries
            if row.rows == "release" and (row.victim, row.countermeasure) in looked_at
        )
        return max(found, key=lambda row: row.protected.mean, default=None)


def report_on(
    outcomes: Sequence[Outcome],
    subject: Subject,
    *,
    gate: Gate,
    visibility: Visibility | None,
    hardware: Mapping[str, Any],
    versions: Mapping[str, str],
    left_out: Sequence[TrialSpec] = (),
    unexamined: Sequence[str] = (),
    analyses: Mapping[str, Findings] = MappingProxyType({}),
) -> Report:
    """The report on these trainings; without any, one that says that nothing was verified.
    ValueError where none is on all rows of the release."""
    shown = [replace(outcome, spec=outcome.spec.public) for outcome in outcomes]
    trials = pair(shown, subject.surrogates)
    return Report(
        subject=subject,
        outcomes=tuple(shown),
        trials=tuple(trials),
        left_out=tuple(spec.public for spec in left_out),
        unexamined=tuple(unexamined),
        analyses=dict(analyses),
        visibility=visibility,
        gate=gate,
        verdict=gate.judge(trials) if trials else None,
        flags=tuple(raised(_doubted(trials, subject, gate, len(left_out) + len(unexamined)))),
        hardware=hardware,
        versions=versions,
    )


def _doubted(trials: Sequence[Trial], subject: Subject, gate: Gate, left_out: int) -> Doubted:
    return Doubted(
        trials,
        gate,
        subject.license,
        source_is_public=subject.source_is_public,
        typed_seed=subject.typed_seed,
        labelled=subject.labelled,
        left_out=left_out,
    )


def _seen(visibility: Visibility) -> dict[str, Any]:
    return {
        **visibility.to_json(),
        "psnr": visibility.psnr,
        "ssim": visibility.ssim,
        "shift": visibility.shift,
        "rms_level": visibility.rms_level,
    }


def _training(outcome: Outcome) -> dict[str, Any]:
    shift, share = dominant_shift(np.asarray(outcome.confusion))
    return outcome.to_json() | {"dominant_shift": {"classes": shift, "share": share}}


def _summary(trials: Sequence[Trial]) -> Summary:
    first = trials[0]
    return Summary(
        first.victim,
        first.held_out,
        first.countermeasure,
        first.rows,
        len(trials),
        clean=_span(trial.clean for trial in trials if trial.clean is not None),
        protected=_over(trial.protected for trial in trials),
        peak=_span(trial.peak for trial in trials if trial.drift is not None),
        renamed=_over(trial.renamed for trial in trials),
    )


def _span(figures: Iterable[float]) -> Span | None:
    """Over the seeds that have the figure."""
    values = list(figures)
    return _over(values) if values else None


def _over(figures: Iterable[float]) -> Span:
    values = list(figures)
    return Span(sum(values) / len(values), min(values), max(values))


def table(report: Report) -> list[tuple[str, ...]]:
    """The header and one line for each victim, countermeasure and kind of rows, as text in per
    cent. Every column is there; whoever shows it may leave out `trained on` and `countermeasure`
    where they say the same in each line."""
    return [_HEADER, *(_cells(summary) for summary in report.summaries)]


_HEADER = (
    "victim",
    "held out",
    "trained on",
    "countermeasure",
    "clean",
    "protected",
    "peak",
    "renamed",
)
_TRAINED_ON: Mapping[Rows, str] = {"release": "all rows", "new": "new rows alone"}


def _cells(row: Summary) -> tuple[str, ...]:
    spans = (row.clean, row.protected, row.peak, row.renamed)
    figures = ("not measured" if span is None else str(span) for span in spans)
    held_out = "yes" if row.held_out else "no"
    return (row.victim, held_out, _TRAINED_ON[row.rows], row.countermeasure, *figures)
