"""The section `Verified again` of a card: a line for each verification after publication.

A release is verified anew while nothing else about its card changes, so the section stands between
two comments of its own and is edited in the published README.md itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from markupsafe import Markup

from cards.facts import Measured, Verification
from cards.markdown import code, escaped, mean_percent, percent, table

_BEGIN = "<!-- verified again: begin; a verification after publication adds a line -->"
_END = "<!-- verified again: end -->"
# Known by how they begin, so that a later version may word them otherwise.
_BEGINS = r"^<!-- verified again: begin\b[^\n]*-->[ \t]*\r?\n"
_ENDS = r"^<!-- verified again: end\b[^\n]*?-->"
_SECTION = re.compile(rf"{_BEGINS}((?:(?!{_BEGINS}).)*?){_ENDS}", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^\| (\d{4}-\d\d-\d\d) \|.*\[report\]\(([^()\s]*)\) \|[ \t]*\r?$", re.MULTILINE)
_CITATION = re.compile(r"^## Licence and citation of the source[ \t]*\r?$", re.MULTILINE)
_GENERATED_END = re.compile(r"^<!-- protect-release: end\b[^\n]*-->[ \t]*\r?$", re.MULTILINE)
_HEADING = "## Verified again"
_HEADER = ("date", "with", "most learnt", "finding", "figures")
_ABOUT = (
    "What is published was verified again later, under the countermeasures that each report names. "
    "*Most learnt*: the victim that scored highest on clean test images, whatever was done against "
    "the protection."
)


def section(verified: Sequence[Verification]) -> Markup:
    """The section with these lines, the newest first; without any, an invisible place for it."""
    return _section([_line(row) for row in verified])


def add_verification(readme: str, row: Verification) -> str:
    """The published README.md with this line in its section, the newest first, and every other
    byte as it was. One of the same date and report is replaced, so that adding it twice changes
    nothing. Where there is no section yet, one is made above the citation of the source, or else
    at the end of the card, or of the text."""
    return _with_lines(readme, [_line(row)])


def keep_verifications(existing: str, ours: str) -> str:
    """`ours`, a newer card, with the lines of the section of `existing` that it lacks."""
    known = {_key(line) for line in _lines(ours)}
    kept = [line for line in _lines(existing) if _key(line) not in known]
    return _with_lines(ours, kept) if kept else ours


def _line(row: Verification) -> str:
    # Whatever a path holds, quoting makes it one within the dataset, and no link to elsewhere.
    link = Markup(f"[report]({quote(row.report, safe='/')})")
    cells = [row.date, row.tool, _most(row.worst), row.sentence, link]
    return str(table(_HEADER, [cells])).splitlines()[-1]


def _most(worst: Measured | None) -> Markup:
    if worst is None:
        return Markup("nothing was measured")
    countered = "" if worst.is_plain else Markup(" with {}").format(code(worst.countermeasure))
    clean, protected = mean_percent(worst.clean), percent(worst.protected[0])
    known = "" if worst.held_out else " (not held out)"
    scored = Markup("{}{}{}: {} (clean twin: {})")
    return scored.format(escaped(worst.victim), known, countered, protected, clean)


def _section(lines: Iterable[str]) -> Markup:
    ordered = sorted(lines, key=lambda line: _key(line)[0], reverse=True)
    if not ordered:
        return Markup(f"{_BEGIN}\n{_END}")
    head = str(table(_HEADER, []))
    return Markup("\n".join([_BEGIN, _HEADING, "", _ABOUT, "", head, *ordered, "", _END]))


def _lines(text: str) -> list[str]:
    """The lines of the section's table, as they are written."""
    found = _SECTION.search(text)
    return [] if found is None else [match[0].rstrip() for match in _LINE.finditer(found[1])]


def _key(line: str) -> tuple[str, str]:
    """Date and report, which tell one verification from another."""
    found = _LINE.search(line)
    assert found is not None, line
    return found[1], found[2]


def _with_lines(text: str, added: Sequence[str]) -> str:
    keys = {_key(line) for line in added}
    made = str(_section([*added, *(line for line in _lines(text) if _key(line) not in keys)]))
    newline = "\r\n" if "\r\n" in text else "\n"
    made = made.replace("\n", newline)
    if found := _SECTION.search(text):
        return text[: found.start()] + made + text[found.end() :]
    if found := _CITATION.search(text):
        return text[: found.start()] + made + 2 * newline + text[found.start() :]
    if found := _GENERATED_END.search(text):
        return text[: found.start()] + newline + made + newline + text[found.start() :]
    gap = "" if not text else newline if text.endswith("\n") else 2 * newline
    return f"{text}{gap}{made}{newline}"
