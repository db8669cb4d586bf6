"""Foreign text in Markdown: shown as it is written, never obeyed.

HTML escaping alone stops neither `|` nor `](`, and a backslash does not stop an automatic link, so
whatever could mean something becomes a numeric character reference, which never does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup

_ACTIVE = re.compile(
    r"""[^\w\s,.\-/()%'=?;:]          # whatever has a meaning, or might get one
    | (?<![^\W_])_ | _(?![^\W_])       # emphasis; inside a word it is only an underscore
    | :(?=\S) | (?<=www)\.            # automatic links
    | ^- | (?<=^\d)[.)] | (?<=^\d\d)[.)]  # lists inside a list
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TYPED = re.compile(r"[\w.,:;=+\-/()]+")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]+")

NOT_MEASURED = "not measured"


def escaped(text: object) -> Markup:
    """The text on one line, for a paragraph, a list item, a table cell or an alt text."""
    line = _BLANK.sub(" ", str(text)).strip()
    return Markup(_ACTIVE.sub(lambda found: f"&#{ord(found[0])};", line))


def code(text: object) -> Markup:
    """What is typed, as code where nothing in it could end that or the cell it stands in; else
    escaped."""
    typed = str(text)
    return Markup(f"`{typed}`") if _TYPED.fullmatch(typed) else escaped(typed)


def fenced(text: str, language: str = "") -> Markup:
    """The text as a code block that it cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = text.strip("\r\n")
    return Markup(f"{fence}{language}\n{lines}\n{fence}")


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> Markup:
    """A table of these cells, each shown as it is written unless it is Markdown already."""
    ruled = (header, [Markup("---")] * len(header), *lines)
    cells = [[c if isinstance(c, Markup) else escaped(c) for c in line] for line in ruled]
    return Markup("\n").join(Markup("| {} |").format(Markup(" | ").join(line)) for line in cells)


def percent(share: float) -> str:
    """A fraction in per cent."""
    return f"{100 * share:.1f} %"


def mean_percent(span: tuple[float, float, float] | None) -> str:
    """The mean of a figure over seeds in per cent, or that it was not measured."""
    return NOT_MEASURED if span is None else percent(span[0])


def spanned(span: tuple[float, float, float] | None) -> str:
    """A figure over seeds: its mean and, where seeds differ, its range, or that it was not
    measured."""
    if span is None:
        return NOT_MEASURED
    mean, low, high = span
    if low == high:
        return percent(mean)
    return f"{percent(mean)} ({percent(low)} to {percent(high)})"
