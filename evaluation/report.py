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
from evaluation.verify import Outcome, Trial, pair

__all__ = ["Gate", "Report", "Span", "Summary", "Verdict", "report_on", "table"]

SCHEMA_VERSION = 1
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


class Summary(NamedTuple):
    """One victim under one countermeasure over all its seeds."""

    victim: str
    held_out: bool
    countermeasure: str
    seeds: int
    clean: Span
    protected: Span
    peak: Span
    renamed: Span


@dataclass(frozen=True)
class Report:
    """Facts of the release, every training, its trials, and what follows from them.

    release: public facts, such as rows, method and budget; verdict is None where nothing was
    verified.
    """

    release: Mapping[str, Any]
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
        """The trials by victim and countermeasure, seeds taken together."""
        groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        for trial in self.trials:
            groups[trial.victim, trial.countermeasure].append(trial)
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
) -> Report:
    """The report on these trainings; without any, one that says that nothing was verified."""
    trials = pair(outcomes, surrogate_name)
    return Report(
        release=release,
        outcomes=tuple(outcomes),
        trials=tuple(trials),
        visibility=visibility,
        gate=gate,
        verdict=gate.judge(trials, num_classes) if trials else None,
        flags=tuple(raised(Doubted(trials, num_classes, gate, license, preset))),
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
    """The header and one line for each victim and countermeasure, as text in per cent."""
    header = ("victim", "held out", "countermeasure", "clean", "protected", "peak", "renamed")
    return [header, *(_cells(summary) for summary in report.summaries)]


def _cells(row: Summary) -> tuple[str, ...]:
    figures = (row.clean, row.protected, row.peak, row.renamed)
    held_out = "yes" if row.held_out else "no"
    return (row.victim, held_out, row.countermeasure, *map(str, figures))
