"""docs/methods.md and its picture, written from the registry, the methods' own words and what was
measured.

    python -m benchmarks.methods_page
"""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.potency import COLUMNS
from benchmarks.potency_results import (
    Claim,
    by_victim,
    circumstances,
    in_fit_and_craft,
    load,
    markdown,
    percent,
    together,
)
from crafting import mixture
from crafting.method import Method
from crafting.registry import Registration, methods

DOCS = Path(__file__).parents[1] / "docs"
PICTURE = "methods.png"
_LABEL_HEIGHT, _LABEL_WIDTH = 2.5, 0.25
"""Of a method's name in the picture, in per cent and in decades of passes."""
_NEW_ROWS = {"exact": "yes", "approximate": "roughly", "refused": "no"}


def main() -> None:
    claims = load()
    (DOCS / "methods.md").write_text(page(claims))
    if claims:
        draw(together(claims)[0], DOCS / PICTURE)


def page(claims: Sequence[Claim]) -> str:
    """The page, in Markdown."""
    return _TEXT.format(
        measured=_measured(claims),
        registry=_registry_table(),
        families="\n".join([*_families(), _section("Mixtures", mixture.__doc__)]),
    )


def _measured(claims: Sequence[Claim]) -> str:
    """A table for each set of rows, and who is in none."""
    groups = together(claims)
    parts = [_group(group) for group in groups]
    if groups:
        shown = f"![What victims learn against what crafting costs.]({PICTURE})\n"
        parts.insert(1, shown)
    missing = [name for name in methods() if name not in {claim.name for claim in claims}]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        parts.append(f"Not measured yet: {names}.\n")
    return "\n".join(parts)


def _group(group: Sequence[Claim]) -> str:
    return circumstances(group) + markdown(_HEADER, map(_line, group))


_HEADER = (
    *("method", "budget", "final", "peak", "renamed", *COLUMNS),
    *("passes", "fit, s", "craft, s / 1,000", "PSNR, dB", "published"),
)


def _line(claim: Claim) -> list[str]:
    first = claim.victims()[0]
    crafting = claim.cost("craft_seconds")
    return [
        f"`{claim.name}`",
        claim.budget,
        by_victim(claim, "protected", ranges=True),
        by_victim(claim, "peak"),
        by_victim(claim, "renamed"),
        *(percent(claim.mean("protected", first, column)) for column in COLUMNS),
        claim.written_passes,
        _number(claim.cost("fit_seconds")),
        _number(None if crafting is None else 1000 * crafting / claim.rows),
        _number(claim.cost("psnr")),
        _published(claim),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _published(claim: Claim) -> str:
    of = claim.facts["reported"]
    if of is None:
        return "-"
    return f"{percent(of['accuracy'])} ({of['net']}, {of['dataset']}, {of['budget']})"


def _registry_table() -> str:
    header = (
        *("method", "budget", "labels", "surrogate", "new rows", "passes", "surrogate epochs"),
        "paper",
    )
    return markdown(header, (_known(entry) for entry in methods().values()))


def _known(entry: Registration) -> list[str]:
    paper, quick = entry.paper, entry.quick
    return [
        f"`{entry.name}`",
        str(quick.budget),
        "yes" if paper.needs_labels else "no",
        _both(", ".join(paper.surrogates) or "no", ", ".join(quick.surrogates) or "no"),
        _NEW_ROWS[paper.unseen] if paper.scope == "sample" else "no",
        _both(*(in_fit_and_craft(of.fit_passes, of.passes) for of in (paper, quick))),
        _both(str(paper.fit_epochs), str(quick.fit_epochs)),
        paper.paper,
    ]


def _both(paper: str, quick: str) -> str:
    return paper if paper == quick else f"{paper} / {quick}"


def _families() -> list[str]:
    """A section for each module, which holds methods that belong together."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, entry in methods().items():
        names[_module(entry.quick)].append(name)
    return [
        _section(", ".join(f"`{name}`" for name in found), sys.modules[module].__doc__)
        for module, found in sorted(names.items(), key=lambda item: item[1])
    ]


def _module(method: Method) -> str:
    return type(method).__module__


def _section(title: str, words: str | None) -> str:
    """A module's own words under a title; two list items in one line are set apart."""
    text = re.sub(r"^(\*\*Departures\*\*[^\n]*: )1\. ", r"\1\n\n1. ", words or "", flags=re.M)
    return f"### {title}\n\n{text.strip()}\n"


def draw(group: Sequence[Claim], path: Path) -> None:
    """The picture: final accuracy of the victim that learns most against gradient passes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter([claim.passes for claim in group], [100 * claim.learnt for claim in group], s=18)
    clean = max(group[0].mean("clean", victim) or 0.0 for victim in group[0].victims())
    axes.axhline(100 * clean, linestyle="--", color="grey", linewidth=1)
    axes.set_xscale("symlog", linthresh=10)
    most = max(claim.passes for claim in group)
    axes.set_xlim(-1, 4 * max(most, 10))
    axes.set_ylim(0, 100)
    axes.annotate(
        "clean rows",
        (axes.get_xlim()[1], 100 * clean),
        (-4, 3),
        textcoords="offset points",
        ha="right",
    )
    for claim, height in _label_heights(group):
        axes.plot([claim.passes] * 2, [100 * claim.learnt, height], color="grey", linewidth=0.5)
        axes.annotate(
            claim.name, (claim.passes, height), (6, -2), textcoords="offset points", fontsize=7
        )
    axes.set_xlabel("gradient passes an image, in fit and craft together")
    axes.set_ylabel("test accuracy of the victim that learns most, %")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _label_heights(group: Sequence[Claim]) -> list[tuple[Claim, float]]:
    """Where, in per cent, each name stands: at its point, or above the name below it, where points
    of about as many passes would have theirs on top of each other."""
    found: list[tuple[Claim, float]] = []
    for claim in sorted(group, key=lambda claim: claim.learnt):
        beside = [height for other, height in found if _near(claim.passes, other.passes)]
        height = max([100 * claim.learnt, *(at + _LABEL_HEIGHT for at in beside)])
        found.append((claim, height))
    return found


def _near(passes: int, others: int) -> bool:
    """Whether names beside both would meet: on the axis they are less than a name's width apart."""
    return abs(math.log10(10 + passes) - math.log10(10 + others)) < _LABEL_WIDTH


_TEXT = """# Methods

Every protection method, what it needs, what victims learnt in spite of it, and in its own words
what it does, where it departs from its paper and what to expect of it. Written by `python -m
benchmarks.methods_page`; figures are measured by `make bench-potency SOURCE=...` and lie, with the
machine and the versions they are of, in benchmarks/results/potency.

## What victims learn

Test accuracy in per cent of victims trained on the protected rows, on clean images: after the last
epoch (*final*), at the best epoch (*peak*), after the best one-to-one renaming of the classes
(*renamed*), and for the first victim with three countermeasures. The best protection comes first:
the one from which the victim that learns most learns least. Differences under about 3 points are
noise between seeds. *Passes* are gradients per image that its noise takes: in fit, where that
makes noise, + while crafting; those that surrogates learn from are not among them. *Published* is
another training, with other nets on more rows: it says what the method can do, not what to expect
here.

{measured}
## What each needs

Presets `paper` / `quick` where they differ. *New rows*: whether rows can be added that it was not
fitted on, each by itself.

{registry}
## In their own words

{families}"""


if __name__ == "__main__":
    main()
