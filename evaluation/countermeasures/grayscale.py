"""Training on grey images (Liu et al., ICML 2023, "Image Shortcut Squeezing").

Departures:
1. The luma is not rounded to 8 bit, and is taken after crops and flips, which does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # ITU-R BT.601 luma


@register
@dataclass(frozen=True)
class Grayscale(Countermeasure):
    """Drops the colours of the training images; test images keep theirs, as in the paper."""

    name = "grayscale"

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(augment=_grey)


def _grey(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) with every channel replaced by the luma; one channel stays as it is."""
    if x.shape[1] == 1:
        return x, y
    red, green, blue = x.unbind(1)
    luma = _RED * red + _GREEN * green + _BLUE * blue
    return luma[:, None].expand_as(x), y
