"""Pictures of a release. matplotlib and Pillow are loaded when one is drawn.

`contact_sheet` shows clean pixels and never leaves the owner's machine; everything else here may be
published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cards.facts import Measured, ReleaseEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

_CLEAN, _PROTECTED, _CHANCE = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito: told apart by all
_TILE = 128
"""Pictures are scaled up by whole numbers to about this side, in pixels."""
_LARGEST = 256
"""Of a larger picture only so many pixels a side are shown, around its middle: pages embed them."""
_GAP = 4
_HEADING = 14
_AMPLIFIED = 16
_NAMED_RELEASES = 16
"""More names than these along an axis would overlap."""
_NAMED_CLASSES = 20
"""Up to this many classes are named along the confusion matrix; more would overlap."""


@dataclass(frozen=True)
class Curve:
    """Test accuracy (a fraction) after each epoch of the same victim on both kinds of rows; clean
    is None where no clean twin was trained."""

    victim: str
    clean: Sequence[float] | None
    protected: Sequence[float]


def accuracy_plot(curves: Sequence[Curve], chance: float, out: Path) -> None:
    """`out` is a PNG: one panel per victim, accuracy on clean test images after every epoch;
    chance: the accuracy of guessing."""
    figure = _figure(3.4 * len(curves) + 0.8, 3.4)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        _draw_curve(axes, curve, chance)
    panels[0].set_ylabel("accuracy on clean test images")
    # By its label, since a victim without a clean twin lacks a line that others have.
    shown = {label: line for axes in panels for line, label in _legend(axes)}
    figure.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )
    _save(figure, out)


def _legend(axes: Axes) -> list[tuple[Any, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))


def _draw_curve(axes: Axes, curve: Curve, chance: float) -> None:
    from matplotlib.ticker import MaxNLocator

    pairs = ((curve.clean, _CLEAN, "clean images"), (curve.protected, _PROTECTED, "this release"))
    for values, colour, label in pairs:
        if values is not None:
            axes.plot(range(1, len(values) + 1), values, color=colour, label=label, marker=".")
    axes.axhline(chance, color=_CHANCE, linestyle="--", linewidth=1, label="chance")
    axes.set(title=curve.victim, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _as_accuracies(axes)


def _as_accuracies(axes: Axes) -> None:
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(_percent())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def releases_plot(releases: Sequence[ReleaseEntry], out: Path) -> None:
    """`out` is a PNG: for each release (the oldest first) the final accuracy of the held-out victim
    that learnt most from all rows, beside its clean twin; a gap where one was not measured.
    ValueError where none was."""
    found = [entry.learnt_most("release") for entry in releases]
    if not any(found):
        raise ValueError("no release was verified, so there is nothing to draw")
    figure = _figure(max(3.6, 1.6 + 0.5 * min(len(releases), _NAMED_RELEASES)), 3.4)
    axes = figure.subplots()
    pairs = (("clean", _CLEAN, "clean images"), ("protected", _PROTECTED, "these releases"))
    for kind, colour, label in pairs:
        values = [_mean(best, kind) for best in found]
        axes.plot(range(len(found)), values, color=colour, label=label, marker="o")
    _name_releases(axes, [entry.name for entry in releases])
    _as_accuracies(axes)
    axes.set(title="what was learnt from all rows", ylabel="accuracy on clean test images")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    _save(figure, out)


def _mean(best: Measured | None, kind: str) -> float:
    """The figure that is drawn; not a number, which leaves a gap, where there is none."""
    span = None if best is None else getattr(best, kind)
    return np.nan if span is None else float(span[0])


def _name_releases(axes: Axes, names: Sequence[str]) -> None:
    """Names along the axis, every so many where all would overlap; the newest is always one."""
    step = -(-len(names) // _NAMED_RELEASES)
    named = range(len(names) - 1, -1, -step)
    axes.set_xticks(named, [_plain(names[at]) for at in named], rotation=45, fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)


def confusion_plot(
    counts: Sequence[Sequence[int]], class_names: Sequence[str], title: str, out: Path
) -> None:
    """`out` is a PNG of counts (K,K; row true, column predicted) as shares of each true class."""
    matrix = np.asarray(counts, dtype=float)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 2.6 + 0.28 * min(len(matrix), _NAMED_CLASSES)
    figure = _figure(side + 0.9, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    _name_classes(axes, class_names)
    if len(matrix) <= _NAMED_CLASSES:
        _write_shares(axes, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, format=_percent())
    bar.set_label("share of the true class")
    _save(figure, out)


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1, decimals=0)


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    if len(class_names) > _NAMED_CLASSES:
        return
    names = [_plain(name) for name in class_names]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)


def _plain(name: str, longest: int = 16) -> str:
    """A class name as literal text: matplotlib takes dollar signs for formulas, and draws what its
    font lacks as boxes."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    drawn = get_font(findfont(FontProperties())).get_charmap()
    shown = "".join(letter if ord(letter) in drawn else "?" for letter in " ".join(name.split()))
    if len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


def _write_shares(axes: Axes, shares: np.ndarray) -> None:
    for (true, predicted), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "black" if share > 0.6 else "white"
            text = f"{100 * share:.0f}"
            axes.text(predicted, true, text, color=colour, ha="center", va="center", fontsize=6)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _save(figure: Figure, out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    # Software and version would make the same figures differ between installations.
    metadata: Mapping[str, Any] = {"Software": None}
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", metadata=metadata)


def contact_sheet(clean: Sequence[np.ndarray], protected: Sequence[np.ndarray], out: Path) -> None:
    """`out` is a lossless PNG with a line for each image (H,W,C uint8): before, after, and their
    difference times 16 around middle grey; of large images the middle. ValueError where the two
    have other sizes. It shows clean pixels: keep it private."""
    lines = [_compared(before, after) for before, after in zip(clean, protected, strict=True)]
    _save_tiles(lines, out, ("before", "after", f"difference x{_AMPLIFIED}"))


def protected_sheet(protected: Sequence[np.ndarray], out: Path, columns: int = 8) -> None:
    """`out` is a lossless PNG of these images (H,W,C uint8), at most `columns` in a line: small
    ones scaled by whole numbers, of large ones the middle, so that every pixel that is shown keeps
    its exact value."""
    tiles = [middle(image) for image in protected]
    lines = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    _save_tiles(lines, out)


def _compared(before: np.ndarray, after: np.ndarray) -> list[np.ndarray]:
    if before.shape[:2] != after.shape[:2]:
        raise ValueError(f"images of {before.shape} and {after.shape} have no common middle")
    clean, protected = middle(before), middle(after)
    return [clean, protected, _difference(clean, protected)]


def middle(image: np.ndarray) -> np.ndarray:
    """What is shown of an image (H,W,C), in three channels; it does not hold on to the image."""
    top, left = (max(0, side - _LARGEST) // 2 for side in image.shape[:2])
    shown = image[top : top + _LARGEST, left : left + _LARGEST]
    return np.broadcast_to(shown.copy(), (*shown.shape[:2], 3))


def _difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    delta = after.astype(np.int32) - before
    amplified: np.ndarray = np.clip(128 + _AMPLIFIED * delta, 0, 255).astype(np.uint8)
    return amplified


def _save_tiles(
    lines: Sequence[Sequence[np.ndarray]], out: Path, headings: Sequence[str] = ()
) -> None:
    from PIL import Image

    scaled = [[_scaled(tile) for tile in line] for line in lines]
    tall, wide = _largest([tile for line in scaled for tile in line])
    columns = max(len(line) for line in scaled)
    first = _GAP + (_HEADING if headings else 0)
    shape = (first + len(lines) * (tall + _GAP), columns * (wide + _GAP) + _GAP, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for row, line in enumerate(scaled):
        for column, tile in enumerate(line):
            top, left = first + row * (tall + _GAP), _GAP + column * (wide + _GAP)
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    image = Image.fromarray(sheet)
    _write_headings(image, headings, wide + _GAP)
    out.parent.mkdir(parents=True, exist_ok=True)
    image.save(out, format="PNG")


def _write_headings(image: Image.Image, headings: Sequence[str], step: int) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    for column, heading in enumerate(headings):
        draw.text((_GAP + column * step, _GAP), heading, fill="black")


def _largest(tiles: Sequence[np.ndarray]) -> tuple[int, int]:
    """The greatest height and the greatest width."""
    return max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)


def _scaled(tile: np.ndarray) -> np.ndarray:
    times = max(1, round(_TILE / max(tile.shape[:2])))
    scaled: np.ndarray = np.repeat(np.repeat(tile, times, axis=0), times, axis=1)
    return scaled
