"""Methods that shape the gradient with respect to a net's weights that a batch of images gives.

Each step fixes a direction in the space of weights for every batch; images then climb the slope of
their loss along it (`crafting.tangent`), by decaying signed Adam from noise, each step through a
fresh shift and mirroring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from crafting.batch import Batch
from crafting.budget import L2, Budget, Linf
from crafting.descent import DECAYS, Walk, demand_reach, image_gradient, scattered
from crafting.method import Context, Scope, State
from crafting.moves import move
from crafting.surrogate import QUICK_SURROGATE, SurrogateMethod
from crafting.tangent import SLOPE_PASSES, Slope, SlopeName, Surroundings

Slopes = Callable[[Tensor, Tensor], Slope]
"""Images and labels of a batch to the slopes that they climb from there."""

PAPER_SLOPES: dict[str, Any] = {
    "surrogate_epochs": 40,
    "surrogate_recipe": "tap",
    "checkpoints": 1,
}
QUICK_SLOPES: dict[str, Any] = QUICK_SURROGATE | {"restarts": 1, "direction": "difference"}


@dataclass(frozen=True, kw_only=True)
class SlopeMethod(SurrogateMethod):
    """steps: how many an image climbs; step_levels: length of the first ones, of 255; restarts: how
    often it begins anew, of which the best is kept; momentum: of the mean of past steps; direction:
    how slopes are taken; difference_step: how far `difference` looks, as a share of the length of
    the weights. ValueError for a difference_step of 0 and a momentum of 1."""

    steps: int = 240
    step_levels: float = 6.4
    momentum: float = 0.9
    restarts: int = 8
    direction: SlopeName = "jvp"
    difference_step: float = 0.04

    scope: ClassVar[Scope] = "batch"
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)
    stream: ClassVar[str]
    """What its noise and its shifts are drawn as."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.difference_step < math.inf:
            raise ValueError("difference_step is a share above 0: set difference_step=0.04")
        if not 0 <= self.momentum < 1:
            raise ValueError("momentum is at least 0 and below 1: set momentum=0.9")
        demand_reach(self.budget, math.ceil(self.steps * DECAYS[0]), self.step_levels)

    @property
    def passes(self) -> int:
        return self.steps * self.restarts * (1 + SLOPE_PASSES[self.direction])

    def _slope(self, around: Surroundings, direction: State) -> Slope:
        return around.slope(direction, self.direction, self.difference_step * around.length)

    def _attempt(self, slopes: Slopes, batch: Batch, ctx: Context, restart: int) -> Tensor:
        shape = tuple(batch.x.shape[1:])
        noise = ctx.noise(batch.rows, f"{self.stream}-start-{restart}", shape)
        moves = ctx.noise(batch.rows, f"{self.stream}-moves-{restart}", (self.steps, 3), "uniform")
        walk, labels = Walk(batch.x, self.budget, self.step_levels), batch.labels()

        def gradient(x: Tensor, t: int) -> Tensor:
            course = slopes(move(x, moves[:, t]), labels)
            steep = image_gradient(lambda x: -course(move(x, moves[:, t]), labels), x)
            return self._regularised(steep, x, batch.x)

        start = scattered(walk, noise)
        return walk.descend_decaying(start, gradient, self.steps, self.momentum)

    def _regularised(self, gradient: Tensor, x: Tensor, clean: Tensor) -> Tensor:
        """The gradient to go against, given that of the slopes."""
        return gradient
