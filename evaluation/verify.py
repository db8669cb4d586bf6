"""One training of a trial: a victim learns from one split and is scored on clean test rows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crafting.batch import PixelSplit, Split
from crafting.nets import Net, build, num_parameters
from crafting.snapshot import Keeper, Snapshot
from crafting.training import EpochStats, Predictor, predict, train
from evaluation.countermeasures import Countermeasure, Setting, parse
from evaluation.scoring import Classes, accuracy, confusion, renamed_accuracy
from evaluation.trial import Epoch, Outcome, TrialSpec
from evaluation.victims import victim

_CURVE_ROWS = 5000
"""Test rows that an epoch is scored on, at most: on 10,000 a small victim would
spend two fifths of its time on its curve. The finished predictor is scored on all of them."""
_CURVE_SHARE, _FEWEST_CURVE_ROWS = 2, 1000
"""Test rows for each training row of an epoch: the many short epochs on the few rows of an
increment would otherwise take four times as long to score as to train."""


@dataclass(frozen=True)
class Splits:
    """What one training needs: the rows that the victim learns from, the clean test rows, and the
    clean images of `train`, under the same row numbers, where there are any."""

    train: PixelSplit
    test: PixelSplit
    twin: PixelSplit | None = None


def run(
    spec: TrialSpec,
    splits: Splits,
    *,
    device: torch.device,
    progress: Callable[[float], None],
    keeper: Keeper | None = None,
) -> Outcome:
    """The outcome of training the victim on `splits.train`, scored on the test rows after every
    epoch. `progress` is told the finished share; `keeper` is what an interrupted training goes on
    from, where the countermeasure's hooks hold nothing of their own. ValueError for too few rows
    to train on, and where the countermeasure needs what the rows do not have."""
    tried = parse(spec.countermeasure)
    _demand(tried, splits)
    owned, test = _divided(splits.test, tried.clean_images, spec.seed)
    num_classes = splits.train.num_classes
    setting = Setting(
        num_classes, spec.data, spec.recipe, device, spec.seed, twin=splits.twin, owned=owned
    )
    test = tried.scored(test)
    own = None if splits.train.targets is None else tried.scored(splits.train)
    net = build(victim(spec.victim).net, tried.outputs(num_classes), spec.net_size, _seed(spec))
    answers = _Folded(tried, net)
    watched = for_curve(test, len(splits.train)) if tried.is_watched else None
    training = _Training(spec, answers, watched, device, progress, keeper)
    answers.ask(
        train(
            net,
            splits.train,
            spec.recipe,
            device=device,
            seed=_seed(spec),
            hooks=tried.hooks(setting),
            on_epoch=training.note,
            keeper=None if keeper is None else training,
        )
    )
    predicted, labels = _answers(answers, test, device)
    counts = confusion(predicted, labels, test.num_classes)
    train_accuracy = None if own is None else accuracy(*_answers(answers, own, device))
    return Outcome(
        spec=spec,
        curve=tuple(training.curve),
        final=accuracy(predicted, labels),
        renamed=renamed_accuracy(predicted, labels, test.num_classes),
        train_accuracy=train_accuracy,
        confusion=tuple(tuple(row) for row in counts.tolist()),
        train_rows=len(splits.train),
        test_rows=len(test),
        num_parameters=num_parameters(net),
        recipe=spec.recipe,
        seconds=training.seconds,
        owned_rows=0 if owned is None else len(owned),
        diverged=answers.diverged,
    )


def _demand(tried: Countermeasure, splits: Splits) -> None:
    if splits.test.targets is None:
        raise ValueError("victims are scored on labelled rows: give a test split with labels")
    missing = tried.missing(
        labelled=splits.train.targets is not None,
        has_twin=splits.twin is not None,
        num_classes=splits.train.num_classes,
    )
    if missing is not None:
        raise ValueError(missing)
    if tried.needs_twin and splits.twin is not None:
        _demand_same_shape(tried, splits.train, splits.twin)


def _demand_same_shape(tried: Countermeasure, train: PixelSplit, twin: PixelSplit) -> None:
    if train.shape != twin.shape:
        released, clean = ("{} x {} x {}".format(*split.shape) for split in (train, twin))
        raise ValueError(
            f"countermeasure {tried.public} mixes released images with clean ones, but these are "
            f"{clean} (channels, height, width) and those {released}: give clean images of the "
            "same kind, or leave it out"
        )


def _divided(test: PixelSplit, owned: int, seed: int) -> tuple[PixelSplit | None, PixelSplit]:
    """So many of the test rows, at most half, drawn evenly over the classes, and the others."""
    if not owned:
        return None, test
    rows, labels = test.numbered()
    assert labels is not None
    generator = np.random.default_rng((seed, owned))
    shuffled = generator.permutation(len(rows))
    turns = _places_in_class(labels[shuffled])
    first = shuffled[np.argsort(turns, kind="stable")][: min(owned, len(rows) // 2)]
    others = np.setdiff1d(np.arange(len(rows)), first)
    return test.take(rows[first].tolist()), test.take(rows[others].tolist())


def _places_in_class(labels: Classes) -> Classes:
    """(N,): how many rows of the same class stand before each."""
    order = np.argsort(labels, kind="stable")
    places = np.empty(len(labels), dtype=np.int64)
    places[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return places


class _Folded(nn.Module):
    """A predictor over the classes that are scored, of one over the net's own outputs."""

    def __init__(self, tried: Countermeasure, net: Net) -> None:
        super().__init__()
        self.tried = tried
        self.predictor: Predictor = net
        self._answers_are_finite = True

    def ask(self, predictor: Predictor) -> None:
        """From now on this predictor, a net or any function."""
        del self.predictor  # nothing but a net may take the place of one
        self.predictor = predictor
        self._answers_are_finite = True

    @property
    def diverged(self) -> bool:
        """Whether the predictor that was last set has, or gave since, numbers that are not
        finite: of these argmax makes class 0, so that no accuracy tells."""
        own = (*self.parameters(), *self.buffers())
        return not self._answers_are_finite or not all(map(_is_finite, own))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.tried.folded(self.predictor(x))
        self._answers_are_finite &= _is_finite(logits)
        return logits


def _is_finite(numbers: Tensor) -> bool:
    return bool(numbers.isfinite().all())


class _Training:
    """Scores the net after every epoch, where there are rows for that, and keeps the curve; beside
    the training's own snapshots where there is a keeper."""

    def __init__(
        self,
        spec: TrialSpec,
        predictor: Predictor,
        test_split: Split | None,
        device: torch.device,
        progress: Callable[[float], None],
        keeper: Keeper | None,
    ) -> None:
        self.curve: list[Epoch] = []
        self._began = time.monotonic()
        self._epochs = spec.recipe.epochs
        self._predictor = predictor
        self._test = test_split
        self._device = device
        self._progress = progress
        self._keeper = keeper

    @property
    def seconds(self) -> float:
        """Since it began, without the time for which it was interrupted."""
        return time.monotonic() - self._began

    def load(self) -> Snapshot | None:
        kept = None if self._keeper is None else self._keeper.load()
        if kept is None:
            return None
        self.curve = [Epoch.of(**values) for values in kept["curve"]]
        self._began -= kept["seconds"]
        training: Snapshot = kept["training"]
        return training

    def save(self, snapshot: Snapshot) -> None:
        assert self._keeper is not None
        curve = [asdict(epoch) for epoch in self.curve]
        self._keeper.save({"training": snapshot, "curve": curve, "seconds": self.seconds})

    def note(self, epoch: int, stats: EpochStats) -> None:
        if self._test is not None:
            scored = accuracy(*_answers(self._predictor, self._test, self._device))
            # Where the loss asks for no logits, nobody knows what was right while training.
            self.curve.append(Epoch.of(stats.loss, stats.accuracy, scored))
        self._progress(epoch / self._epochs)


def for_curve(test_split: Split, train_rows: int) -> Split:
    """The test rows that every epoch on so many training rows is scored on."""
    return _drawn(test_split, curve_rows(train_rows, len(test_split)))


def curve_rows(train_rows: int, test_rows: int) -> int:
    """How many of them there are."""
    wanted = max(_FEWEST_CURVE_ROWS, _CURVE_SHARE * train_rows)
    return min(_CURVE_ROWS, wanted, test_rows)


def _drawn(split: Split, most: int) -> Split:
    """At most that many rows of a split, drawn once and for all: evenly spread ones would all be of
    few classes where the rows go through the classes in turn."""
    rows = torch.cat([batch.rows for batch in split.batches(500)]).numpy()
    return split.take(np.random.default_rng(0).permutation(rows)[:most].tolist())


def _answers(predictor: Predictor, split: Split, device: torch.device) -> tuple[Classes, Classes]:
    predicted, labels = predict(predictor, split, device)
    return predicted.numpy(), labels.numpy()


def _seed(spec: TrialSpec) -> int:
    """A seed that no surrogate was started from, whatever small numbers both were given."""
    return int.from_bytes(hashlib.sha256(f"victim {spec.seed}".encode()).digest()[:4], "big")
