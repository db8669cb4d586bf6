"""The figures of a report.json, seeds taken together, as its page shows them.

Everything here reads the file's values and computes nothing that a victim could have been asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTINGS = {
    "mix-percent": "mix-percent: that share of the rows is protected, the others are clean; its "
    "clean twin trains on the clean ones alone, in as many steps, so that the two differ by what "
    "the protected rows add.",
    "class-wise": "class-wise: only some classes are protected, and these alone are scored.",
    "noise-swap": "noise-swap: clean images carry the changes that were made for others.",
    "relabel": "relabel: classes are merged or split for training; fewer are easier to guess.",
}
"""What is no answer to protection but a circumstance, in a sentence each."""
_PLAIN = "none"


@dataclass(frozen=True)
class Figure:
    """An accuracy over seeds, as fractions: its mean, its range, and each seed's where known."""

    mean: float
    low: float
    high: float
    each: tuple[float, ...] = ()

    @classmethod
    def over(cls, values: Sequence[float]) -> Figure:
        return cls(sum(values) / len(values), min(values), max(values), tuple(values))

    @property
    def varies(self) -> bool:
        return self.low != self.high


@dataclass(frozen=True)
class Summary:
    """One victim under one countermeasure over all its seeds; rows: `release` or `new`, what it
    trained on. clean is None where no clean twin was trained, peak where no epoch was scored, and
    chance where it is not known."""

    victim: str
    held_out: bool
    countermeasure: str
    rows: str
    seeds: int
    clean: Figure | None
    protected: Figure
    peak: Figure | None
    renamed: Figure
    chance: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing was done against the protection."""
        return self.countermeasure == _PLAIN


@dataclass(frozen=True)
class Results:
    """What the victims came to. countermeasures: on all rows, plain training first and then by
    what was learnt; settings, and those trained on new rows alone, apart from them. judged: whom
    the verdict is about, or without one the worst in plain training, or else of all."""

    countermeasures: list[Summary]
    settings: list[Summary]
    new_rows: list[Summary]
    chance: float | None
    victims: list[str]
    verdict: tuple[str, str] | None
    """The victim and the countermeasure that the verdict is about."""

    @property
    def has_clean(self) -> bool:
        """Whether any victim has a clean twin."""
        return any(row.clean is not None for row in self.everything)

    @property
    def everything(self) -> list[Summary]:
        return [*self.countermeasures, *self.settings, *self.new_rows]

    @property
    def tabled(self) -> list[Summary]:
        """What stands in the table of every figure."""
        return [*self.countermeasures, *self.new_rows]

    @property
    def names(self) -> list[str]:
        """The countermeasures in the order they are shown."""
        return list(dict.fromkeys(row.countermeasure for row in self.countermeasures))

    @property
    def judged(self) -> Summary | None:
        about = (row for row in self.everything if (row.victim, row.countermeasure) == self.verdict)
        return next(about, self.worst(plain=True) or self.worst(plain=False))

    @property
    def strongest(self) -> Summary | None:
        """Who scored highest under any countermeasure, held out or not; None where none was
        tried."""
        countered = [row for row in self.countermeasures if not row.is_plain]
        return max(countered, key=lambda row: row.protected.mean, default=None)

    def worst(self, plain: bool) -> Summary | None:
        """Who scored highest in plain training, or else under a countermeasure, among those held
        out where there are any; None where nobody was trained so."""
        found = [row for row in self.countermeasures if row.is_plain == plain]
        judged = [row for row in found if row.held_out] or found
        return max(judged, key=lambda row: row.protected.mean, default=None)


def results(report: Mapping[str, Any]) -> Results:
    """The trials of this report, by victim and countermeasure."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for trial in report["trials"]:
        groups[trial["victim"], trial["countermeasure"], trial["rows"]].append(trial)
    rows = [_summary(trials) for trials in groups.values()]
    settings = report["settings"]
    whole = [row for row in rows if row.rows == "release"]
    return Results(
        countermeasures=_ordered(row for row in whole if row.countermeasure not in settings),
        settings=_ordered(row for row in whole if row.countermeasure in settings),
        new_rows=[row for row in rows if row.rows == "new"],
        chance=next((row.chance for row in _ordered(rows)), None),
        victims=list(dict.fromkeys(row.victim for row in rows)),
        verdict=_judged(report["verdict"]),
    )


def _judged(verdict: Mapping[str, Any] | None) -> tuple[str, str] | None:
    return (verdict["worst"]["victim"], verdict["worst"]["countermeasure"]) if verdict else None


def kind(countermeasure: str) -> str:
    """The name of a countermeasure that is written `NAME` or `NAME:PARAMETERS`."""
    return countermeasure.partition(":")[0]


def is_setting(countermeasure: str) -> bool:
    """Whether it is a circumstance, of those that are known here."""
    return kind(countermeasure) in SETTINGS


def setting_notes(countermeasures: Iterable[str]) -> list[str]:
    """What each circumstance among these is."""
    kinds = dict.fromkeys(map(kind, countermeasures))
    return [SETTINGS[name] for name in kinds if name in SETTINGS]


def _ordered(rows: Iterable[Summary]) -> list[Summary]:
    """By countermeasure, plain training first, then what gave most back; the victims in one order
    under each."""
    found = list(rows)
    most: dict[str, float] = defaultdict(float)
    for row in found:
        most[row.countermeasure] = max(most[row.countermeasure], row.protected.mean)
    return sorted(
        found, key=lambda row: (not row.is_plain, -most[row.countermeasure], row.countermeasure)
    )


def _summary(trials: Sequence[Mapping[str, Any]]) -> Summary:
    first = trials[0]
    clean = [trial["clean"] for trial in trials if trial["clean"] is not None]
    peaks = [trial["peak"] for trial in trials if trial["drift"] is not None]
    return Summary(
        victim=first["victim"],
        held_out=first["held_out"],
        countermeasure=first["countermeasure"],
        rows=first["rows"],
        seeds=len(trials),
        clean=Figure.over(clean) if clean else None,
        protected=Figure.over([trial["protected"] for trial in trials]),
        peak=Figure.over(peaks) if peaks else None,
        renamed=Figure.over([trial["renamed"] for trial in trials]),
        chance=first["chance"],
    )


def summary_from_spans(values: Mapping[str, Any]) -> Summary:
    """A summary whose figures are written `[mean, low, high]`, as in a comparison."""
    figures = {
        name: None if values[name] is None else Figure(*values[name])
        for name in ("clean", "protected", "peak", "renamed")
    }
    plain = {name: values[name] for name in ("victim", "held_out", "countermeasure", "rows")}
    return Summary(**plain, seeds=values["seeds"], **figures)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Curves:
    """The test accuracy by epoch of every seed of one victim under one countermeasure, and of its
    clean twins; fractions."""

    victim: str
    countermeasure: str
    protected: list[list[float]]
    clean: list[list[float]]


def curves(report: Mapping[str, Any], order: Sequence[Summary]) -> list[Curves]:
    """The curves of these summaries, in their order; none of trainings whose epochs were not
    scored."""
    found: dict[tuple[str, ...], list[list[float]]] = defaultdict(list)
    for training in report["trainings"]:
        spec = training["spec"]
        key = (spec["victim"], spec["countermeasure"], spec["rows"], spec["data"])
        if training["curve"]:
            found[key].append([epoch["test_accuracy"] for epoch in training["curve"]])
    keys = [(row.victim, row.countermeasure, row.rows) for row in order]
    return [
        Curves(key[0], key[1], found[*key, "protected"], found[*key, "clean"])
        for key in keys
        if (*key, "protected") in found
    ]


def worst_training(report: Mapping[str, Any], worst: Summary | None) -> Mapping[str, Any] | None:
    """Of the trainings on the release that this summary is of, the one that the verdict is about,
    or else the one that scored highest."""
    if worst is None:
        return None
    wanted = (worst.victim, worst.countermeasure, worst.rows, "protected")
    found = [training for training in report["trainings"] if _key(training["spec"]) == wanted]
    if report["verdict"]:
        seed = report["verdict"]["worst"]["seed"]
        found = [training for training in found if training["spec"]["seed"] == seed]
    return max(found, key=lambda training: training["final"], default=None)


def _key(spec: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return spec["victim"], spec["countermeasure"], spec["rows"], spec["data"]
