"""What benchmarks.potency has measured, read for the pages that show it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.potency_work import protocol, usual_budget
from benchmarks.record import RESULTS
from crafting.registry import Preset

FOLDER = RESULTS / "potency"


@dataclass(frozen=True)
class Claim:
    """One file of results: a method within a budget on one set of rows."""

    facts: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.facts["method"])

    @property
    def settings(self) -> dict[str, str]:
        """What was set otherwise than in the preset."""
        found: dict[str, str] = self.facts["settings"]
        return found

    @property
    def written(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The method and its settings, as studies name them."""
        return self.name, tuple(self.settings.items())

    @property
    def budget(self) -> str:
        return str(self.facts["budget"])

    @property
    def within(self) -> str:
        """The budget in words, where it is not the one that the method is usually measured within;
        else nothing."""
        is_usual = self.budget == usual_budget(self.name, self.scale)
        return "" if is_usual else f" within {self.budget}"

    @property
    def scale(self) -> Preset:
        scale: Preset = self.facts["scale"]
        return scale

    @property
    def dataset(self) -> str:
        return str(self.facts["dataset"])

    @property
    def rows(self) -> int:
        return int(self.facts["rows"])

    @property
    def is_current(self) -> bool:
        """Whether the same work would come out like this today."""
        return bool(self.facts.get("protocol") == protocol(self.name))

    @property
    def is_whole(self) -> bool:
        """Whether on all rows of the data set; of what was measured before that was noted: no."""
        return self.rows == self.facts.get("source_rows")

    @property
    def seeds(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.facts["measured"]
        return found

    @property
    def passes(self) -> int:
        """Gradients per image that its noise takes, in fit and craft together."""
        return int(self.seeds[0]["fit_passes"]) + int(self.seeds[0]["passes"])

    @property
    def written_passes(self) -> str:
        """The same for people, as a sum where both have some."""
        return in_fit_and_craft(*(int(self.seeds[0][of]) for of in ("fit_passes", "passes")))

    def cost(self, figure: str) -> float | None:
        """The mean over seeds of seconds or dB."""
        values = [seed[figure] for seed in self.seeds if seed[figure] is not None]
        return mean(values) if values else None

    def victims(self) -> list[str]:
        """Who was trained on it in the plain way."""
        trials = self.seeds[0]["trials"]
        return [trial["victim"] for trial in trials if trial["countermeasure"] == "none"]

    def epochs(self) -> list[int]:
        """How long each of them was."""
        trials = self.seeds[0]["trials"]
        return [trial["epochs"] for trial in trials if trial["countermeasure"] == "none"]

    def each(self, figure: str, victim: str, countermeasure: str = "none") -> list[float]:
        """A figure of one victim, of each seed that it was measured with."""
        return [
            trial[figure]
            for seed in self.seeds
            for trial in seed["trials"]
            if (trial["victim"], trial["countermeasure"]) == (victim, countermeasure)
        ]

    def mean(self, figure: str, victim: str, countermeasure: str = "none") -> float | None:
        """The same over the seeds there are; None where it was not measured."""
        values = self.each(figure, victim, countermeasure)
        return mean(values) if values else None

    @property
    def learnt(self) -> float:
        """What the victim that learns most comes to: the less, the better it protects."""
        return max(self.mean("protected", victim) or 0.0 for victim in self.victims())


def load(folder: Path = FOLDER) -> list[Claim]:
    """All claims about methods as their presets are, by file name."""
    return [claim for claim in load_all(folder) if not claim.settings]


def load_all(folder: Path = FOLDER) -> list[Claim]:
    """All claims, by file name."""
    return [Claim(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def together(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims that can be compared, the best protection first; groups with the most claims first."""
    groups: dict[tuple[Any, ...], list[Claim]] = defaultdict(list)
    for claim in claims:
        victims = zip(claim.victims(), claim.epochs(), strict=True)
        earlier = None if claim.is_current else claim.facts.get("protocol", 0)
        way = earlier, _machine_name(claim), claim.within
        groups[claim.scale, claim.dataset, claim.rows, *way, *victims].append(claim)
    ordered = [sorted(group, key=lambda claim: claim.learnt) for group in groups.values()]
    return sorted(ordered, key=lambda group: -len(group))


def circumstances(group: Sequence[Claim]) -> str:
    """A paragraph: what the figures of claims that can be compared are of."""
    most = max(group, key=lambda claim: len(claim.seeds))
    seeds = len(most.seeds)
    of = "one seed" if seeds == 1 else f"means of up to {seeds} seeds, with their range"
    earlier = "" if most.is_current else _EARLIER
    return (
        f"`{most.scale}` preset{most.within}, {most.rows:,} rows of {most.dataset}, victims "
        f"{' / '.join(most.victims())}, which learn {by_victim(most, 'clean')} % from the clean "
        f"rows; {of}, on {' and '.join(sorted({_machine(claim) for claim in group}))}.{earlier}\n\n"
    )


_EARLIER = " Of an earlier state of this program: to be measured again."


def by_victim(claim: Claim, figure: str, *, ranges: bool = False) -> str:
    """The means, in per cent, of the victims in their order; with `ranges`, what the seeds reach
    from and to, where there are several."""
    cells = []
    for victim in claim.victims():
        values = claim.each(figure, victim)
        between = f" ({percent(min(values))}-{percent(max(values))})"
        cells.append(percent(mean(values)) + between * (ranges and len(values) > 1))
    return " / ".join(cells)


def _machine(claim: Claim) -> str:
    """What it was measured on."""
    name = _machine_name(claim)
    return f"{name} (seconds are shared with other work)" if claim.facts["at_once"] > 1 else name


def _machine_name(claim: Claim) -> str:
    there = claim.facts["measured_on"]
    return ", ".join(there["gpus"]) or "{cores} cores of {processor}".format_map(there)


def in_fit_and_craft(fit: int, craft: int) -> str:
    """Gradient passes for people, as a sum where fit has some."""
    return f"{fit:,} + {craft:,}" if fit else f"{craft:,}"


def percent(share: float | None) -> str:
    """For people; a dash for what was not measured."""
    return "-" if share is None else f"{100 * share:.1f}"


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n{rows}"
