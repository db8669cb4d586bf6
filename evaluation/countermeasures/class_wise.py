"""Protection of some classes only (Chen et al., ICLR 2023, "Self-Ensemble Protection", figure 2:
classes 5 to 9 of CIFAR-10 are protected, 0 to 4 are clean).

In the paper nearly all clean test images of the protected classes are taken for clean classes.

Departures:
1. The score is of the protected classes alone; the paper shows the confusion matrix of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.countermeasures.mix_percent import with_clean


@register
@dataclass(frozen=True)
class ClassWise(Countermeasure):
    """Trains on rows of which only some classes are protected; these alone are scored.

    classes: `half` for the second half of the classes, or numbers from 0 with dots between them,
    such as 0.1.2. The clean twin trains on the clean images of all classes.
    """

    name = "class-wise"
    is_setting = True
    needs_twin = True
    classes: str = "half"

    def __post_init__(self) -> None:
        if self.classes != "half" and not all(
            part.isascii() and part.isdigit() for part in self.classes.split(".")
        ):
            raise ValueError(
                "class-wise classes are half, or numbers with dots between them such as 0.1.2, "
                f"not {self.classes!r}"
            )

    def hooks(self, setting: Setting) -> Hooks:
        def partly_clean(split: Split) -> Split:
            assert isinstance(split, PixelSplit)
            if setting.data == "clean":
                return split
            rows, labels = split.numbered()
            assert labels is not None
            protected = np.isin(labels, self.protected_classes(setting.num_classes))
            return with_clean(split, setting.twin, rows[~protected])

        return Hooks(data=partly_clean)

    def outputs(self, num_classes: int) -> int:
        self.protected_classes(num_classes)
        return num_classes

    def scored(self, test: PixelSplit) -> PixelSplit:
        rows, labels = test.numbered()
        assert labels is not None
        chosen = np.isin(labels, self.protected_classes(test.num_classes))
        if not chosen.any():
            raise ValueError(
                f"{self} leaves no rows to score: none of these {len(test)} is of a protected class"
            )
        return test.take(rows[chosen].tolist())

    def protected_classes(self, num_classes: int) -> list[int]:
        """Their numbers; ValueError where there are no such classes."""
        if self.classes == "half":
            return list(range(num_classes // 2, num_classes))
        chosen = sorted({int(part) for part in self.classes.split(".")})
        if chosen[-1] >= num_classes:
            raise ValueError(
                f"class-wise has class {chosen[-1]}, but the classes are 0 to {num_classes - 1}"
            )
        return chosen
