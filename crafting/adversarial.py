"""Adversarial training: images at their worst within a ball (projected gradient ascent).

Madry et al. (ICLR 2018), equation 2.1, with the figures of Fu et al. (ICLR 2022, "Robust
Unlearnable Examples"): 10 steps of a fifth of the radius on CIFAR, 8 steps of a quarter on ImageNet
(both add up to two radii), from a start drawn evenly within the ball.

Departures:
1. The net is attacked in eval mode and trained on what comes of it in training mode: in training
   mode every step would also move BatchNorm's running statistics.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crafting.batch import sent
from crafting.descent import image_gradient
from crafting.training import cross_entropy

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(net, images, labels) to a scalar, as in training's loss hook. Labels may be anything it takes;
a mean over the images suits, since each image takes steps of one length."""

PGD_STEP_COST = 0.67
"""What the gradient with respect to the images takes, relative to a step of training."""
_REACH = 2.0
"""Of all steps together, in radii."""
_TINY = 1e-12


@dataclass(frozen=True)
class Ball(ABC):
    """The differences delta (B,C,H,W) of images in [0,1] that an adversary may make; ValueError
    for a radius that is not above 0."""

    radius: float

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise ValueError(f"an adversary needs a radius above 0, not {self.radius:g}")

    @abstractmethod
    def nearest(self, delta: Tensor) -> Tensor:
        """The allowed difference closest to each image's delta."""

    @abstractmethod
    def along(self, gradient: Tensor, length: float) -> Tensor:
        """The step of this length, in the unit of the radius, that climbs fastest."""

    @abstractmethod
    def drawn(self, x: Tensor) -> Tensor:
        """Differences drawn evenly from the ball, of the shape of x, from torch on CPU."""


@dataclass(frozen=True)
class LinfBall(Ball):
    """No channel of any pixel moves by more than `radius` grey levels of 255, whole or not."""

    def nearest(self, delta: Tensor) -> Tensor:
        return delta.clamp(-self.radius / 255, self.radius / 255)

    def along(self, gradient: Tensor, length: float) -> Tensor:
        return gradient.sign() * (length / 255)

    def drawn(self, x: Tensor) -> Tensor:
        return sent(2 * torch.rand(x.shape) - 1, x.device) * (self.radius / 255)


@dataclass(frozen=True)
class L2Ball(Ball):
    """The Euclidean length of an image's difference, in [0,1] units, is at most `radius`."""

    def nearest(self, delta: Tensor) -> Tensor:
        return delta * (self.radius / _lengths(delta).clamp_min(_TINY)).clamp_max(1)

    def along(self, gradient: Tensor, length: float) -> Tensor:
        return gradient / _lengths(gradient).clamp_min(_TINY) * length

    def drawn(self, x: Tensor) -> Tensor:
        towards = torch.randn(x.shape)
        share = torch.rand(len(x), 1, 1, 1) ** (1 / x[0].numel())
        return sent(towards / _lengths(towards) * share * self.radius, x.device)


def pgd(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    step: float | None = None,
    loss: Loss = cross_entropy,
    start: Tensor | None = None,
) -> Tensor:
    """Images (B,C,H,W) in [0,1] within `ball` of x that `steps` steps uphill made worse for `net`.

    step: of each, in the unit of the ball's radius; all together reach two radii unless it is
    given. start: differences (B,C,H,W) to start from, by default drawn from torch. No parameter
    gets a gradient, and the net is in the mode it was in. x is float32 in [0,1] and stays as it is.
    """
    step = _REACH * ball.radius / steps if step is None else step
    clean = x.detach()
    worse = _within(clean, ball.drawn(clean) if start is None else start, ball)
    with in_eval_mode(net):
        for _ in range(steps):
            gradient = image_gradient(lambda images: loss(net, images, y), worse)
            worse = _within(clean, worse - clean + ball.along(gradient, step), ball)
    return worse


def adversarial_loss(ball: Ball, steps: int, step: float | None = None) -> Loss:
    """The cross entropy at the images that `pgd` finds; ValueError for fewer than 1 step, and for
    steps that are not longer than 0."""
    if steps < 1:
        raise ValueError(f"an adversary takes at least 1 step, not {steps}")
    if step is not None and not 0 < step < math.inf:
        raise ValueError(f"an adversary needs steps longer than 0, not {step:g}")

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(net, pgd(net, x, y, ball=ball, steps=steps, step=step), y)

    return loss


@contextmanager
def in_eval_mode(net: nn.Module) -> Iterator[None]:
    """`net` in eval mode inside; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _within(clean: Tensor, delta: Tensor, ball: Ball) -> Tensor:
    """Clipped last, which only ever shortens the difference."""
    return (clean + ball.nearest(delta)).clamp(0, 1)


def _lengths(delta: Tensor) -> Tensor:
    """(B,1,1,1)"""
    norms: Tensor = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
    return norms
