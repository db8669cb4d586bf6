"""Figures from predictions: accuracy, confusion, the best renaming, the gate's ratio.

Predictions and labels are integer arrays (N,); every share is a fraction from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]


def accuracy(predicted: Classes, labels: Classes) -> float:
    """The share of rows that were predicted right."""
    return float(np.mean(predicted == labels))


def confusion(predicted: Classes, labels: Classes, num_classes: int) -> NDArray[np.int64]:
    """(K,K) counts: row is the true class, column the predicted one."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def renaming(counts: NDArray[np.int64]) -> Classes:
    """(K,): for each true class the predicted one that means it, one-to-one, such that as many of
    the (K,K) counts as possible are right (Kuhn, Naval Research Logistics 1955)."""
    from scipy.optimize import linear_sum_assignment

    _, named = linear_sum_assignment(counts, maximize=True)
    return np.asarray(named, dtype=np.int64)


def renamed_accuracy(predicted: Classes, labels: Classes, num_classes: int) -> float:
    """The accuracy after the best one-to-one renaming of the classes.

    A net that learnt permuted labels is as useful as one that learnt the right ones: whoever owns a
    few labelled images undoes the permutation. The renaming is fitted on every second row of each
    class and scored on the rest, so that chance agreement is not counted as knowledge; where no
    class has two rows nothing can be fitted and the plain accuracy is returned.
    """
    fitted = _every_second(labels)
    if fitted.all():
        return accuracy(predicted, labels)
    counts = confusion(predicted[fitted], labels[fitted], num_classes)
    meaning = np.empty(num_classes, dtype=np.int64)
    meaning[renaming(counts)] = np.arange(num_classes)
    return accuracy(meaning[predicted[~fitted]], labels[~fitted])


def _every_second(labels: Classes) -> NDArray[np.bool_]:
    """(N,) bool: the 1st, 3rd, 5th ... row of each class."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    chosen = np.empty(len(labels), dtype=bool)
    chosen[order] = (np.arange(len(labels)) - starts) % 2 == 0
    return chosen


def dominant_shift(counts: NDArray[np.int64]) -> tuple[int, float]:
    """The commonest wrong (predicted - true) mod K, and the share of all rows it took.

    Methods that pull every class towards the next but four leave exactly this trace.
    """
    num_classes = len(counts)
    true, predicted = np.indices(counts.shape)
    shifts = np.bincount(
        ((predicted - true) % num_classes).ravel(), counts.ravel(), minlength=num_classes
    )
    if num_classes < 2 or not counts.any():
        return 0, 0.0
    shift = int(shifts[1:].argmax()) + 1
    return shift, float(shifts[shift] / counts.sum())


def above_chance_ratio(protected: float, clean: float | None, chance: float) -> float | None:
    """What is left of the clean accuracy above chance: (protected - chance) / (clean - chance).

    None where the clean twin did not beat chance itself, or there is none: then there is nothing
    to compare with.
    """
    if clean is None or clean <= chance:
        return None
    return (protected - chance) / (clean - chance)


def percent(share: float) -> str:
    """A fraction in per cent, for people."""
    return f"{100 * share:.1f} %"


def apart(one: float, other: float) -> tuple[str, str]:
    """Two fractions in per cent, with as many digits, at most five, as tell them apart."""
    for digits in range(1, 6):
        first, second = (f"{100 * share:.{digits}f} %" for share in (one, other))
        if first != second:
            return first, second
    return percent(one), percent(other)


def a_or_an(name: str) -> str:
    """The name of a net with its article, for people."""
    return f"{'an' if name[:1].lower() in tuple('aeio') else 'a'} {name}"


def known_percent(share: float | None) -> str:
    """A fraction in per cent, or that nobody measured it."""
    return "not measured" if share is None else percent(share)
