"""What is asked of verification and what comes of it, as values.

A trial is a training on protected rows beside its clean twin: the same victim, recipe and seed on
the clean rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from crafting.registry import Preset
from crafting.training import Recipe
from evaluation.countermeasures import parse
from evaluation.countermeasures.base import Data, kind_of
from evaluation.victims import is_held_out, victim

__all__ = ["Data", "Epoch", "Outcome", "Rows", "Trial", "TrialSpec", "pair", "schedule"]

Rows = Literal["release", "new"]
"""What a victim trains on: `release`, all rows that readers get or a sample of them; `new`, only
the rows that this release adds."""
_PROTOCOL = 3
"""Part of every key: raised when the same training would be scored in another way."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One training: who, against what, from which seed, on which rows, at how many pixels a side
    (which decides between the recipes for small and for large images)."""

    victim: str
    countermeasure: str = "none"
    seed: int
    data: Data
    preset: Preset
    epochs: int | None = None
    rows: Rows = "release"
    net_size: int = 32

    @property
    def recipe(self) -> Recipe:
        own = victim(self.victim).recipe(self.preset, self.epochs, self.net_size)
        return parse(self.countermeasure).recipe(own)

    @property
    def public(self) -> TrialSpec:
        """As reports show it."""
        return replace(self, countermeasure=parse(self.countermeasure).public)

    def key(self, data_key: str) -> str:
        """Names the outcome of this training on the data that `data_key` names."""
        spec = asdict(self.public)
        del spec["net_size"]  # `data_key` names the pixels, the recipe what follows from them
        parts: list[Any] = [_PROTOCOL, spec, asdict(self.recipe), data_key]
        own = kind_of(self.countermeasure).protocol
        parts += [own] if own else []  # names outcomes that were kept before there was one
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def cost(self) -> float:
        """Its time relative to one epoch of vgg-w16 on as many rows."""
        factor = parse(self.countermeasure).cost
        return victim(self.victim).cost * self.recipe.epochs * factor


@dataclass(frozen=True)
class Epoch:
    """After one epoch: loss (None where it is not finite) and accuracy on the augmented training
    rows, as they were met (None where the loss asks for no class), and the accuracy on the clean
    test rows (at most 5,000)."""

    loss: float | None
    train_accuracy: float | None
    test_accuracy: float

    @classmethod
    def of(cls, loss: float | None, train_accuracy: float | None, test_accuracy: float) -> Epoch:
        """The epoch with these figures, None for those that are not finite: JSON has only finite
        ones."""
        return cls(_finite(loss), _finite(train_accuracy), test_accuracy)


def _finite(figure: float | None) -> float | None:
    return figure if figure is not None and math.isfinite(figure) else None


@dataclass(frozen=True)
class Outcome:
    """What one training came to; its curve is empty where the net that trains is not what is scored
    in the end. Accuracies are fractions; final, renamed and confusion (K,K; row
    true, column predicted) are those of the finished predictor on the clean test rows, and
    train_accuracy is its accuracy on the `train_rows` rows that it was given, as they were given
    (a countermeasure may leave out some, or change them), None where these have no labels.
    owned_rows: clean test rows that it was given with their labels, and not scored on; diverged:
    whether that predictor has, or answers with, numbers that are not finite."""

    spec: TrialSpec
    curve: tuple[Epoch, ...]
    final: float
    renamed: float
    train_accuracy: float | None
    confusion: tuple[tuple[int, ...], ...]
    train_rows: int
    test_rows: int
    num_parameters: int
    recipe: Recipe
    seconds: float
    owned_rows: int
    diverged: bool

    @property
    def num_classes(self) -> int:
        """How many classes it was scored on."""
        return len(self.confusion)

    @property
    def chance(self) -> float:
        """The accuracy of guessing: of one class at random, or of the commonest every time."""
        commonest = max(sum(row) for row in self.confusion) / self.test_rows
        return max(1 / self.num_classes, commonest)

    @property
    def peak(self) -> float:
        """The best accuracy there was to find: at some epoch, or at the end."""
        return max([self.final, *(epoch.test_accuracy for epoch in self.curve)])

    @property
    def peak_epoch(self) -> int:
        """The epoch of that accuracy, counted from 1; the last where it is that of the end."""
        accuracies = [epoch.test_accuracy for epoch in self.curve]
        if self.final > max(accuracies, default=-1.0):
            return self.recipe.epochs
        return 1 + int(np.argmax(accuracies))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"peak": self.peak, "peak_epoch": self.peak_epoch}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        known = {k: v for k, v in values.items() if k not in ("peak", "peak_epoch")}
        known["spec"] = spec = TrialSpec(**values["spec"])
        # An older one does not say it: half of the test rows, where these are few.
        given = min(parse(spec.countermeasure).clean_images, values["test_rows"])
        known.setdefault("owned_rows", given)
        milestones = tuple(values["recipe"]["milestones"])
        known["recipe"] = Recipe(**values["recipe"] | {"milestones": milestones})
        known["curve"] = curve = tuple(Epoch.of(**epoch) for epoch in values["curve"])
        # An older one does not say it either, but a loss that is not finite spoils the net.
        known.setdefault("diverged", bool(curve) and curve[-1].loss is None)
        known["confusion"] = tuple(tuple(row) for row in values["confusion"])
        return cls(**known)


@dataclass(frozen=True)
class Trial:
    """A victim trained on protected rows beside its clean twin; accuracies on the clean test rows
    are fractions, those of the twin None where nobody had clean rows to train one on.

    num_classes: of the test rows; chance: what naming the commonest of them always would score, at
    least; train_rows: how many rows it was given (a countermeasure may leave out some, or change
    them); train_accuracy: on these as they were given, None where they have no labels; drift: how
    far the protected accuracy still moved over the last three epochs, None where epochs were not
    scored, clean_drift that of the twin; diverged: whether the victim of the protected rows did.
    """

    victim: str
    held_out: bool
    countermeasure: str
    rows: Rows
    num_classes: int
    chance: float
    train_rows: int
    seed: int
    epochs: int
    clean: float | None
    protected: float
    peak: float
    peak_epoch: int
    renamed: float
    train_accuracy: float | None
    clean_peak: float | None
    clean_renamed: float | None
    clean_train_accuracy: float | None
    drift: float | None
    clean_drift: float | None
    diverged: bool

    @property
    def is_plain(self) -> bool:
        """Whether nothing was done against the protection."""
        return self.countermeasure == "none"

    @property
    def is_setting(self) -> bool:
        """Whether not all of its rows were protected ones as they ship."""
        return kind_of(self.countermeasure).is_setting


def schedule(specs: Iterable[TrialSpec], world: int) -> list[list[TrialSpec]]:
    """The trainings of each of `world` ranks: longest first, each to whoever is free first."""
    shares: list[list[TrialSpec]] = [[] for _ in range(world)]
    loads = [0.0] * world
    for spec in sorted(specs, key=lambda spec: -spec.cost):
        rank = loads.index(min(loads))
        shares[rank].append(spec)
        loads[rank] += spec.cost
    return shares


def pair(outcomes: Sequence[Outcome], surrogates: Collection[str] = ()) -> list[Trial]:
    """Each training on protected rows with its clean twin, where there is one, in the order given.
    surrogates: the nets that the method trained, if any."""
    clean = {o.spec: o for o in outcomes if o.spec.data == "clean"}
    return [
        _trial(outcome, clean.get(replace(outcome.spec, data="clean")), surrogates)
        for outcome in outcomes
        if outcome.spec.data == "protected"
    ]


def _trial(protected: Outcome, clean: Outcome | None, surrogates: Collection[str]) -> Trial:
    spec = protected.spec
    return Trial(
        victim=spec.victim,
        held_out=is_held_out(victim(spec.victim), surrogates),
        countermeasure=spec.countermeasure,
        rows=spec.rows,
        num_classes=protected.num_classes,
        chance=protected.chance,
        train_rows=protected.train_rows,
        seed=spec.seed,
        epochs=protected.recipe.epochs,
        clean=None if clean is None else clean.final,
        protected=protected.final,
        peak=protected.peak,
        peak_epoch=protected.peak_epoch,
        renamed=protected.renamed,
        train_accuracy=protected.train_accuracy,
        clean_peak=None if clean is None else clean.peak,
        clean_renamed=None if clean is None else clean.renamed,
        clean_train_accuracy=None if clean is None else clean.train_accuracy,
        drift=_drift(protected),
        clean_drift=None if clean is None else _drift(clean),
        diverged=protected.diverged,
    )


def _drift(outcome: Outcome) -> float | None:
    if not outcome.curve:
        return None
    last = [epoch.test_accuracy for epoch in outcome.curve[-3:]]
    return max(last) - min(last)
