"""docs/ablation.md, written from the result files that there are.

python -m benchmarks.ablation_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.potency_results import (
    Claim,
    by_victim,
    circumstances,
    load_all,
    markdown,
    percent,
    together,
)
from benchmarks.record import RESULTS
from benchmarks.studies import STUDIES, Row, Study
from crafting.registry import Preset

PAGE = Path(__file__).parents[1] / "docs/ablation.md"
_REFIT = "refit-head"
_HEADER = ("method", "set", "budget", "final", "peak", "renamed", _REFIT, "passes", "fit, s")


def main() -> None:
    PAGE.write_text(page(load_all(), class_maps()))


def class_maps() -> dict[str, Any] | None:
    """What `benchmarks.class_maps` measured, if it did."""
    path = RESULTS / "class_maps.json"
    return json.loads(path.read_text()) if path.exists() else None


def page(claims: Sequence[Claim], maps: dict[str, Any] | None) -> str:
    """The page, in Markdown."""
    studies = [f"## {s.title}\n\n{s.about}\n\n{_tables(s, claims)}" for s in STUDIES.values()]
    return _TEXT.format(studies="\n".join(studies), maps=_maps(maps))


def _maps(found: dict[str, Any] | None) -> str:
    """Whom test rows of protected classes are taken for, by what they were pulled towards."""
    if found is None:
        return "Not measured yet.\n"
    lines = []
    for each in found["maps"]:
        towards = {int(y): to for y, to in each["towards"].items()}
        stayed = [y for y in range(len(each["clean"])) if y not in towards]
        asked: dict[str, dict[int, Sequence[int]]] = {
            "themselves": {y: [y] for y in towards},
            "what they were pulled towards": {y: [to] for y, to in towards.items()},
            "any class that stayed clean": dict.fromkeys(towards, stayed),
        }
        for what, wanted in asked.items():
            shares = [taken_for(each[data], wanted) for data in ("clean", "protected")]
            lines.append([_written(towards), what, *map(percent, shares)])
    about = (
        "`{preset}` preset, `{method}` within {budget}, {rows:,} rows of {source}, {victim}.\n\n"
    )
    header = ("pulled", "taken for", "clean twin, %", "protected, %")
    return about.format_map(found) + markdown(header, lines)


def _written(towards: Mapping[int, int]) -> str:
    targets = sorted(set(towards.values()))
    ends = [f"{min(classes)} to {max(classes)}" for classes in (towards, targets)]
    return f"{ends[0]} towards {ends[1] if len(targets) > 1 else targets[0]}"


def taken_for(confusion: Sequence[Sequence[int]], wanted: Mapping[int, Sequence[int]]) -> float:
    """The share of the test rows of these classes that are taken for one of those beside each."""
    named = sum(confusion[y][to] for y, targets in wanted.items() for to in targets)
    return named / sum(sum(confusion[y]) for y in wanted)


def _tables(study: Study, claims: Sequence[Claim]) -> str:
    """One for each set of rows and each group of victims, in the order of the study's rows; none
    within another budget of a method that stands there with nobody."""
    tables, missing = [], []
    for scale in get_args(Preset):
        rows = [*study.rows[scale], *study.gone]
        order = {(row.method, row.settings): at for at, row in enumerate(rows)}
        found = [c for c in claims if c.scale == scale and c.written in order]
        for group in together(found):
            if len(group) == 1 and group[0].within:
                continue
            inside = sorted(group, key=lambda claim: order[claim.written])
            lines = [_line(claim, gone=Row(*claim.written) in study.gone) for claim in inside]
            tables.append(circumstances(group) + markdown(_HEADER, lines))
        missing += _missing(study, scale, found)
    return "\n".join([*tables, *missing])


def _missing(study: Study, scale: Preset, found: Sequence[Claim]) -> list[str]:
    """A line that names the rows which no claim is about, if there are any."""
    known = {claim.written for claim in found if claim.is_current}
    missing = [row for row in study.rows[scale] if (row.method, row.settings) not in known]
    if not missing:
        return []
    if len(missing) == len(study.rows[scale]):
        return [f"Not measured yet with the `{scale}` preset.\n"]
    return [f"Not measured yet with the `{scale}` preset: {', '.join(map(str, missing))}.\n"]


def _line(claim: Claim, *, gone: bool) -> list[str]:
    settings = ", ".join(f"{name}={value}" for name, value in claim.settings.items())
    seconds = None if gone else claim.cost("fit_seconds")
    return [
        f"`{claim.name}`",
        (f"`{settings}`" if settings else "-") + " (gone)" * gone,
        claim.budget,
        by_victim(claim, "protected", ranges=True),
        by_victim(claim, "peak"),
        by_victim(claim, "renamed"),
        _refitted(claim),
        claim.written_passes,
        "-" if seconds is None else f"{seconds:.0f}",
    ]


def _refitted(claim: Claim) -> str:
    """What the victims come to, in their order, whose last layer is fitted anew on clean rows."""
    learnt, clean = (
        [claim.mean(figure, victim, _REFIT) for victim in claim.victims()]
        for figure in ("protected", "clean")
    )
    if learnt.count(None) == len(learnt):
        return "-"
    of = [" / ".join(map(percent, figures)) for figures in (learnt, clean)]
    return f"{of[0]} (clean {of[1]})"


_TEXT = """# Ablation

What the parts of the methods bring: the ablations of their papers, and what was tried here. Test
accuracy in per cent of victims trained on the protected rows, on clean images: after the last epoch
(*final*), at the best epoch (*peak*), after the best one-to-one renaming of the classes
(*renamed*), and with the last layer fitted anew on 100 clean labelled images (*refit-head*, beside
what clean twins come to in the same way). *Passes* are gradients per image that its noise takes,
and *fit* is the training of surrogates. Differences under about 3 points are noise between seeds.
What is *gone* did not pay, and is not in the code any more. Written by `python -m
benchmarks.ablation_page`; `python -m benchmarks.ablation SOURCE --workdir WORKDIR` measures.

{studies}
## Whom classes are taken for

Self-Ensemble Protection, Figures 2b and 2c: only some classes are protected, pulled towards chosen
ones; the others stay clean. Of the clean test images of the protected classes, which share a victim
takes for what; the whole matrices are in benchmarks/results/class_maps.json. Measured by `python -m
benchmarks.class_maps SOURCE`.

{maps}"""


if __name__ == "__main__":
    main()
