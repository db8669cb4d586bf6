"""The geometry of the page's charts, in per cent of the box that each is drawn in.

Text, dots and strokes keep their size in any box, so a chart is as wide as its reader's screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_NAMED_CLASSES = 20
"""Up to this many classes a matrix is a table with names; a larger one is drawn."""
_DRAWN_CELLS = 6000
_SHADES = 16


@dataclass(frozen=True)
class Tick:
    """A place along an axis, in per cent of it, and what is written there; is_minor: what a narrow
    screen has no room for."""

    at: float
    label: str
    is_minor: bool = False


@dataclass(frozen=True)
class Line:
    """A curve as points `x,y x,y` in a box of 100 by 100 with y downwards; series: 0, 1, 2 ...,
    which gives its colour; last: the height of its end, in per cent from the top."""

    points: str
    series: int
    label: str
    last: float


@dataclass(frozen=True)
class LineChart:
    """Curves over the same epochs with their axes."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    chance: float | None = None


def line_chart(
    named: Sequence[tuple[str, int, Sequence[float]]], chance: float | None = None
) -> LineChart:
    """Curves by epoch, each a label, a series and its values, on one axis: from 0 to 1 where all
    are fractions, or else from the least to the greatest of them."""
    values = [value for _, _, curve in named for value in curve if math.isfinite(value)]
    fractions = all(0 <= value <= 1 for value in values)
    low, high = (0.0, 1.0) if fractions else (min(values), max(values))
    longest = max((len(curve) for _, _, curve in named), default=1)
    lines = [_line(label, series, curve, longest, low, high) for label, series, curve in named]
    return LineChart(lines, _epoch_ticks(longest), _value_ticks(low, high, fractions), chance)


def _line(
    label: str, series: int, curve: Sequence[float], longest: int, low: float, high: float
) -> Line:
    heights = [
        (epoch, 100 - 100 * (value - low) / ((high - low) or 1))
        for epoch, value in enumerate(curve)
        if math.isfinite(value)
    ]
    places = [(100 * epoch / max(longest - 1, 1), height) for epoch, height in heights]
    if len(places) == 1:  # a line needs two ends, and one epoch is a level
        places = [(0.0, places[0][1]), (100.0, places[0][1])]
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    return Line(points, series, label, places[-1][1] if places else 100.0)


def _epoch_ticks(epochs: int) -> list[Tick]:
    ends = [Tick(0, "1"), Tick(100, f"{epochs}")]
    return ends[:epochs]


def _value_ticks(low: float, high: float, fractions: bool) -> list[Tick]:
    if fractions:
        return [Tick(at, f"{at:.0f} %") for at in (0, 50, 100)]
    middle = (low + high) / 2
    return [Tick(0, f"{low:.3g}"), Tick(50, f"{middle:.3g}"), Tick(100, f"{high:.3g}")]


@dataclass(frozen=True)
class Matrix:
    """Shares of each line (from 0 to 1) with the names of lines and columns. Where there are too
    many for a table, `shades` draws those that are not next to nothing: a share and the outlines
    of all cells that have about as much, in a box as wide as there are columns."""

    names: list[str]
    shares: list[list[float]]
    shades: list[tuple[float, str]]

    @property
    def is_small(self) -> bool:
        return len(self.names) <= _NAMED_CLASSES


def confusion_matrix(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Matrix:
    """Of each true class, what share was taken for which; numbers where names are not known."""
    shares = [[count / max(sum(line), 1) for count in line] for line in counts]
    return matrix(shares, class_names)


def matrix(shares: Sequence[Sequence[float]], names: Sequence[str]) -> Matrix:
    """A square matrix; its names are numbers where there are not as many of them."""
    known = list(names) if len(names) == len(shares) else [str(n) for n in range(len(shares))]
    made = [list(line) for line in shares]
    return Matrix(known, made, _shades(made) if len(known) > _NAMED_CLASSES else [])


def _shades(shares: Sequence[Sequence[float]]) -> list[tuple[float, str]]:
    cells = [(s, x, y) for y, line in enumerate(shares) for x, s in enumerate(line) if s > 0]
    cells = sorted(cells, reverse=True)[:_DRAWN_CELLS]
    drawn: dict[int, list[str]] = {}
    for share, x, y in cells:
        shade = min(round(share * _SHADES), _SHADES)
        if shade:
            drawn.setdefault(shade, []).append(f"M{x} {y}h1v1h-1z")
    return [(shade / _SHADES, "".join(paths)) for shade, paths in sorted(drawn.items())]


@dataclass(frozen=True)
class Mistake:
    """How often test images of one class were taken for another: a share of the former."""

    true: str
    predicted: str
    share: float


def mistakes(found: Matrix, most: int = 10) -> list[Mistake]:
    """The commonest ones, the greatest share first."""
    all_of_them = [
        Mistake(found.names[true], found.names[predicted], share)
        for true, line in enumerate(found.shares)
        for predicted, share in enumerate(line)
        if true != predicted and share > 0
    ]
    return sorted(all_of_them, key=lambda mistake: -mistake.share)[:most]


Label = Literal["always", "wide", "hidden"]


@dataclass(frozen=True)
class Dot:
    """A method in the plane of cost and accuracy, at x, y in per cent from left and bottom, with
    its place in the table; radius in pixels, the greater the more visible its changes are. label:
    where there is room for its name beside it."""

    x: float
    y: float
    radius: float
    place: int
    name: str
    note: str
    on_front: bool
    label: Label

    @property
    def anchor(self) -> str:
        """Which end of its name stands at the dot, so that no name leaves the box."""
        return "start" if self.x < 15 else "end" if self.x > 85 else "middle"


@dataclass(frozen=True)
class Plane:
    """Methods by cost and by what was learnt; front: those that no other beats in both, joined."""

    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    front: str


def pareto(methods: Sequence[Mapping[str, Any]]) -> Plane:
    """Methods, in the order of the table, by the seconds that crafting 1,000 images took (a
    logarithmic axis) and the protected accuracy of the worst victim."""
    seconds = [max(float(method["craft_seconds_per_1000"]), 1e-3) for method in methods]
    low, high = _decades(seconds)
    learnt = [float(method["worst"]["protected"]) for method in methods]
    top = min(1.0, math.ceil(10 * max(learnt, default=1) + 0.5) / 10)
    places = [
        (100 * (math.log10(cost) - low) / (high - low), 100 * accuracy / top)
        for cost, accuracy in zip(seconds, learnt, strict=True)
    ]
    best = _front(seconds, learnt)
    labels = _labels(places, best)
    dots = [
        Dot(
            *places[at],
            radius=_radius(method["psnr"]),
            place=at + 1,
            name=str(method["method"]),
            note=_decibels(method["psnr"]),
            on_front=at in best,
            label=labels.get(at, "hidden"),
        )
        for at, method in enumerate(methods)
    ]
    joined = " ".join(f"{dots[at].x:.2f},{100 - dots[at].y:.2f}" for at in best)
    heights = [Tick(100 * step / 10 / top, f"{10 * step} %") for step in _steps(top)]
    return Plane(dots, _decade_ticks(low, high), heights, joined)


def _labels(places: Sequence[tuple[float, float]], front: Sequence[int]) -> dict[int, Label]:
    """Which dots of the front are named: not one whose name would run into one that is, of which
    a narrow screen has fewer."""
    found: dict[int, Label] = {}
    for at in reversed(front):
        if _has_room(places, at, found, 14):
            shown = [other for other, label in found.items() if label == "always"]
            found[at] = "always" if _has_room(places, at, shown, 36) else "wide"
    return found


def _has_room(
    places: Sequence[tuple[float, float]], at: int, others: Iterable[int], width: float
) -> bool:
    x, y = places[at]
    return all(abs(x - places[o][0]) > width or abs(y - places[o][1]) > 8 for o in others)


def _steps(top: float) -> range:
    return range(0, round(10 * top) + 1, 1 if top <= 0.5 else 2)


def _decades(seconds: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that hold all of these, with some room at either end."""
    logs = [math.log10(value) for value in seconds] or [0.0]
    low, high = math.floor(min(logs) - 0.1), math.ceil(max(logs) + 0.1)
    return low, high


def _decade_ticks(low: int, high: int) -> list[Tick]:
    wide = high - low
    return [
        Tick(100 * (n - low) / wide, f"{10.0**n:,.10g} s", is_minor=wide > 3 and (n - low) % 2 == 1)
        for n in range(low, high + 1)
    ]


def _front(seconds: Sequence[float], learnt: Sequence[float]) -> list[int]:
    """Those than which none is both cheaper and learnt less from, the cheapest first."""
    order = sorted(range(len(seconds)), key=lambda at: (seconds[at], learnt[at]))
    found: list[int] = []
    for at in order:
        if not found or learnt[at] < learnt[found[-1]]:
            found.append(at)
    return found


def _radius(psnr: float | None) -> float:
    """From 9 pixels at 45 dB and more to 16 at 20 dB and less."""
    if psnr is None:
        return 9.0
    return round(9 + 7 * min(max((45 - psnr) / 25, 0), 1), 1)


def _decibels(psnr: float | None) -> str:
    return "no pixel changed" if psnr is None else f"{psnr:.1f} dB"
