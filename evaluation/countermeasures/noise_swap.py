"""Noise of other images: whether the noise alone carries what victims learn.

There is no paper of just this. Noise that is one for a class (Huang et al., ICLR 2021) works on any
of its images, noise that is each image's own may not; and noise moved to images of another class
tells whether victims learn it instead of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.countermeasures.mix_percent import clean_images
from evaluation.edits import edited


@register
@dataclass(frozen=True)
class NoiseSwap(Countermeasure):
    """Trains on clean images that carry the noise of other rows.

    between: whose noise it is: `same-class` for a row of the same class (every row's noise is used
    once; a row alone in its class keeps its own), `other-class` for a row of any other class. Sums
    are clipped to the range of pixels. The clean twin is that of plain training.
    """

    name = "noise-swap"
    is_setting = True
    needs_twin = True
    between: Literal["same-class", "other-class"] = "same-class"

    def hooks(self, setting: Setting) -> Hooks:
        def swapped(split: Split) -> Split:
            assert isinstance(split, PixelSplit)
            if setting.data == "clean":
                return split
            numbers, labels = split.numbered()
            assert labels is not None
            partners = numbers[self.partners(labels, setting.seed)]

            def swap(x: Tensor, rows: np.ndarray) -> Tensor:
                theirs = partners[np.searchsorted(numbers, rows)]
                noise = _images(split, theirs) - clean_images(setting.twin, theirs)
                return clean_images(setting.twin, rows) + noise

            return edited(split, swap)

        return Hooks(data=swapped)

    def partners(self, labels: np.ndarray, seed: int) -> np.ndarray:
        """(N,): whose noise each row gets, as positions; ValueError if there is no other class."""
        generator = np.random.default_rng((seed, 0x5A))
        shuffled = generator.permutation(len(labels))
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
        counts = np.bincount(labels)[labels[order]]
        starts = np.searchsorted(labels[order], labels[order])
        if self.between == "same-class":
            turns = starts + (np.arange(len(labels)) - starts + 1) % counts
        elif counts.max() == len(labels):
            raise ValueError("noise-swap between other-class needs rows of two classes or more")
        else:
            turns = starts + counts + generator.integers(len(labels) - counts)
        chosen = np.empty(len(labels), dtype=np.int64)
        chosen[order] = order[turns % len(labels)]
        return chosen


def _images(split: PixelSplit, rows: np.ndarray) -> Tensor:
    at = np.searchsorted(split.rows, rows)
    return torch.from_numpy(np.ascontiguousarray(split.pixels[at])).float().div_(255)
