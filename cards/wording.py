"""Figures in plain words, for the pages: only what was measured, and never more than that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cards.figures import Figure, Results, Summary
from cards.markdown import NOT_MEASURED, percent


@dataclass(frozen=True)
class Stand:
    """How the release stands by its gate; kind: `within`, `above` or `open`."""

    kind: str
    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """One large figure; kind: `protected`, `clean` or empty, which gives its colour."""

    kind: str
    label: str
    figure: str
    under: str


def unbroken(share: float) -> str:
    """A fraction in per cent that no line break tears apart."""
    return percent(share).replace(" ", "\u00a0")


def points(share: float) -> str:
    """A fraction in per cent, the sign left to what stands beside it."""
    return f"{100 * share:.1f}"


def seconds(value: float) -> str:
    """A time as short as it is still telling."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def across(share: float) -> str:
    """A fraction as a place along a chart."""
    return f"{100 * share:.2f}%"


def along(place: float) -> str:
    """A place in per cent as one along a chart."""
    return f"{place:.2f}%"


def in_words(countermeasure: str) -> str:
    """A countermeasure as people read it."""
    return "none (plain training)" if countermeasure == "none" else countermeasure


def named(countermeasure: str) -> Markup:
    """A countermeasure in a narrow place, where it breaks before a parameter if it must."""
    pieces = re.findall(r"[^:,]*[:,]|[^:,]+", in_words(countermeasure))
    return Markup().join(Markup('<span class="piece">{}</span>').format(one) for one in pieces)


def article(noun: str) -> str:
    """`a` or `an`."""
    return "an" if noun[:1].lower() in tuple("aeio") else "a"


def _known(share: float | None) -> str:
    return NOT_MEASURED if share is None else unbroken(share)


def _known_mean(figure: Figure | None) -> str:
    return _known(None if figure is None else figure.mean)


def _scored(row: Summary, protected: float, clean: float | None) -> str:
    how = "" if row.is_plain else f" with {row.countermeasure}"
    which = "" if row.seeds == 1 else f"the worst of {row.seeds} seeds; "
    start = article(row.victim)
    return (
        f"{start[0].upper()}{start[1:]} {row.victim} trained on this release{how} scored "
        f"{unbroken(protected)} ({which}clean images: {_known(clean)})."
    )


def lead(report: Mapping[str, Any], found: Results) -> str:
    """The one line that says most: the training that the verdict is about, or else the worst."""
    row = found.judged
    if row is None:
        return "Not verified: no network was trained on this release."
    if report["verdict"]:
        worst = report["verdict"]["worst"]
        return _scored(row, worst["protected"], worst["clean"])
    return _scored(row, row.protected.high, _mean(row.clean))


def _mean(figure: Figure | None) -> float | None:
    return None if figure is None else figure.mean


def stand(report: Mapping[str, Any]) -> Stand:
    """What follows from that, by the gate."""
    verdict = report["verdict"]
    if not report["trials"]:
        return Stand("open", "Not verified.", "Nothing is known about its protection.")
    if not verdict:
        text = "Without a clean twin to hold a victim against, a low figure may be its own fault."
        return Stand("open", "Not judged.", text)
    if verdict["threshold"] < 0:
        return Stand("open", "Cannot be judged.", _sentence(verdict["reason"]))
    text = f"It allows {_allowed(verdict, report['gate'])}."
    scored = verdict["worst"]["protected"]
    if scored != verdict["threshold"] and percent(scored) == percent(verdict["threshold"]):
        text = f"{_sentence(verdict['reason'])} {text}"  # which has the digits that differ
    if verdict["holds"]:
        return Stand("within", "Within the gate.", text)
    return Stand("above", "Above the gate.", text)


def _allowed(verdict: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    allowed = unbroken(verdict["threshold"])
    if gate["max_accuracy"] is not None:
        return f"every victim {allowed}, as was asked for"
    share = f"{100 * gate['max_ratio']:.0f}\u00a0%"
    return (
        f"this victim, the worst of those that it looks at, {allowed}: guessing, and {share} of "
        "what the clean twin scores above that"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def hardest(found: Results) -> str | None:
    """What the strongest countermeasure came to; None where none was tried."""
    row = found.strongest
    if row is None or found.worst(plain=True) is None:
        return None
    many = len([name for name in found.names if name != "none"])
    tried = "The one countermeasure tried" if many == 1 else f"The strongest of {many} tried"
    return (
        f"{tried} against the protection, {row.countermeasure}, brought {article(row.victim)} "
        f"{row.victim}{'' if row.held_out else ' (not held out)'} to "
        f"{unbroken(row.protected.mean)} (clean images with it: {_known_mean(row.clean)})."
    )


def subject(report: Mapping[str, Any]) -> str:
    """Of what and when this is."""
    release = report["release"]
    named = (("method", "method {}"), ("budget", "budget {}"), ("preset", "preset {}"))
    parts = [shape.format(release[key]) for key, shape in named if release.get(key)]
    if release.get("num_rows"):
        parts.append(f"{release['num_rows']:,} rows")
    parts.append(f"verified {report['date']}")
    if report["delivered_as"]:
        parts.append(f"images delivered as {report['delivered_as']}")
    return "\u2002·\u2002".join(parts)


def tiles(found: Results) -> list[Tile]:
    """The figures that a reader looks for first."""
    plain, countered = found.judged, found.strongest
    if plain is None:
        return []
    how = "plain training" if plain.is_plain else f"with {plain.countermeasure}"
    made = [Tile("protected", how + _over(plain), unbroken(plain.protected.mean), _who(plain))]
    if plain.peak is not None:
        label, under = "the same, stopped at its best epoch", "which takes clean labelled images"
        made.append(Tile("protected", label, unbroken(plain.peak.mean), f"{under} to find"))
    made.append(Tile("clean", "its clean twin", _known_mean(plain.clean), _guessing(plain)))
    if plain.is_plain and countered is not None:
        under = f"{countered.countermeasure}, {countered.victim}"
        under += "" if countered.held_out else ", not held out"
        figure = unbroken(countered.protected.mean)
        made.append(Tile("protected", "strongest countermeasure tried", figure, under))
    return made


def _who(row: Summary) -> str:
    spread = f"; {points(row.protected.low)} to {points(row.protected.high)}"
    held_out = ", held out" if row.held_out else ", not held out"
    return row.victim + held_out + (spread if row.protected.varies else "")


def _guessing(row: Summary) -> str:
    return "" if row.chance is None else f"guessing: {unbroken(row.chance)}"


def _over(row: Summary) -> str:
    return f", mean of {row.seeds} seeds" if row.seeds > 1 else ""
