"""Clean images among the protected ones (Fu et al., ICLR 2022, "Robust Unlearnable Examples").

Whether a partly protected release still teaches more than its clean part alone: at 80 %, under
adversarial training with radius 4/255 on CIFAR-10, Fang et al. (CVPR 2024) report 84.8 for
min-max-min noise where the clean fifth alone gives 79.4.

Departures:
1. The protected rows are spread evenly over the classes, so that small samples keep their balance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.edits import edited


@register
@dataclass(frozen=True)
class MixPercent(Countermeasure):
    """Trains on rows of which only a share is protected, the others being clean.

    share: of protected rows in per cent, above 0 and below 100. The clean twin trains on the clean
    rows ALONE, each as often as it takes for as many steps, so that the two differ by what the
    protected rows add.
    """

    name = "mix-percent"
    is_setting = True
    needs_twin = True
    protocol = 1  # the twin of the first took fewer steps
    share: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 100:
            raise ValueError(
                f"mix-percent share is above 0 and below 100 per cent, not {self.share}"
            )

    def hooks(self, setting: Setting) -> Hooks:
        def mixed(split: Split) -> Split:
            assert isinstance(split, PixelSplit)
            rows, _ = split.numbered()
            clean = np.setdiff1d(rows, self.protected_rows(split, setting.seed))
            if len(clean) < 2:
                raise ValueError(
                    f"{self} leaves {len(clean)} of {len(rows)} rows clean, and training needs 2: "
                    "give a smaller share"
                )
            if setting.data == "clean":
                return repeated(split.take(clean.tolist()), len(split))
            return with_clean(split, setting.twin, clean)

        return Hooks(data=mixed)

    def protected_rows(self, split: PixelSplit, seed: int) -> np.ndarray:
        """The numbers of the rows that stay protected: drawn, and as many of each class."""
        rows, labels = split.numbered()
        assert labels is not None
        shuffled = np.random.default_rng((seed, 0x3A)).permutation(len(rows))
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
        places = np.arange(len(rows)) - np.searchsorted(labels[order], labels[order])
        first = order[np.argsort(places / np.bincount(labels)[labels[order]], kind="stable")]
        return np.sort(rows[first[: round(len(rows) * self.share / 100)]])


def repeated(split: PixelSplit, count: int) -> PixelSplit:
    """`count` rows an epoch: each of the split's as often as another, or once more."""
    return replace(split, chosen=np.sort(np.resize(split.places(), count)))


def with_clean(split: PixelSplit, twin: PixelSplit | None, clean: np.ndarray) -> PixelSplit:
    """`split` with the images of the rows numbered `clean` replaced by their clean ones."""

    def swap(x: Tensor, rows: np.ndarray) -> Tensor:
        chosen = np.isin(rows, clean)
        x[torch.from_numpy(chosen)] = clean_images(twin, rows[chosen])
        return x

    return edited(split, swap)


def clean_images(twin: PixelSplit | None, rows: np.ndarray) -> Tensor:
    """The clean images (B,C,H,W) float32 in [0,1] of row numbers (B,), in any order; ValueError if
    the twin lacks some."""
    assert twin is not None, "a countermeasure that needs the twin was given none"
    at = np.searchsorted(twin.rows, rows)
    known = twin.rows[np.minimum(at, len(twin.rows) - 1)] == rows
    if not known.all():
        missing = rows[~known]
        raise ValueError(
            f"{len(missing)} rows, such as row {missing[0]}, have no clean images: "
            "give the clean images of all rows"
        )
    return torch.from_numpy(np.ascontiguousarray(twin.pixels[at])).float().div_(255)
