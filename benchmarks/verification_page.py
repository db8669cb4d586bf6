"""docs/verification.md, written from what benchmarks.countermeasures measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, mode
from typing import Any

Figures = dict[str, Any]
SETTINGS = ("relabel", "mix-percent", "class-wise", "noise-swap")
TRAINED = ("at-linf", "at-l2", "deconv-at")
_LEARNT = 0.3
"""Of ten classes; under a countermeasure that leaves less to learn nothing can be given back."""
STRONG = ("sep-fa-mi", "sep-fa-vr", "tap")


@dataclass(frozen=True)
class Measured:
    """Every trial there is, by method, victim and countermeasure."""

    trials: Sequence[Figures]

    def of(self, method: str, victim: str, countermeasure: str) -> list[Figures]:
        """The trials of all seeds."""
        wanted = (method, victim, countermeasure)
        keys = ("method", "victim", "countermeasure")
        return [t for t in self.trials if tuple(t[key] for key in keys) == wanted]

    def first(self, method: str, countermeasure: str) -> Figures | None:
        """The training of vgg-w16 from seed 0."""
        found = self.of(method, "vgg-w16", countermeasure)
        return next((trial for trial in found if trial["seed"] == 0), None)

    def restored(self, method: str, countermeasure: str) -> float | None:
        """Which share of the accuracy that protection took this gives back: 0 where it does
        nothing, 1 where the victim does as well as its clean twin; None where that learns next to
        nothing under it."""
        plain, tried = self.first(method, "none"), self.first(method, countermeasure)
        if plain is None or tried is None or tried["clean"] < _LEARNT:
            return None
        taken = tried["clean"] - plain["protected"]
        return float((tried["protected"] - plain["protected"]) / taken)

    def lost(self, method: str, countermeasure: str) -> float:
        """By how much the clean twin under it falls short of the one trained plainly."""
        plain, tried = self.first(method, "none"), self.first(method, countermeasure)
        assert plain is not None
        assert tried is not None
        return float(plain["clean"] - tried["clean"])


def page(results: Figures, asked: Mapping[str, Sequence[str]]) -> str:
    """The page, in Markdown; `asked` are the countermeasures of each method."""
    measured = Measured(results["trials"])
    there = [name for name in asked if measured.first(name, "none")]
    changes = list(dict.fromkeys(name for tried in asked.values() for name in tried))
    plain = [name for name in changes if not _is_setting(name)]
    settings = [name for name in changes if _is_setting(name)]
    return _TEXT.format(
        **{name: results[name] for name in ("source", "rows", "preset")},
        budgets=_budgets(results["budgets"]),
        hardware="{cores} cores of {processor}".format_map(results["measured_on"]),
        once=_table(measured, there, [name for name in plain if not _is_trained(name)]),
        trained=_table(measured, there, [name for name in plain if _is_trained(name)]),
        settings=_table(measured, there, settings),
        seeds=_seeds(measured, there, changes),
        ranking=_ranking(measured, plain),
        orderings=_orderings(measured, there),
        missing=_missing(measured, asked),
    )


def _budgets(of: Mapping[str, str]) -> str:
    """The commonest budget, and who works within another."""
    usual = mode(of.values())
    others = [f"{name} within {budget}" for name, budget in of.items() if budget != usual]
    return ", ".join([f"within {usual}", *others])


def _is_setting(countermeasure: str) -> bool:
    return countermeasure.partition(":")[0] in SETTINGS


def _is_trained(countermeasure: str) -> bool:
    return countermeasure.partition(":")[0] in TRAINED


def _table(measured: Measured, methods: Sequence[str], changes: Iterable[str]) -> str:
    """Each countermeasure: the clean twin, and what was learnt from each method's release."""
    lines = []
    for name in changes:
        found = [measured.first(method, name) for method in methods]
        if any(found):
            clean = next(trial["clean"] for trial in found if trial)
            lines.append([f"`{name}`", f"{clean:.1%}", *map(_shown, found)])
    return _markdown(["countermeasure", "clean twin", *methods], lines)


def _shown(trial: Figures | None) -> str:
    return "-" if trial is None else f"{trial['protected']:.1%}"


def _seeds(measured: Measured, methods: Iterable[str], changes: Iterable[str]) -> str:
    """Mean and range where there are several seeds, of methods that have any."""
    shown = [method for method in methods if _repeated(measured, method)]
    victims = dict.fromkeys(trial["victim"] for trial in measured.trials)
    lines = []
    for change in changes:
        for victim in victims:
            found = [measured.of(method, victim, change) for method in shown]
            most = max(found, key=len, default=[])
            if len(most) > 1:
                cells = [_span(trials, "protected") for trials in found]
                lines.append([f"`{change}`", victim, _span(most, "clean"), *cells])
    return _markdown(["countermeasure", "victim", "clean twin", *shown], lines)


def _repeated(measured: Measured, method: str) -> bool:
    """Whether it was measured from more seeds than the first."""
    return any(trial["seed"] > 0 for trial in measured.trials if trial["method"] == method)


def _span(trials: Sequence[Figures], figure: str) -> str:
    values = [trial[figure] for trial in trials]
    if len(values) < 2:
        return "-"
    return f"{mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    if not rows:
        return "Not measured yet.\n"
    return f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n{rows}"


def _whole(share: float) -> str:
    """In whole per cent; what is next to nothing has no sign."""
    return f"{round(share, 2) + 0.0:.0%}"


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"


def _ranking(measured: Measured, changes: Iterable[str]) -> str:
    """What gives back most first: the shares for each method that protects, and what it costs."""
    lines = []
    for name in changes:
        shares = [measured.restored(method, name) for method in STRONG]
        known = [share for share in shares if share is not None]
        if name != "none" and len(known) == len(shares):
            cost = measured.lost(STRONG[0], name)
            shown = [f"`{name}`", *map(_whole, known), _points(cost)]
            lines.append((mean(known), shown))
    ordered = sorted(lines, key=lambda line: -line[0])
    header = ["countermeasure", *STRONG, "costs a clean training, points"]
    return _markdown(header, [shown for _, shown in ordered])


@dataclass(frozen=True)
class _Claim:
    """What is known from papers: the share of the lost accuracy that these give back, for these
    methods, agrees with `expected`."""

    text: str
    methods: Sequence[str]
    changes: Sequence[str]
    agrees: Callable[[float], bool]


_CLAIMS = (
    _Claim(
        "JPEG at quality 10 gives back at least half of what was lost",
        STRONG,
        ("jpeg",),
        lambda share: share >= 0.5,
    ),
    _Claim(
        "UEraser gives back at least half of what was lost",
        STRONG,
        ("ueraser-lite", "ueraser-max"),
        lambda share: share >= 0.5,
    ),
    _Claim(
        "cutout, cutmix and mixup give back less than a quarter",
        STRONG,
        ("cutout", "cutmix", "mixup"),
        lambda share: share < 0.25,
    ),
    _Claim(
        "adversarial training at the protection's own radius gives back at least half",
        STRONG,
        ("at-linf:radius=8.0,steps=3",),
        lambda share: share >= 0.5,
    ),
    _Claim(
        "a mixture with one changed pixel outlasts adversarial training, which gives back less "
        "than half",
        ("sep-fa-mi+ops",),
        ("at-linf:radius=8.0,steps=3", "at-linf:steps=3"),
        lambda share: share < 0.5,
    ),
)


def _orderings(measured: Measured, methods: Sequence[str]) -> str:
    """Each known ordering, and whether it comes out here."""
    lines = []
    plain = measured.first("random-noise", "none")
    if plain is not None:
        kept = plain["protected"] / plain["clean"]
        verdict = "comes out" if kept > 0.9 else "does not come out"
        shown = f"{plain['protected']:.1%} of {plain['clean']:.1%}"
        lines.append(f"- *Random noise protects nothing*: {verdict} ({shown}).\n")
    for claim in _CLAIMS:
        lines.append(_checked(claim, measured, methods))
    return "".join(lines)


def _checked(claim: _Claim, measured: Measured, methods: Sequence[str]) -> str:
    shares = {
        (method, change): measured.restored(method, change)
        for method in claim.methods
        if method in methods
        for change in claim.changes
    }
    known = {key: share for key, share in shares.items() if share is not None}
    if not known:
        return f"- *{claim.text}*: not measured yet.\n"
    agreeing = sum(map(claim.agrees, known.values()))
    verdict = "comes out" if agreeing == len(known) else "does not come out everywhere"
    shown = ", ".join(
        f"{method} `{change}` {_whole(share)}" for (method, change), share in known.items()
    )
    return f"- *{claim.text}*: {verdict} ({shown}).\n"


def _missing(measured: Measured, asked: Mapping[str, Sequence[str]]) -> str:
    """What stands in no table, and which methods have gaps in what does."""
    changes = dict.fromkeys(name for tried in asked.values() for name in tried)
    nowhere = [name for name in changes if not any(measured.first(to, name) for to in asked)]
    gaps = [
        method
        for method, tried in asked.items()
        if any(measured.first(method, name) is None for name in tried if name not in nowhere)
    ]
    said = ""
    if gaps:
        said += f"Not everything is measured yet for {', '.join(gaps)}: a dash stands there.\n"
    if nowhere:
        said += f"Not measured yet: {', '.join(f'`{name}`' for name in nowhere)}.\n"
    return said


_TEXT = """# What breaks the protection

{rows} training rows of {source}, protected by each method {budgets}
(`{preset}` preset, seed 0); then victims are trained on the release as whoever downloads it might,
and scored on clean test images after the last epoch (20 epochs). *Clean twin*: the same training on
the unchanged rows. Trained on {hardware}. Written by `python -m benchmarks.countermeasures`;
differences under about 3 points are noise between seeds.

{missing}
## Countermeasures

vgg-w16, which has the surrogate's architecture, one seed. The closer a figure comes to that of
the clean twin beside it, the more of the protection is undone; a countermeasure that lowers the
clean twin costs the appropriator that accuracy. `renamed`, `refit-head`, `dfr`, `early-stop` use
clean labelled images of the test split, which are then left out of the score. `finetune` needs
weights from elsewhere and is not in the table.

{once}
## Training against perturbations

Adversarial training (`at-linf`: radius in grey levels; `at-l2`: length over all pixels of an
image in [0,1]), with 3 steps instead of 10, and `deconv-at`, the adaptive answer to convolutions.
The mixture, whose `ops` part changes one pixel of each image, is there for these, and is tried
against few other countermeasures: elsewhere it has a dash.

{trained}
## What gives back most

Shares of the accuracy that protection took from vgg-w16: 0 % gives nothing back, 100 % as much as
the clean twin under the same countermeasure has. What that twin loses against plain training is the
price, in points.

{ranking}
## Circumstances

No answers to protection, but what happens where not all is as released. `mix-percent`: that share
of the rows protected and the others clean; the clean twin trains on the clean remainder alone, in
as many steps, so that a higher figure beside it means that protected rows still teach.
`class-wise`: half of the classes protected, scored on these; whatever the change, even random
noise, it marks these classes in training, and clean test images lack it. `noise-swap`: every image
carries the changes made for another.

{settings}
## Several seeds

Mean and range over seeds of the victims; surrogate and noise are of one seed throughout.
resnet10-w16 is held out: no method has that architecture.

{seeds}
## What is known, and whether it comes out here

The shares are those of the table above.

{orderings}
## In short

Protection of this kind lives in detail that a network trained in the plain way follows more
readily than what is in the picture. Whatever removes fine detail, or makes a network ignore it,
gives accuracy back: strong compression, strong augmentation, training against perturbations.
Whatever only cuts or mixes images leaves the detail in place. Each costs work and some accuracy,
and none is stopped.
"""
