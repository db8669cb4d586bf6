"""What verification found, as one value: kept as report.json, shown as a table, quoted by the card.

report.schema.json documents the file. Accuracies are fractions everywhere but in tables.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crafting.registry import Preset
from evaluation.flags import Doubted, Flag, raised
from evaluation.gate import Gate, Verdict
from evaluation.integrity import Visibility
from evaluation.scoring import dominant_shift, percent
from evaluation.verify import Outcome, Rows, Trial, pair

__all__ = ["Gate", "Report", "Sample", "Span", "Summary", "Verdict", "report_on", "table"]

SCHEMA_VERSION = 2
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
    `TrialSpec`."""

    victim: str
    held_out: bool
    countermeasure: str
    rows: Rows
    seeds: int
    clean: Span
    protected: Span
    peak: Span
    renamed: Span


@dataclass(frozen=True)
class Report:
    """Facts of the release, every training, its trials, and what follows from them.

    release: public facts, such as rows, method and budget; sample is None where victims trained on
    all rows of a first release; verdict is None where nothing was verified.
    """

    release: Mapping[str, Any]
    sample: Sample | None
    outcomes: tuple[Outcome, ...]
    trials: tuple[Trial, ...]
    visibility: Visibility
    gate: Gate
    verdict: Verdict | None
    flags: tuple[Flag, ...]
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        visibility = self.visibility
        return {
            "schema_version": SCHEMA_VERSION,
            "release": dict(self.release),
            "sample": None if self.sample is None else self.sample._asdict(),
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "gate": asdict(self.gate),
            "flags": [asdict(flag) for flag in self.flags],
            "trials": [asdict(trial) for trial in self.trials],
            "trainings": [_training(outcome) for outcome in self.outcomes],
            "visibility": {
                **visibility.to_json(),
                "psnr": visibility.psnr,
                "ssim": visibility.ssim,
                "shift": visibility.shift,
                "rms_level": visibility.rms_level,
            },
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


def report_on(
    outcomes: Sequence[Outcome],
    *,
    surrogate_name: str | None,
    num_classes: int,
    gate: Gate,
    visibility: Visibility,
    preset: Preset,
    license: str | None,
    release: Mapping[str, Any],
    hardware: Mapping[str, Any],
    versions: Mapping[str, str],
    sample: Sample | None = None,
    source_is_public: bool = False,
    typed_seed: bool = False,
) -> Report:
    """The report on these trainings; without any, one that says that nothing was verified.
    ValueError where none is on all rows of the release."""
    trials = pair(outcomes, surrogate_name)
    doubted = Doubted(trials, num_classes, gate, license, preset, source_is_public, typed_seed)
    return Report(
        release=release,
        sample=sample,
        outcomes=tuple(outcomes),
        trials=tuple(trials),
        visibility=visibility,
        gate=gate,
        verdict=gate.judge(trials, num_classes) if trials else None,
        flags=tuple(raised(doubted)),
        hardware=hardware,
        versions=versions,
    )


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
        clean=_span(trial.clean for trial in trials),
        protected=_span(trial.protected for trial in trials),
        peak=_span(trial.peak for trial in trials),
        renamed=_span(trial.renamed for trial in trials),
    )


def _span(figures: Iterable[float]) -> Span:
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
    figures = (row.clean, row.protected, row.peak, row.renamed)
    held_out = "yes" if row.held_out else "no"
    trained_on = _TRAINED_ON[row.rows]
    return (row.victim, held_out, trained_on, row.countermeasure, *map(str, figures))
