"""Plain training."""

from __future__ import annotations

from dataclasses import dataclass

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, register


@register
@dataclass(frozen=True)
class Nothing(Countermeasure):
    """Trains on the images as they are."""

    name = "none"

    def hooks(self) -> Hooks:
        return Hooks()
