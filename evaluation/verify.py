"""Victims: each trains from scratch on one split and is scored on the clean test split.

A trial is a training on protected rows beside its clean twin: the same victim, recipe and seed on
the clean rows.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from crafting.batch import Split
from crafting.nets import build, num_parameters
from crafting.registry import Preset
from crafting.training import EpochStats, Predictor, Recipe, predict, train
from evaluation.countermeasures import parse
from evaluation.scoring import Classes, accuracy, confusion, renamed_accuracy
from evaluation.victims import Victim, is_held_out, victim

Data = Literal["clean", "protected"]
Rows = Literal["release", "new"]
"""What a victim trains on: `release`, all rows that readers get or a sample of them; `new`, only
the rows that this release adds."""
_PROTOCOL = 2
"""Part of every key: raised when the same training would be scored in another way."""
_CURVE_ROWS = 5000
"""Test rows, evenly spread, that an epoch is scored on, at most: on 10,000 a small victim would
spend two fifths of its time on its curve. The finished predictor is scored on all of them."""
_CURVE_SHARE, _FEWEST_CURVE_ROWS = 2, 1000
"""Test rows for each training row of an epoch: the many short epochs on the few rows of an
increment would otherwise take four times as long to score as to train."""


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One training: who, against what, from which seed, on which rows."""

    victim: str
    countermeasure: str = "none"
    seed: int
    data: Data
    preset: Preset
    epochs: int | None = None
    rows: Rows = "release"

    @property
    def recipe(self) -> Recipe:
        return victim(self.victim).recipe(self.preset, self.epochs)

    def key(self, data_key: str) -> str:
        """Names the outcome of this training on the data that `data_key` names."""
        parts = [_PROTOCOL, asdict(self), asdict(self.recipe), data_key]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def cost(self) -> float:
        """Its time relative to one epoch of vgg-w16 on as many rows."""
        factor = parse(self.countermeasure).cost
        return victim(self.victim).cost * self.recipe.epochs * factor


@dataclass(frozen=True)
class Epoch:
    """After one epoch: loss and accuracy on the augmented training rows, as they were met, and
    the accuracy on the clean test rows (at most 5,000 of them)."""

    loss: float
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Outcome:
    """What one training came to. Accuracies are fractions; final, renamed and confusion (K,K; row
    true, column predicted) are those of the finished predictor on the clean test rows, and
    train_accuracy is its accuracy on its own training rows."""

    spec: TrialSpec
    curve: tuple[Epoch, ...]
    final: float
    renamed: float
    train_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    train_rows: int
    test_rows: int
    num_parameters: int
    recipe: Recipe
    seconds: float

    @property
    def peak(self) -> float:
        """The best accuracy there was to find: at some epoch, or at the end."""
        return max(self.final, *(epoch.test_accuracy for epoch in self.curve))

    @property
    def peak_epoch(self) -> int:
        """The epoch of the best test accuracy, counted from 1."""
        return 1 + int(np.argmax([epoch.test_accuracy for epoch in self.curve]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"peak": self.peak, "peak_epoch": self.peak_epoch}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        known = {k: v for k, v in values.items() if k not in ("peak", "peak_epoch")}
        known["spec"] = TrialSpec(**values["spec"])
        milestones = tuple(values["recipe"]["milestones"])
        known["recipe"] = Recipe(**values["recipe"] | {"milestones": milestones})
        known["curve"] = tuple(Epoch(**epoch) for epoch in values["curve"])
        known["confusion"] = tuple(tuple(row) for row in values["confusion"])
        return cls(**known)


@dataclass(frozen=True)
class Trial:
    """A victim trained on protected rows beside its clean twin; accuracies on the clean test rows
    are fractions. train_rows: how many rows it trained on; drift: how far the protected accuracy
    still moved over the last three epochs."""

    victim: str
    held_out: bool
    countermeasure: str
    rows: Rows
    train_rows: int
    seed: int
    epochs: int
    clean: float
    protected: float
    peak: float
    peak_epoch: int
    renamed: float
    train_accuracy: float
    clean_peak: float
    clean_renamed: float
    clean_train_accuracy: float
    drift: float

    @property
    def is_plain(self) -> bool:
        """Whether nothing was done against the protection."""
        return self.countermeasure == "none"


def run(
    spec: TrialSpec,
    train_split: Split,
    test_split: Split,
    *,
    net_size: int,
    device: torch.device,
    progress: Callable[[float], None],
) -> Outcome:
    """The outcome of training the victim on `train_split`, scored on `test_split` after every
    epoch. `progress` is told the finished share. ValueError for too few rows to train on."""
    began = time.monotonic()
    training = _Training(spec, _for_curve(test_split, len(train_split)), device, progress)
    seed = _victim_seed(spec.seed)
    net = build(victim(spec.victim).net, train_split.num_classes, net_size, seed)
    training.net = net
    predictor = train(
        net,
        train_split,
        spec.recipe,
        device=device,
        seed=seed,
        hooks=parse(spec.countermeasure).hooks(),
        on_epoch=training.note,
    )
    predicted, labels = _answers(predictor, test_split, device)
    counts = confusion(predicted, labels, train_split.num_classes)
    return Outcome(
        spec=spec,
        curve=tuple(training.curve),
        final=accuracy(predicted, labels),
        renamed=renamed_accuracy(predicted, labels, train_split.num_classes),
        train_accuracy=accuracy(*_answers(predictor, train_split, device)),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        train_rows=len(train_split),
        test_rows=len(test_split),
        num_parameters=num_parameters(net),
        recipe=spec.recipe,
        seconds=time.monotonic() - began,
    )


class _Training:
    """Scores the net after every epoch and keeps the curve."""

    net: Predictor

    def __init__(
        self,
        spec: TrialSpec,
        test_split: Split,
        device: torch.device,
        progress: Callable[[float], None],
    ) -> None:
        self.curve: list[Epoch] = []
        self._epochs = spec.recipe.epochs
        self._test = test_split
        self._device = device
        self._progress = progress

    def note(self, epoch: int, stats: EpochStats) -> None:
        scored = accuracy(*_answers(self.net, self._test, self._device))
        self.curve.append(Epoch(stats.loss, stats.accuracy, scored))
        self._progress(epoch / self._epochs)


def _for_curve(test_split: Split, train_rows: int) -> Split:
    """The test rows that every epoch on so many training rows is scored on."""
    wanted = max(_FEWEST_CURVE_ROWS, _CURVE_SHARE * train_rows)
    return _spread(test_split, min(_CURVE_ROWS, wanted))


def _spread(split: Split, most: int) -> Split:
    """At most that many rows of a split, evenly spread."""
    rows = torch.cat([batch.rows for batch in split.batches(500)])
    return split.take(rows[:: -(-len(rows) // most)].tolist())


def _answers(predictor: Predictor, split: Split, device: torch.device) -> tuple[Classes, Classes]:
    predicted, labels = predict(predictor, split, device)
    return predicted.numpy(), labels.numpy()


def _victim_seed(seed: int) -> int:
    """A seed that no surrogate was started from, whatever small numbers both were given."""
    return int.from_bytes(hashlib.sha256(f"victim {seed}".encode()).digest()[:4], "big")


def schedule(specs: Iterable[TrialSpec], world: int) -> list[list[TrialSpec]]:
    """The trainings of each of `world` ranks: longest first, each to whoever is free first."""
    shares: list[list[TrialSpec]] = [[] for _ in range(world)]
    loads = [0.0] * world
    for spec in sorted(specs, key=lambda spec: -spec.cost):
        rank = loads.index(min(loads))
        shares[rank].append(spec)
        loads[rank] += spec.cost
    return shares


def pair(outcomes: Sequence[Outcome], surrogate_name: str | None = None) -> list[Trial]:
    """Each training on protected rows with its clean twin, in the order given. surrogate_name: the
    net that the method trained, if any. ValueError where a twin is missing."""
    clean = {o.spec: o for o in outcomes if o.spec.data == "clean"}
    return [
        _trial(outcome, _found(outcome.spec, clean), surrogate_name)
        for outcome in outcomes
        if outcome.spec.data == "protected"
    ]


def _found(spec: TrialSpec, clean: dict[TrialSpec, Outcome]) -> Outcome:
    twin = clean.get(replace(spec, data="clean"))
    if twin is None:
        raise ValueError(
            f"the {spec.victim} trained on protected rows ({spec.countermeasure}, seed "
            f"{spec.seed}, {spec.rows} rows) has no clean twin: train it on the same clean rows "
            "with the same recipe"
        )
    return twin


def _trial(protected: Outcome, clean: Outcome, surrogate_name: str | None) -> Trial:
    spec = protected.spec
    last = [epoch.test_accuracy for epoch in protected.curve[-3:]]
    return Trial(
        victim=spec.victim,
        held_out=is_held_out(_entry(spec), surrogate_name),
        countermeasure=spec.countermeasure,
        rows=spec.rows,
        train_rows=protected.train_rows,
        seed=spec.seed,
        epochs=len(protected.curve),
        clean=clean.final,
        protected=protected.final,
        peak=protected.peak,
        peak_epoch=protected.peak_epoch,
        renamed=protected.renamed,
        train_accuracy=protected.train_accuracy,
        clean_peak=clean.peak,
        clean_renamed=clean.renamed,
        clean_train_accuracy=clean.train_accuracy,
        drift=max(last) - min(last),
    )


def _entry(spec: TrialSpec) -> Victim:
    return victim(spec.victim)
