"""Any image file as the 8-bit pixels that are protected; budgets are measured against these."""

from __future__ import annotations

import struct
import threading
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# What Pillow's readers are seen to raise on damaged files; a warning only where it is an error.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
_MODE_NAMES = {"1": "1-bit", "P": "palette", "PA": "palette", "LA": "alpha", "La": "alpha"}
_MODE_NAMES |= {"RGBA": "alpha", "RGBa": "alpha"}

MOST_PIXELS = 52_000_000
"""Of an image that is protected: what cameras of 50 megapixels take. A worker decodes, protects,
encodes and checks it in less than 2 GB."""
_BAND_PIXELS = 1 << 20
_MANY_PIXELS = 16_000_000
_ONE_AT_A_TIME = threading.Lock()
"""Held while an image of that many pixels is decoded, which takes ten bytes for each."""

THUMB = 16
"""Side in pixels of a thumbnail."""


class BadImage(ValueError):
    """These bytes are no image that can be protected; the message is the reason."""


@dataclass(frozen=True)
class Decoded:
    """pixels (H,W,C) uint8 with C 1 or 3; converted names what differs from the file, if
    anything does."""

    pixels: np.ndarray
    converted: str | None


def decode(data: bytes) -> Decoded:
    """The pixels of an image file: greyscale stays one channel, every other mode becomes RGB.

    EXIF orientation is applied, alpha is laid over white, 16-bit samples are scaled from 0..65535
    to 0..255, an animation gives its first frame; `converted` names these, joined by ", ".
    Raises BadImage for data that is empty, truncated, unreadable, or of more pixels than
    `MOST_PIXELS` or PIL.Image.MAX_IMAGE_PIXELS (a decompression bomb).
    """
    if not data:
        raise BadImage("no image")
    try:
        with Image.open(BytesIO(data)) as image:
            _refuse_too_large(image)
            is_large = image.width * image.height > _MANY_PIXELS
            with _ONE_AT_A_TIME if is_large else nullcontext():
                return _plain(image)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not an image file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage("too many pixels (a decompression bomb)") from None
    except _UNREADABLE as error:
        raise BadImage(f"unreadable: {str(error)[:80] or type(error).__name__}") from None


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(THUMB,THUMB,3) uint8: what pixels (H,W,C) uint8 look like, each value the mean over a part
    of the image."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    small = image.resize((THUMB, THUMB), Image.Resampling.BOX)
    return np.asarray(small.convert("RGB"))


def _refuse_too_large(image: Image.Image) -> None:
    pixels = image.width * image.height
    # Pillow itself only warns up to twice this size, and a warning's effect belongs to the caller.
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise BadImage("too many pixels (a decompression bomb)")
    if pixels > MOST_PIXELS:
        most = f"at most {MOST_PIXELS / 1e6:.0f} are protected: make it smaller"
        raise BadImage(f"{pixels / 1e6:.0f} megapixels, and {most}")


def _plain(image: Image.Image) -> Decoded:
    changes = ["first frame"] if getattr(image, "is_animated", False) else []
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        changes.append("exif rotation")
        image = ImageOps.exif_transpose(image)
    pixels, mode_change = _eight_bit(image)
    return Decoded(pixels, ", ".join(changes + mode_change) or None)


def _eight_bit(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    """(H,W,C) uint8 and what had to change for it."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image), ["16-bit"]
    if image.mode in ("I", "F"):
        raise BadImage(f"mode {image.mode}: 32-bit samples have no known range")
    transparent = image.has_transparency_data
    if image.mode in ("L", "RGB") and not transparent:
        return _array(image), []
    name = _MODE_NAMES.get(image.mode, image.mode.lower())
    changes = {name, "alpha"} if transparent else {name}
    rgb = _over_white(image) if transparent else image.convert("RGB")
    return _array(rgb), sorted(changes - {"l", "rgb"})


def _array(image: Image.Image) -> np.ndarray:
    """(H,W,C) uint8 of a greyscale or RGB image, copied in bands, since all of it at once would be
    in memory twice more."""
    pixels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    band = max(1, _BAND_PIXELS // max(1, image.width))
    for top in range(0, image.height, band):
        box = (0, top, image.width, min(top + band, image.height))
        part = image if image.height <= band else image.crop(box)
        pixels[top : box[3]] = np.asarray(part).reshape(pixels[top : box[3]].shape)
    return pixels


def _from_16_bit(image: Image.Image) -> np.ndarray:
    wide = np.asarray(image).astype(np.uint32)
    grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
