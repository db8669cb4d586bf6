"""Plain training."""

from __future__ import annotations

from dataclasses import dataclass

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register


@register
@dataclass(frozen=True)
class Nothing(Countermeasure):
    """Trains on the images as they are."""

    name = "none"

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks()
