"""docs/replication.md: which tables and figures of the literature were run here, decided from the
result files that there are.

    python -m benchmarks.replication_page
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks import ablation_page, analyses
from benchmarks.potency_results import Claim, load_all, markdown
from benchmarks.record import RESULTS
from benchmarks.replication_claims import ITEMS
from benchmarks.replication_items import Check, Item

PAGE = Path(__file__).parents[1] / "docs/replication.md"
_QUICK_EPOCHS = 20
CLOSE = 0.05
"""A figure is reproduced where it lies at most so far from the published one."""


@dataclass(frozen=True)
class Found:
    """A figure that was measured here."""

    scale: str
    dataset: str
    method: str
    budget: str
    victim: str
    countermeasure: str
    protected: float
    epochs: int
    whole: bool = False
    """Whether on all rows of the dataset."""
    settings: tuple[tuple[str, str], ...] = ()


def main() -> None:
    PAGE.write_text(page(found(), shown()))


def shown() -> set[str]:
    """The quick measurements there are of what is no figure of what victims learn."""
    maps = {"class_maps"} if ablation_page.class_maps() else set()
    return maps | analyses.names(analyses.results())


def found(folder: Path = RESULTS) -> list[Found]:
    """All that was measured of what victims learn."""
    others = _of_countermeasures(folder / "countermeasures.json")
    return [*_of_potency(load_all(folder / "potency")), *others]


def _of_potency(claims: Iterable[Claim]) -> Iterator[Found]:
    for claim in claims:
        trials = [trial for seed in claim.seeds for trial in seed["trials"]]
        for victim, countermeasure in sorted({(t["victim"], t["countermeasure"]) for t in trials}):
            of = (claim.scale, claim.dataset, claim.name, claim.budget, victim, countermeasure)
            same = [t for t in trials if (t["victim"], t["countermeasure"]) == of[-2:]]
            protected, epochs = mean(t["protected"] for t in same), min(t["epochs"] for t in same)
            yield Found(*of, protected, epochs, claim.is_whole, claim.written[1])


def _of_countermeasures(path: Path) -> Iterator[Found]:
    """The trials of `benchmarks.countermeasures`, which are quick and of a part of the rows."""
    told = json.loads(path.read_text()) if path.exists() else {"trials": []}
    for trial in told["trials"]:
        budget = told["budgets"][trial["method"]]
        names = (trial["method"], budget, trial["victim"], trial["countermeasure"])
        yield Found("quick", told["source"], *names, trial["protected"], _QUICK_EPOCHS)


def page(measured: Sequence[Found], shown: Collection[str]) -> str:
    """The page, in Markdown."""
    lines = [
        [item.paper, item.name, item.what, status(item, measured, shown), _command(item.command)]
        for item in ITEMS
    ]
    counts = Counter(line[3].partition(" (")[0] for line in lines)
    return _TEXT.format(
        counts=", ".join(f"{status} {count}" for status, count in sorted(counts.items())),
        close=round(100 * CLOSE),
        table=markdown(("paper", "item", "what", "status", "command"), lines),
    )


def status(item: Item, measured: Sequence[Found], shown: Collection[str] = ()) -> str:
    """`reproduced` where every figure was measured at paper scale and lies close to the published
    one; `quick scale only` where the same was asked of fewer rows and smaller nets."""
    if item.shown_by and set(item.shown_by) <= set(shown):
        return "quick scale only"
    full = [_at_paper_scale(check, measured) for check in item.checks]
    known = [figure for figure in full if figure is not None]
    if item.checks and len(known) == len(full):
        pairs = zip(item.checks, known, strict=True)
        close = sum(abs(check.published - figure) <= CLOSE for check, figure in pairs)
        if close == len(full):
            return "reproduced"
        return f"not reproduced ({close} of {len(full)} figures are close)"
    quick = sum(_at_quick_scale(check, measured) for check in item.checks)
    if item.checks and quick == len(item.checks):
        return "quick scale only"
    some = [f"{len(known)} of {len(full)} figures at paper scale"] if known else []
    some += [f"{quick} of {len(full)} at quick scale"] if quick else []
    return f"not run ({', '.join(some)})" if some else "not run"


def _at_paper_scale(check: Check, measured: Sequence[Found]) -> float | None:
    """The mean of what was measured on all rows of the dataset, by trainings of full length."""
    names = ("dataset", "method", "budget", "victim", "countermeasure", "settings", "epochs")
    figures = [
        m.protected
        for m in measured
        if m.scale == "paper"
        and m.whole
        and all(getattr(m, name) == getattr(check, name) for name in names)
    ]
    return mean(figures) if figures else None


def _at_quick_scale(check: Check, measured: Sequence[Found]) -> bool:
    """Whether a small victim met the method, as its preset is, within this budget and with this
    countermeasure, however many steps that took."""
    wanted = (check.dataset, check.method, check.budget, _any_steps(check.countermeasure))
    return any(
        (m.dataset, m.method, m.budget, _any_steps(m.countermeasure)) == wanted
        and m.scale == "quick"
        and not m.settings
        for m in measured
    )


def _any_steps(countermeasure: str) -> str:
    name, _, parameters = countermeasure.partition(":")
    kept = [part for part in parameters.split(",") if part and not part.startswith("steps=")]
    return ":".join([name, ",".join(kept)]) if kept else name


def _command(command: str) -> str:
    return f"`{command}`" if command else "none: there is nothing here for it"


_TEXT = """# What was replicated

The tables and figures of the papers that protect-release follows, whether they were run here, and
the command that runs each. The status is decided from the files in benchmarks/results, by `python
-m benchmarks.replication_page`; nobody types it: {counts}.

*reproduced*: every figure that is checked was measured with the paper's nets, rows and epochs and
lies within {close} points of the published one. *Quick scale only*: the method met the same
countermeasures within the same budget, or the same was looked at, on some thousand rows with small
nets, which tells whether the effect is there and not how large it is. *Not run*: figures are
missing, or there is none that a result file would show.

{table}
`cifar10.npz` is written by `python -m benchmarks.image_arrays SOURCE cifar10.npz`; other files are
made of other clean datasets in the same way. RELEASE is a folder or Hub id that `protect-release
push` made of the clean SOURCE. Whatever trains full nets wants a GPU.
"""


if __name__ == "__main__":
    main()
