"""Trials and outcomes with chosen figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evaluation.trial import Epoch, Outcome, Trial, TrialSpec


def trial(**changes: Any) -> Trial:
    """A trial of a held-out victim, ten classes, that deserves no flag but that of its seed."""
    plain = Trial(
        victim="resnet18",
        held_out=True,
        countermeasure="none",
        rows="release",
        num_classes=10,
        chance=0.1,
        train_rows=5000,
        seed=0,
        epochs=20,
        clean=0.7,
        protected=0.12,
        peak=0.3,
        peak_epoch=4,
        renamed=0.3,
        train_accuracy=0.95,
        clean_peak=0.7,
        clean_renamed=0.7,
        clean_train_accuracy=0.8,
        drift=0.01,
        clean_drift=0.01,
        diverged=False,
    )
    return replace(plain, **changes)


def outcome(data: str, *curve: float, **changes: Any) -> Outcome:
    """A training of vgg-w16 on ten classes whose test accuracy went along `curve`."""
    train_rows = changes.pop("train_rows", 5000)
    diverged = changes.pop("diverged", False)
    spec: dict[str, Any] = {"victim": "vgg-w16", "seed": 0, "preset": "quick", "data": data}
    made = TrialSpec(**spec | changes)
    right = round(curve[-1] * 100)
    rows = [
        [right if k == true else 100 - right if k == (true + 5) % 10 else 0 for k in range(10)]
        for true in range(10)
    ]
    return Outcome(
        spec=made,
        curve=tuple(Epoch(1.0, 0.9, accuracy) for accuracy in curve),
        final=curve[-1],
        renamed=0.33,
        train_accuracy=0.95,
        confusion=tuple(tuple(row) for row in rows),
        train_rows=train_rows,
        test_rows=1000,
        num_parameters=72788,
        recipe=made.recipe,
        seconds=30.5,
        owned_rows=0,
        diverged=diverged,
    )
