"""The card's tables, from its facts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from cards.facts import CardFacts, Measured, ReleaseEntry
from cards.markdown import code, escaped, mean_percent, percent, spanned, table

_FIGURES = ("clean twin", "this release", "peak", "renamed")


def measured_table(facts: CardFacts) -> Markup:
    """A line for each victim; what it trained on is said where that differs."""
    header = ["victim", "held out", "countermeasure", "seeds", *_FIGURES]
    lines = [_measured(row) for row in facts.measured]
    if facts.measured_alone:
        header.insert(2, "trained on")
        for row, line in zip(facts.measured, lines, strict=True):
            line.insert(2, new_rows_alone(facts) if row.rows == "new" else "all rows")
    return table(header, lines)


def new_rows_alone(facts: CardFacts) -> str:
    """What a victim trained on that was given only these."""
    return f"the {facts.new_rows:,} new row{'' if facts.new_rows == 1 else 's'} alone"


def all_rows(facts: CardFacts) -> str:
    """What a victim trained on that was given old and new rows; empty where there are no old."""
    if facts.sampled is None:
        return ""
    old, published, new = facts.sampled
    before = f"the {published:,} rows published before"
    drawn = before if old == published else f"a seeded sample of {old:,} of {before}"
    return f"{drawn}, and {'the new one' if new == 1 else f'all {new:,} new ones'}"


def _measured(row: Measured) -> list[object]:
    figures = (row.clean, row.protected, row.peak, row.renamed)
    held_out = "yes" if row.held_out else "no"
    # Figures are ours, and read better in the file itself where no point of them is escaped.
    shown = [Markup(spanned(figure)) for figure in figures]
    return [row.victim, held_out, _countered(row), row.seeds, *shown]


def releases_table(releases: Sequence[ReleaseEntry]) -> Markup:
    """A line for each release, the newest first."""
    header = ["release", "date", "method", "budget", "rows added", "rows in all"]
    header += ["most learnt from all rows", "most learnt from the new rows alone"]
    shown = len(header) - (len(releases) == 1)
    return table(header[:shown], [_release(entry)[:shown] for entry in reversed(releases)])


def _release(entry: ReleaseEntry) -> list[object]:
    plain = [entry.name, entry.date, entry.method, code(entry.budget)]
    rows = [f"{entry.rows:,}", f"{entry.total:,}"]
    everything, alone = entry.learnt_most("release"), entry.learnt_most("new")
    return [
        *plain,
        *rows,
        _beside_twin(everything, "not verified"),
        Markup("-") if alone is None else _beside_twin(alone, ""),
    ]


def _countered(row: Measured) -> Markup:
    return Markup(row.countermeasure) if row.is_plain else code(row.countermeasure)


def _beside_twin(found: Measured | None, otherwise: str) -> Markup:
    if found is None:
        return escaped(otherwise)
    clean, protected = mean_percent(found.clean), percent(found.protected[0])
    how = "" if found.is_plain else Markup(" with {}").format(code(found.countermeasure))
    scored = Markup("{}{}: {} (clean twin: {})")
    return scored.format(escaped(found.victim), how, protected, clean)
