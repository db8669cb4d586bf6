"""How far a protected image may lie from its clean one, measured on decoded 8-bit pixels.

A budget is written `linf:8` (grey levels), `l2:1.0` (in [0,1] units over the whole image),
`l0:1` (pixels, all their channels), `unbounded`, or a sum `linf:8+l0:1`. The runner, never a
method, projects to it and rounds: towards the clean image wherever plain rounding would leave it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


def _norms(delta: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms


def _each(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Allowance:
    """What a budget comes to, for looking at an image piece by piece: with the `pixels` that differ
    most set aside, what each value differs by beyond `levels` (of 255) has a Euclidean length of at
    most `radius` (in units where 1 is 255 levels)."""

    pixels: int = 0
    levels: int = 0
    radius: float = 0.0


class Budget(ABC):
    """A set of allowed differences delta (B,C,H,W), in units where 1 is 255 grey levels."""

    @property
    @abstractmethod
    def allowance(self) -> Allowance:
        """What it comes to for an image that is looked at piece by piece."""

    @abstractmethod
    def nearest(self, delta: Tensor) -> Tensor:
        """The allowed difference closest to each image's delta."""

    @abstractmethod
    def holds(self, delta: Tensor) -> Tensor:
        """(B,) bool: which of these exact 8-bit differences are allowed."""

    @abstractmethod
    def step(self, gradient: Tensor, levels: float) -> Tensor:
        """The step of `levels` (of 255) along a gradient that this geometry takes."""

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The image in [0,1] within budget of `clean` that is nearest to x (clipped last, which
        only ever shortens the difference)."""
        return (clean + self.nearest(x - clean)).clamp(0, 1)

    def quantise(self, x: Tensor, clean: Tensor) -> Tensor:
        """8-bit pixels (B,C,H,W) near x and within budget of the 8-bit image `clean` / 255."""
        base = clean.mul(255).round()
        pixels = self.project(x, clean).mul(255).round()
        outside = ~self.holds((pixels - base) / 255)
        if outside.any():
            inward = self.project(x, clean).mul(255) - base
            # Half a thousandth of a level absorbs float32 noise around whole levels.
            inward = (inward + inward.sign() * 5e-4).trunc()
            pixels = torch.where(_each(outside), base + inward, pixels)
        return pixels.clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Linf(Budget):
    """No channel of any pixel moves by more than `levels` grey levels."""

    levels: int

    def __str__(self) -> str:
        return f"linf:{self.levels}"

    @property
    def allowance(self) -> Allowance:
        return Allowance(levels=self.levels)

    def nearest(self, delta: Tensor) -> Tensor:
        return delta.clamp(-self.levels / 255, self.levels / 255)

    def holds(self, delta: Tensor) -> Tensor:
        return delta.abs().mul(255).round().flatten(1).amax(1) <= self.levels

    def step(self, gradient: Tensor, levels: float) -> Tensor:
        return gradient.sign().mul(levels / 255)


@dataclass(frozen=True)
class L2(Budget):
    """The Euclidean length of the difference, in [0,1] units, is at most `radius`."""

    radius: float

    def __str__(self) -> str:
        return f"l2:{self.radius:g}"

    @property
    def allowance(self) -> Allowance:
        return Allowance(radius=self.radius)

    def nearest(self, delta: Tensor) -> Tensor:
        # 1 % below the radius: rounding to 8 bit lengthens a difference slightly.
        scale = (0.99 * self.radius / _norms(delta).clamp_min(1e-12)).clamp_max(1)
        return delta * _each(scale)

    def holds(self, delta: Tensor) -> Tensor:
        return _norms(delta) <= self.radius

    def step(self, gradient: Tensor, levels: float) -> Tensor:
        return gradient / _each(_norms(gradient).clamp_min(1e-12)) * (levels / 255)


@dataclass(frozen=True)
class L0(Budget):
    """At most `pixels` pixels differ, in any of their channels and by any amount."""

    pixels: int

    def __str__(self) -> str:
        return f"l0:{self.pixels}"

    @property
    def allowance(self) -> Allowance:
        return Allowance(pixels=self.pixels)

    def nearest(self, delta: Tensor) -> Tensor:
        size = delta.abs().amax(1).flatten(1)  # (B,H*W)
        most = size.topk(min(self.pixels, size.shape[1]), dim=1).indices
        kept = torch.zeros_like(size).scatter_(1, most, 1)
        return delta * kept.view(delta.shape[0], 1, *delta.shape[2:])

    def holds(self, delta: Tensor) -> Tensor:
        return (delta != 0).any(1).flatten(1).sum(1) <= self.pixels

    def step(self, gradient: Tensor, levels: float) -> Tensor:
        return gradient.sign().mul(levels / 255)


@dataclass(frozen=True)
class Unbounded(Budget):
    """Any image; what it costs to look at is reported, not limited."""

    def __str__(self) -> str:
        return "unbounded"

    @property
    def allowance(self) -> Allowance:
        return Allowance(levels=255)

    def nearest(self, delta: Tensor) -> Tensor:
        return delta

    def holds(self, delta: Tensor) -> Tensor:
        return torch.ones(len(delta), dtype=torch.bool, device=delta.device)

    def step(self, gradient: Tensor, levels: float) -> Tensor:
        return gradient.sign().mul(levels / 255)


@dataclass(frozen=True)
class Sum(Budget):
    """A difference that is one allowed by each of the parts, added up."""

    parts: tuple[Budget, ...]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)

    @property
    def _taken_off(self) -> list[Budget]:
        """The parts in the order they are taken off a difference: what a few pixels may hold
        without limit goes first, what is left after clipping has the shortest length."""
        return sorted(self.parts, key=lambda part: _TAKEN_OFF.index(type(part)))

    @property
    def allowance(self) -> Allowance:
        each = [part.allowance for part in self.parts]
        return Allowance(
            sum(part.pixels for part in each),
            sum(part.levels for part in each),
            sum(part.radius for part in each),
        )

    def nearest(self, delta: Tensor) -> Tensor:
        rest = delta
        for part in self._taken_off:
            rest = rest - part.nearest(rest)
        return delta - rest

    def holds(self, delta: Tensor) -> Tensor:
        *others, last = self._taken_off
        for part in others:
            delta = delta - part.nearest(delta)
        return last.holds(delta)

    def step(self, gradient: Tensor, levels: float) -> Tensor:
        return self.dense.step(gradient, levels)

    @property
    def dense(self) -> Budget:
        """The first part that lets every pixel move, or the first of all where none does."""
        return next((part for part in self.parts if not isinstance(part, L0)), self.parts[0])


_TAKEN_OFF: list[type[Budget]] = [Unbounded, L0, Linf, L2]


def parse(text: str) -> Budget:
    """The budget written as `text`; ValueError says what is wrong and what would be right."""
    parts = tuple(_parse_one(part.strip()) for part in text.lower().split("+"))
    return parts[0] if len(parts) == 1 else Sum(parts)


def _parse_one(text: str) -> Budget:
    kind, _, amount = text.partition(":")
    try:
        if kind == "unbounded" and not amount:
            return Unbounded()
        if kind == "linf" and 0 < int(amount) <= 255:
            return Linf(int(amount))
        if kind == "l0" and int(amount) > 0:
            return L0(int(amount))
        if kind == "l2" and 0 < float(amount) < float("inf"):
            return L2(float(amount))
    except ValueError:
        pass  # falls through to the one message below: the amount is not a number of that kind
    raise ValueError(
        f"no budget is written {text!r}: use linf:8 (whole grey levels of 255), l2:1.0, l0:1, "
        "unbounded, or a sum such as linf:8+l0:1"
    )
