"""Lossless files: the same pixels back, the same bytes each time, nothing else inside."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from release.encode import Encoding, encode, encode_all
from release.images import decode


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("encoding", ["png", "webp"])
@pytest.mark.parametrize("shape", [(9, 5, 3), (1, 1, 3), (33, 20, 3)])
def test_pixels_come_back_exactly(encoding: Encoding, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    decoded = decode(encode(pixels, encoding))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.converted is None


def test_png_keeps_one_channel() -> None:
    pixels = noise(6, 4, 1)
    np.testing.assert_array_equal(decode(encode(pixels, "png")).pixels, pixels)


def test_webp_has_no_one_channel_and_stores_it_three_times() -> None:
    pixels = noise(6, 4, 1)
    decoded = decode(encode(pixels, "webp")).pixels
    np.testing.assert_array_equal(decoded, pixels.repeat(3, axis=2))


@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_the_bytes_are_the_same_each_time_in_any_number_of_threads(encoding: Encoding) -> None:
    images = [noise(8, 8, 3) + at for at in range(9)]
    alone = [encode(pixels, encoding) for pixels in images]
    assert encode_all(images, encoding, threads=1) == alone
    assert encode_all(images, encoding, threads=3) == alone


@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_no_metadata_is_written(encoding: Encoding) -> None:
    with Image.open(io.BytesIO(encode(noise(4, 4, 3), encoding))) as image:
        image.load()
        assert not dict(image.getexif())
        assert not {"exif", "xmp", "icc_profile", "dpi", "comment"} & set(image.info)


def test_an_image_too_long_for_webp_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="--encoding png"):
        encode(np.zeros((1, 16384, 3), dtype=np.uint8), "webp")
