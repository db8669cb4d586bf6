"""The one loop of projected steps that every gradient method uses.

A method only says which way is up; the budget's geometry takes the step and keeps it inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crafting.budget import L2, Budget, Linf, Sum

Loss = Callable[[Tensor], Tensor]
"""Images (B,C,H,W) to one loss (B,) each. Losses are summed over rows, never averaged, so that no
row's gradient depends on how many others there are."""
Direction = Callable[[Tensor, int], Tensor]
"""(images, step number from 0) to the gradient (B,C,H,W) to go against."""

DECAYS = (3 / 8, 5 / 8, 7 / 8)
"""Where, of the way, a decaying walk divides its steps by 10."""


@dataclass(frozen=True)
class Walk:
    """Steps of `levels` (of 255) that stay within `budget` of the images `clean`."""

    clean: Tensor
    budget: Budget
    levels: float

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """x after one step against the gradient, projected."""
        return self.budget.project(x - self.budget.step(gradient, self.levels), self.clean)

    def descend(self, start: Tensor, direction: Direction, steps: int) -> Tensor:
        """`start` after that many steps."""
        x = start
        for t in range(steps):
            x = self.step(x, direction(x, t))
        return x

    def descend_decaying(
        self, start: Tensor, direction: Direction, steps: int, momentum: float
    ) -> Tensor:
        """`start` after steps that are each the mean of all so far, weighted with `momentum`, and
        divided by 10 at each of `DECAYS`: Adam on signs, whose second moment is 1."""
        x, mean = start, torch.zeros_like(start)
        for t in range(steps):
            rate = 0.1 ** sum(t >= steps * at for at in DECAYS)
            step = self.budget.step(direction(x, t), self.levels)
            mean = momentum * mean + (1 - momentum) * step
            debiased = mean / (1 - momentum ** (t + 1))
            x = self.budget.project(x - rate * debiased, self.clean)
        return x


def demand_reach(budget: Budget, steps: int, levels: float) -> None:
    """ValueError where steps have no length, and where steps as long as those for whole grey levels
    would end far inside an L2 budget, whose steps are lengths of the whole difference."""
    if not 0 < levels < math.inf:
        raise ValueError(f"step_levels is above 0, not {levels:g}: set step_levels=1")
    bound = budget.dense if isinstance(budget, Sum) else budget
    if isinstance(bound, L2) and steps * levels / 255 < bound.radius:
        enough = math.ceil(bound.radius * 255 / min(5, steps)) if steps else None
        raise ValueError(
            f"{steps} steps of {levels:g}/255 do not reach the edge of {budget}: set "
            + (f"step_levels={enough}" if enough else "steps=5")
        )


def image_gradient(loss: Loss, x: Tensor) -> Tensor:
    """The gradient (B,C,H,W) of each image's own loss with respect to that image."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(x).sum(), x)
    return gradient


def unit_mean(gradient: Tensor) -> Tensor:
    """Each image's gradient divided by the mean of its absolute values."""
    size = gradient.abs().flatten(1).mean(1).clamp_min(1e-30)
    return gradient / size.view(-1, 1, 1, 1)


def mean_direction(losses: Sequence[Loss], normalise: bool) -> Direction:
    """At every step the mean of the losses' gradients; with `normalise` each by `unit_mean`, so
    that none dominates."""

    def direction(x: Tensor, t: int) -> Tensor:
        gradients = [image_gradient(loss, x) for loss in losses]
        if normalise:
            gradients = [unit_mean(gradient) for gradient in gradients]
        return torch.stack(gradients).mean(0)

    return direction


def furthest(budget: Budget, direction: Tensor) -> Tensor:
    """The differences (B,C,H,W) along these directions that reach the edge of the budget."""
    assert isinstance(budget, Linf | L2), f"{budget} has no edge"
    levels = budget.levels if isinstance(budget, Linf) else budget.radius * 255
    return budget.step(direction, levels)


def scattered(walk: Walk, noise: Tensor) -> Tensor:
    """Where a walk may start: N(0,1) noise (B,C,H,W) times the bound of Linf, clipped to it; within
    L2 a random place on its sphere."""
    if isinstance(walk.budget, Linf):
        start = noise * (walk.budget.levels / 255)
    else:
        start = furthest(walk.budget, noise)
    return walk.budget.project(walk.clean + start, walk.clean)
