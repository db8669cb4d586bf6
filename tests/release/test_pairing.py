"""Released rows find the clean ones they were made from, by what they look like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from release.images import THUMB, thumbnail
from release.survey import Survey
from release.verification.pairing import Reach, pair, reach_of

SIDE = 32


def surveyed(images: np.ndarray, labels: np.ndarray, bad: tuple[int, ...] = ()) -> Survey:
    """The survey of images (N,H,W,3)."""
    good = ~np.isin(np.arange(len(images)), bad)
    sizes = np.tile(np.array([3, *images.shape[1:3]], dtype=np.int32), (len(images), 1))
    digests = np.zeros((len(images), 32), dtype=np.uint8)
    thumbs = np.stack([thumbnail(image) for image in images])
    return Survey(labels, sizes, digests, digests, good, [(row, "bad") for row in bad], thumbs)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth pictures, as photographs are."""
    coarse = np.random.default_rng(0).integers(40, 216, (60, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)


LABELS = np.arange(60) // 2 % 3


def noisy(images: np.ndarray, levels: int) -> np.ndarray:
    signs = np.random.default_rng(1).choice([-1, 1], images.shape)
    return (images.astype(int) + levels * signs).astype(np.uint8)


def within(levels: float, count: int) -> Reach:
    return Reach(np.full(count, levels), np.full(count, levels))


def paired(
    released: np.ndarray, clean: np.ndarray, order: np.ndarray, reach: Reach, labelled: bool = True
) -> dict[int, int]:
    """The clean row of each of the first rows, clean ones being in this order."""
    ours = surveyed(released, LABELS[: len(released)])
    pairs = pair(ours, surveyed(clean[order], LABELS[order]), reach, labelled=labelled)
    assert len(set(pairs[:, 1])) == len(pairs)
    return dict(pairs.tolist())


def test_rows_in_order_are_paired_in_order(images: np.ndarray) -> None:
    found = paired(noisy(images[:50], 8), images, np.arange(60), within(9, 50))
    assert found == {row: row for row in range(50)}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("levels", [9.0, np.inf], ids=["within budget", "by far the nearest"])
def test_rows_in_another_order_are_found(images: np.ndarray, levels: float, labelled: bool) -> None:
    """Some of them new, and some gone."""
    order = np.random.default_rng(2).permutation(np.arange(3, 60))
    places = {int(row): place for place, row in enumerate(order)}
    found = paired(noisy(images[:50], 8), images, order, within(levels, 50), labelled)
    assert found == {row: places[row] for row in range(3, 50)}


@pytest.mark.parametrize("levels", [9.0, np.inf])
def test_two_of_one_class_that_changed_places_are_noticed(
    images: np.ndarray, levels: float
) -> None:
    order = np.arange(60)
    order[[6, 7]] = 7, 6
    assert LABELS[6] == LABELS[7]
    found = paired(noisy(images, 8), images, order, within(levels, 60))
    assert found == {row: int(order[row]) for row in range(60)}


def test_equal_images_are_paired_one_to_one(images: np.ndarray) -> None:
    """More of them than are looked at together."""
    same = images.copy()
    same[LABELS == 0] = images[0]
    order = np.random.default_rng(3).permutation(60)
    found = paired(noisy(same, 8), same, order, within(9, 60))
    assert len(found) == 60
    assert all(LABELS[order[place]] == LABELS[row] for row, place in found.items())


def test_other_images_are_not_paired(images: np.ndarray) -> None:
    other = images[:, :, ::-1].copy()
    order = np.arange(60)
    assert paired(noisy(images, 8), other, order, within(9, 60)) == {}
    assert len(paired(noisy(images, 8), other, order, within(np.inf, 60))) < 6


def test_without_a_budget_the_order_is_believed_where_pictures_are_alike(
    images: np.ndarray,
) -> None:
    """However much brightness and contrast changed."""
    changed = noisy((images * 0.4 + 100).astype(np.uint8), 8)
    found = paired(changed, images, np.arange(60), within(np.inf, 60))
    assert found == {row: row for row in range(60)}


def test_rows_that_cannot_be_read_are_not_counted(images: np.ndarray) -> None:
    clean = surveyed(images, LABELS, bad=(0, 5))
    kept = clean.rows()
    pairs = pair(surveyed(images[kept], LABELS[kept]), clean, within(9, 58), labelled=True)
    assert pairs.tolist() == [[place, row] for place, row in enumerate(kept)]


@pytest.mark.parametrize(
    ("budget", "rms", "peak"),
    [
        ("linf:8", 8, 8),
        ("l2:1", 255 / 3072**0.5, 255),
        ("l0:1", 255 / 1024**0.5, 255),
        ("linf:8+l0:1", 8 + 255 / 1024**0.5, 263),
        ("unbounded", np.inf, np.inf),
        ("of a later version", np.inf, np.inf),
    ],
)
def test_a_budget_bounds_how_far_thumbnails_are_apart(
    images: np.ndarray, budget: str, rms: float, peak: float
) -> None:
    chain: Any = SimpleNamespace(
        num_rows=3,
        manifests=[
            SimpleNamespace(num_rows=1, budget="linf:2"),
            SimpleNamespace(num_rows=2, budget=budget),
        ],
    )
    reach = reach_of(chain, surveyed(images[:3], LABELS[:3]))
    assert reach.rms == pytest.approx([4, rms + 2, rms + 2])
    assert reach.peak == pytest.approx([4, peak + 2, peak + 2])
    assert not reach_of(chain, surveyed(images[:4], LABELS[:4])).is_bounded


@pytest.mark.parametrize("size", [(7, 40, 3), (64, 33, 1)])
def test_a_thumbnail_differs_no_more_than_the_image(size: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(8, 248, size, dtype=np.uint8)
    apart = thumbnail(image).astype(int) - thumbnail(noisy(image, 8))
    assert thumbnail(image).shape == (THUMB, THUMB, 3)
    assert np.abs(apart).max() <= 9
