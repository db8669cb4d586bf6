"""What a site does to images before anyone can keep them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.delivery import Delivery, parse_delivery


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("text", ["", "resize:256,jpeg:90", "crop:224", "webp:80"])
def test_a_chain_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_delivery(text)) == text


def test_nothing_is_done_by_an_empty_chain() -> None:
    pixels = picture(9, 7)
    assert Delivery()(pixels) is pixels


def test_the_shorter_side_is_resized_and_the_shape_kept() -> None:
    assert parse_delivery("resize:16")(picture(64, 32)).shape == (32, 16, 3)


def test_small_images_are_not_enlarged() -> None:
    pixels = picture(20, 12)
    assert np.array_equal(parse_delivery("resize:16")(pixels), pixels)


def test_the_middle_is_cropped() -> None:
    pixels = picture(20, 12)
    assert np.array_equal(parse_delivery("crop:8")(pixels), pixels[6:14, 2:10])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_recoding_loses_more_at_lower_quality(kind: str, channels: int) -> None:
    pixels = picture(32, 32, channels)
    fine, coarse = (parse_delivery(f"{kind}:{quality}")(pixels) for quality in (95, 10))
    assert fine.shape == pixels.shape
    losses = [np.abs(each.astype(int) - pixels).mean() for each in (fine, coarse)]
    assert 0 < losses[0] < losses[1]


def test_steps_are_taken_from_left_to_right() -> None:
    pixels = picture(64, 64)
    first, last = parse_delivery("jpeg:5,resize:16"), parse_delivery("resize:16,jpeg:5")
    assert not np.array_equal(first(pixels), last(pixels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resise:256", "did you mean resize"),
        ("jpeg:0", "jpeg takes a quality from 1 to 100, such as jpeg:90, not '0'"),
        ("jpeg", "not ''"),
        ("jpeg:²", "jpeg takes a quality from 1 to 100, such as jpeg:90, not '²'"),
        ("resize:1.5", "resize takes the shorter side in pixels"),
    ],
)
def test_mistakes_are_told_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_delivery(text)
