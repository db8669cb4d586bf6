"""Whatever kind of image file comes in, 8-bit pixels come out, or a reason."""

from __future__ import annotations

import contextlib
import threading
import warnings

import numpy as np
import pytest
from PIL import Image
from source_files import file_of, picture

from release import images
from release.images import BadImage, decode


def test_rgb_comes_back_pixel_for_pixel() -> None:
    image = picture(1, size=(5, 7))
    decoded = decode(file_of(image))
    assert decoded.pixels.shape == (7, 5, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.converted is None
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image))


def test_greyscale_keeps_its_one_channel() -> None:
    image = picture(1, "L")
    decoded = decode(file_of(image))
    assert decoded.pixels.shape == (8, 8, 1)
    assert decoded.converted is None
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], np.asarray(image))


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "TIFF"])
def test_every_common_format_is_read(format: str) -> None:
    assert decode(file_of(picture(1), format)).pixels.shape == (8, 8, 3)


def test_a_palette_becomes_its_colours() -> None:
    image = picture(1).quantize(16)
    decoded = decode(file_of(image))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("RGB")))
    assert decoded.converted == "palette"


def test_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    decoded = decode(file_of(image))
    assert decoded.pixels.tolist() == [[[200, 0, 0], [255, 255, 255]]]
    assert decoded.converted == "alpha"


def test_a_transparent_palette_colour_is_white_too() -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30])
    decoded = decode(file_of(image, transparency=0))
    assert decoded.pixels.tolist() == [[[255, 255, 255]]]
    assert decoded.converted == "alpha, palette"


def test_grey_with_alpha_becomes_rgb_over_white() -> None:
    image = Image.new("LA", (1, 1), (0, 0))
    assert decode(file_of(image)).pixels.tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(("mode", "named"), [("CMYK", "cmyk"), ("YCbCr", "ycbcr")])
def test_print_and_video_colours_become_rgb(mode: str, named: str) -> None:
    image = Image.new("RGB", (8, 8), (250, 10, 10)).convert(mode)
    decoded = decode(file_of(image, "TIFF"))
    red, green, blue = decoded.pixels.reshape(-1, 3).mean(0)
    assert red > 240
    assert max(green, blue) < 20
    assert decoded.converted == named


def test_one_bit_becomes_rgb() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    decoded = decode(file_of(image))
    assert decoded.pixels.tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert decoded.converted == "1-bit"


def test_sixteen_bits_are_scaled_by_their_range_and_not_cut_off() -> None:
    levels = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    decoded = decode(file_of(Image.fromarray(levels)))
    assert decoded.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert decoded.pixels.shape == (1, 4, 3)
    assert decoded.converted == "16-bit"


def test_samples_without_a_known_range_are_bad() -> None:
    image = Image.fromarray(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(BadImage, match="no known range"):
        decode(file_of(image, "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    stored = Image.new("RGB", (4, 2))
    stored.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(file_of(stored, exif=exif))
    row, column = np.argwhere(decoded.pixels[:, :, 0] == 255)[0]
    height, width = decoded.pixels.shape[:2]
    corners = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}
    assert ("b" if row == height - 1 else "t") + ("r" if column == width - 1 else "l") == (
        corners[orientation]
    )
    assert (height, width) == ((2, 4) if orientation < 5 else (4, 2))
    assert decoded.converted == (None if orientation == 1 else "exif rotation")


def test_several_conversions_are_all_named() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(file_of(picture(1).quantize(4), exif=exif))
    assert decoded.converted == "exif rotation, palette"


def test_an_animation_gives_its_first_frame() -> None:
    frames = [picture(1).quantize(256), picture(2).quantize(256)]
    decoded = decode(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(frames[0].convert("RGB")))
    assert decoded.converted == "first frame, palette"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_half_a_file_is_bad(format: str) -> None:
    data = file_of(picture(1, size=(64, 64)), format)
    with pytest.raises(BadImage):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(("data", "reason"), [(b"", "no image"), (b"hello", "not an image file")])
def test_what_is_no_image_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^{reason}$"):
        decode(data)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_bad_or_read_and_nothing_else(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        data = bytearray(file_of(picture(seed, size=(16, 16)), format))
        for at in generator.integers(0, len(data), 12):
            data[at] = generator.integers(0, 256)
        with contextlib.suppress(BadImage):
            assert decode(bytes(data)).pixels.dtype == np.uint8


@pytest.mark.parametrize("times", [1, 2])
def test_a_decompression_bomb_is_bad(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns from one time the limit on and refuses from two times on: both are bombs."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // times - 1)
    with pytest.raises(BadImage, match="bomb"):
        decode(file_of(Image.new("RGB", (64, 64))))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_bad_where_warnings_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.raises(BadImage, match="bomb"):
        decode(file_of(Image.new("RGB", (64, 64))))


def test_threads_decode_at_once_and_leave_the_warning_filters_alone() -> None:
    filters = list(warnings.filters)
    files = [file_of(picture(seed)) for seed in range(16)]
    seen: dict[int, np.ndarray] = {}

    def work(at: int) -> None:
        seen[at] = decode(files[at]).pixels

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(len(files)):
        np.testing.assert_array_equal(seen[at], np.asarray(picture(at)))
    assert warnings.filters == filters


def test_an_image_of_more_than_52_megapixels_is_left_out_with_the_reason() -> None:
    """Known by its head: nothing of that size is decoded."""
    large = file_of(Image.new("1", (9000, 6000)))
    with pytest.raises(BadImage, match="54 megapixels, and at most 52 are protected"):
        decode(large)
    pixels = decode(file_of(Image.new("1", (2600, 2000)))).pixels
    assert (pixels.shape, int(pixels.max())) == ((2000, 2600, 3), 0)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_that_are_copied_in_bands_are_those_of_the_file(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(5, mode, (7, 23))
    whole = decode(file_of(image)).pixels
    monkeypatch.setattr(images, "_BAND_PIXELS", 30)
    assert (decode(file_of(image)).pixels == whole).all()
    assert (whole.squeeze() == np.asarray(image)).all()
