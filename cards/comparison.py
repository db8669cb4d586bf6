"""Methods side by side on the same rows, as a page.

Every method crafted the same rows and met the same victims and countermeasures; lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cards.charts import pareto
from cards.figures import Summary, summary_from_spans
from cards.markdown import NOT_MEASURED
from cards.page import environment
from cards.recipes import headed
from cards.wording import article, unbroken


@dataclass(frozen=True)
class Standing:
    """A method at its place, and what every victim came to on what it made."""

    place: int
    values: Mapping[str, Any]
    summaries: list[Summary]

    @property
    def name(self) -> str:
        return str(self.values["method"])

    @property
    def worst(self) -> Mapping[str, Any]:
        """The held-out victim that scored highest over its seeds: its name, countermeasure and mean
        accuracies."""
        found: Mapping[str, Any] = self.values["worst"]
        return found

    def under(self, countermeasure: str) -> Summary | None:
        """Who scored highest under this countermeasure, among those held out where there are any;
        None where nobody was trained so."""
        found = [row for row in self.summaries if row.countermeasure == countermeasure]
        judged = [row for row in found if row.held_out] or found
        return max(judged, key=lambda row: row.protected.mean, default=None)


def standings(comparison: Mapping[str, Any]) -> list[Standing]:
    """The methods, that of which the worst victim learnt least first."""
    ordered = sorted(comparison["methods"], key=lambda method: method["worst"]["protected"])
    return [
        Standing(place, values, [summary_from_spans(one) for one in values["summaries"]])
        for place, values in enumerate(ordered, 1)
    ]


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """One HTML document of the comparison, as self-contained as that of a report: a leaderboard,
    what each method kept under each countermeasure, accuracy against the cost of crafting, and
    every figure."""
    found = standings(comparison)
    names = _countermeasures(comparison, found)
    pages = environment()
    pages.filters |= {"holds_in_words": _holds_in_words}
    template = pages.get_template("comparison.html.j2")
    return template.render(
        title=f"Methods compared on {comparison['source']}",
        lead=_lead(found),
        subject=_subject(comparison),
        standings=found,
        names=names,
        by_countermeasure=[(one, [one.under(name) for name in names]) for one in found],
        plane=pareto([one.values for one in found]) if found else None,
        victims=list(dict.fromkeys(row.victim for one in found for row in one.summaries)),
        facts=headed({"Hardware": comparison["hardware"], "Versions": comparison["versions"]}),
    )


def _holds_in_words(holds: bool | None) -> str:
    """Whether it keeps within the gate."""
    return "not judged" if holds is None else "yes" if holds else "no"


def _countermeasures(comparison: Mapping[str, Any], found: Sequence[Standing]) -> list[str]:
    """Those that were asked for and those that were met, plain training first."""
    met = [row.countermeasure for one in found for row in one.summaries]
    names = dict.fromkeys([*comparison["countermeasures"], *met])
    return sorted((name for name in names if name in met), key=lambda name: name != "none")


def _lead(found: Sequence[Standing]) -> str:
    if not found:
        return "No method was compared."
    best, clean = found[0], found[0].worst["clean"]
    victim, learnt = best.worst["victim"], unbroken(best.worst["protected"])
    tied = [one.name for one in found if unbroken(one.worst["protected"]) == learnt]
    if len(tied) > 1:
        names = f"{', '.join(tied[:-1])} and {tied[-1]}"
        return f"From {names}, victims learnt equally little: the worst of each scored {learnt}."
    twin = NOT_MEASURED if clean is None else unbroken(clean)
    how = "" if best.worst["countermeasure"] == "none" else f" with {best.worst['countermeasure']}"
    return (
        f"From {best.name}, the worst victim learnt least: {article(victim)} {victim}{how} scored "
        f"{learnt} (clean images: {twin})."
    )


def _subject(comparison: Mapping[str, Any]) -> str:
    parts = [f"{comparison['rows']:,} rows", f"preset {comparison['preset']}"]
    if comparison["budget"]:
        parts.append(f"budget {comparison['budget']} for all")
    parts.append(f"{', '.join(comparison['victims'])} {_circumstances(comparison)}")
    return "\u2002·\u2002".join(parts)


def _circumstances(comparison: Mapping[str, Any]) -> str:
    """In plain training or not, and under how many countermeasures."""
    tried = list(comparison["countermeasures"])
    many = len([name for name in tried if name != "none"])
    plain = ["in plain training"] if "none" in tried else []
    under = [f"under {many} countermeasure{'' if many == 1 else 's'}"] if many else []
    return " and ".join([*plain, *under])
