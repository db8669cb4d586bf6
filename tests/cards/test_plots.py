"""Pictures: exact where they show pixels, readable where they show figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from card_facts import measured, once, release
from PIL import Image

from cards.plots import (
    Curve,
    accuracy_plot,
    confusion_plot,
    contact_sheet,
    protected_sheet,
    releases_plot,
)


def image(seed: int, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened)


def tile(sheet: np.ndarray, row: int, column: int, side: int = 128, first: int = 4) -> np.ndarray:
    """One picture of a sheet, at its own scale."""
    top, left = first + row * (side + 4), 4 + column * (side + 4)
    return sheet[top : top + side, left : left + side]


def test_published_pixels_are_exact(tmp_path: Path) -> None:
    protected = [image(seed) for seed in range(11)]
    protected_sheet(protected, tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    for number, original in enumerate(protected):
        shown = tile(sheet, *divmod(number, 8))
        assert np.array_equal(shown[::4, ::4], original)
        assert np.array_equal(shown, original.repeat(4, axis=0).repeat(4, axis=1))


def test_a_large_image_is_shown_as_it_is(tmp_path: Path) -> None:
    large = image(0, 150, 200)
    protected_sheet([large], tmp_path / "sheet.png")
    assert np.array_equal(pixels(tmp_path / "sheet.png")[4:154, 4:204], large)


def test_of_a_photograph_the_middle_is_shown(tmp_path: Path) -> None:
    clean = image(0, 901, 1200)
    protected = np.clip(clean, 8, 255)
    protected_sheet([protected] * 16, tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    middle = (slice(322, 578), slice(472, 728))
    assert np.array_equal(tile(sheet, 1, 7, side=256), protected[middle])
    assert sheet.shape == (4 + 2 * 260, 4 + 8 * 260, 3)
    contact_sheet([clean], [protected], tmp_path / "compared.png")
    compared = pixels(tmp_path / "compared.png")
    assert np.array_equal(tile(compared, 0, 0, side=256, first=18), clean[middle])
    assert np.array_equal(tile(compared, 0, 1, side=256, first=18), protected[middle])
    moved = (protected[middle].astype(int) - clean[middle]) * 16 + 128
    assert np.array_equal(tile(compared, 0, 2, side=256, first=18), moved.clip(0, 255))


def test_images_of_two_sizes_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no common middle"):
        contact_sheet([image(0, 300, 300)], [image(0, 400, 400)], tmp_path / "sheet.png")


def test_sizes_and_channels_may_be_mixed(tmp_path: Path) -> None:
    grey = image(1, 28, 28, channels=1)
    protected_sheet([image(0, 60, 40), grey, image(2, 3, 2)], tmp_path / "sheet.png")
    shown = tile(pixels(tmp_path / "sheet.png"), 0, 1, side=128)
    assert shown.shape == (128, 128, 3)
    assert (shown == shown[:, :, :1]).all()


def test_a_comparison_shows_before_after_and_difference(tmp_path: Path) -> None:
    clean = np.full((32, 32, 3), 100, np.uint8)
    protected = clean.copy()
    protected[:16] += 4
    protected[16:] -= 8
    contact_sheet([clean], [protected], tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    before, after, difference = (tile(sheet, 0, column, first=18) for column in range(3))
    assert np.array_equal(before[::4, ::4], clean)
    assert np.array_equal(after[::4, ::4], protected)
    assert (difference[:64] == 128 + 16 * 4).all()
    assert (difference[64:] == 0).all()
    assert (sheet[:18] < 128).any(), "the columns have headings"


def test_a_comparison_needs_a_partner_for_each_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        contact_sheet([image(0), image(1)], [image(0)], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture[:, :, :3].astype(int) - colour).max(2) < 10).any())


BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def test_both_curves_are_drawn_for_each_victim(tmp_path: Path) -> None:
    curves = [Curve("vgg-w16", [0.3, 0.5, 0.67], [0.2, 0.3, 0.12])] * 2
    accuracy_plot(curves[:1], 0.1, tmp_path / "one.png")
    accuracy_plot(curves, 0.1, tmp_path / "two.png")
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert has(one, BLUE)
    assert has(one, ORANGE)
    assert two.shape[1] > 1.5 * one.shape[1]
    half = two.shape[1] // 2
    assert has(two[: two.shape[0] // 2, half:], BLUE)


def test_a_victim_without_a_clean_twin_is_drawn_alone(tmp_path: Path) -> None:
    accuracy_plot([Curve("vgg-w16", None, [0.2, 0.12])], 0.1, tmp_path / "alone.png")
    alone = pixels(tmp_path / "alone.png")
    assert has(alone, ORANGE)
    assert not has(alone, BLUE)
    both = [Curve("vgg-w16", None, [0.2, 0.12]), Curve("resnet10-w16", [0.5, 0.6], [0.2, 0.12])]
    accuracy_plot(both, 0.1, tmp_path / "both.png")
    legend = pixels(tmp_path / "both.png")[-60:]
    assert has(legend, BLUE), "the twin of the second one is named in the legend"


def heights(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """The first and the last line of pixels with this colour, above the legend."""
    drawn = picture[: int(0.8 * len(picture)), :, :3].astype(int)
    lines = np.flatnonzero((np.abs(drawn - colour).max(2) < 10).any(1))
    return int(lines[0]), int(lines[-1])


def test_releases_are_drawn_beside_their_clean_twins(tmp_path: Path) -> None:
    figures = {"clean": once(0.7), "protected": once(0.3)}
    held = [release(name=f"r000{n}", measured=[measured(**figures)]) for n in (1, 2)]
    worse = release(name="r0002", measured=[measured(protected=once(0.5), clean=once(0.7))])
    releases_plot(held, tmp_path / "held.png")
    releases_plot([held[0], worse], tmp_path / "worse.png")
    level, rising = pixels(tmp_path / "held.png"), pixels(tmp_path / "worse.png")
    assert heights(level, BLUE) == heights(rising, BLUE)
    assert heights(level, BLUE)[1] < heights(level, ORANGE)[0], "the twin scored more"
    assert heights(rising, ORANGE)[0] < heights(level, ORANGE)[0] - 50
    assert abs(heights(rising, ORANGE)[1] - heights(level, ORANGE)[1]) <= 1


def test_a_release_that_was_not_verified_leaves_a_gap(tmp_path: Path) -> None:
    kinds = [[measured()], [], [measured()]]
    releases = [release(name=f"r000{n}", measured=made) for n, made in enumerate(kinds, 1)]
    releases_plot(releases, tmp_path / "gap.png")
    drawn = pixels(tmp_path / "gap.png")[:, :, :3].astype(int)
    columns = (np.abs(drawn[: int(0.8 * len(drawn))] - ORANGE).max(2) < 10).any(0)
    first, last = np.flatnonzero(columns)[[0, -1]]
    assert not columns[first : last + 1].all()
    with pytest.raises(ValueError, match="no release was verified"):
        releases_plot(releases[1:2], tmp_path / "none.png")


def test_a_release_without_a_clean_twin_leaves_a_gap_in_its_line_alone(tmp_path: Path) -> None:
    known, unknown = measured(), measured(clean=None)
    releases = [release(name=f"r000{n}", measured=[one]) for n, one in enumerate((known, unknown))]
    releases_plot(releases, tmp_path / "gap.png")
    assert has(pixels(tmp_path / "gap.png")[: int(0.8 * 500)], ORANGE)
    releases_plot(releases[1:], tmp_path / "none.png")
    drawn = pixels(tmp_path / "none.png")
    assert not has(drawn[: int(0.8 * len(drawn))], BLUE)
    assert has(drawn[: int(0.8 * len(drawn))], ORANGE)


def test_many_releases_are_named_now_and_then(tmp_path: Path) -> None:
    releases = [release(name=f"r{n:04d}") for n in range(1, 100)]
    releases_plot(releases, tmp_path / "many.png")
    assert pixels(tmp_path / "many.png").shape[1] < 2000


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        accuracy_plot([Curve("vgg-w16", [0.3], [0.2])], 0.1, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"Matplotlib" not in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_confusion_is_drawn_for_few_and_many_classes(tmp_path: Path, num_classes: int) -> None:
    counts = np.eye(num_classes, dtype=int) * 7
    names = [f"class {number}" for number in range(num_classes)]
    confusion_plot(counts.tolist(), names, "vgg-w16", tmp_path / "diagonal.png")
    confusion_plot((7 - counts).tolist(), names, "vgg-w16", tmp_path / "other.png")
    diagonal, other = pixels(tmp_path / "diagonal.png"), pixels(tmp_path / "other.png")
    assert diagonal.shape == other.shape
    assert not np.array_equal(diagonal, other)


def test_strange_class_names_are_drawn_as_text(tmp_path: Path) -> None:
    """A formula, a glyph that the font lacks and a line break would be errors or warnings."""
    names = ["$\\frac{$", "日本", "line\nbreak", "a very long name of a class indeed"]
    confusion_plot(np.eye(4, dtype=int).tolist(), names, "vgg-w16", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").exists()


def test_a_class_without_test_rows_is_no_error(tmp_path: Path) -> None:
    confusion_plot([[3, 0], [0, 0]], ["a", "b"], "vgg-w16", tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").exists()


def test_cards_load_nothing_heavy_before_they_draw() -> None:
    code = (
        "import cards.plots, cards.card, cards.facts, cards.page, cards.comparison, sys;"
        "print({'matplotlib', 'PIL', 'jinja2', 'huggingface_hub', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
