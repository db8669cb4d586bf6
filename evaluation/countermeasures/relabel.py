"""Other labels than those that the noise was made for (Zhang et al., CVPR 2023, "Unlearnable
Clusters", who relabel Pets into 5 to 35 classes).

Departures:
1. Neighbouring classes are merged by number; the paper groups them by its own list.
2. Classes may also be split into random parts, which the paper does not do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class Relabel(Countermeasure):
    """Trains with merged or split classes, and is scored on the merged ones.

    merge: how many neighbouring classes become one, from 1; the last ones may be fewer. parts: into
    how many random parts each of these is then split for training, from 1; a part counts as its
    class. The clean twin is relabelled alike.
    """

    name = "relabel"
    is_setting = True
    merge: int = 2
    parts: int = 1

    def __post_init__(self) -> None:
        for what, value in (("merge", self.merge), ("parts", self.parts)):
            if value < 1:
                raise ValueError(f"relabel {what} is a count of at least 1, not {value}")

    def hooks(self, setting: Setting) -> Hooks:
        def relabelled(split: Split) -> Split:
            assert isinstance(split, PixelSplit)
            return self._split(self.scored(split), setting.seed)

        return Hooks(data=relabelled)

    def outputs(self, num_classes: int) -> int:
        return self._merged(num_classes) * self.parts

    def folded(self, logits: Tensor) -> Tensor:
        """The greatest logit of each class's parts."""
        return logits.view(len(logits), -1, self.parts).amax(2)

    def scored(self, test: PixelSplit) -> PixelSplit:
        assert test.targets is not None
        classes = self._merged(test.num_classes)
        return replace(test, targets=test.targets // self.merge, num_classes=classes)

    def _split(self, merged: PixelSplit, seed: int) -> PixelSplit:
        """Part p of class k becomes class k * parts + p; which part a row belongs to depends on the
        seed and its number."""
        assert merged.targets is not None
        drawn = np.random.default_rng((seed, 0x7A)).integers(self.parts, size=merged.rows[-1] + 1)
        targets = merged.targets * self.parts + drawn[merged.rows]
        return replace(merged, targets=targets, num_classes=merged.num_classes * self.parts)

    def _merged(self, num_classes: int) -> int:
        merged = -(-num_classes // self.merge)
        if merged < 2:
            raise ValueError(
                f"{self} leaves one class of {num_classes}: give a smaller merge, or 1"
            )
        return merged
