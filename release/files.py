"""Files of a source, here or on the Hub, opened for reading."""

from __future__ import annotations

from typing import Any

LARGEST_IMAGE = 512 << 20
"""Bytes of the largest image file that is read: more than the pixels of any image that is protected
(`release.images.MOST_PIXELS`) come to, uncompressed, in four channels of 16 bits."""
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


def open_file(url: str) -> Any:
    """A file to read bytes from, here or on the Hub."""
    if url.startswith("hf://"):
        from release.remote import RemoteFile

        return RemoteFile(url)
    return open(url, "rb")


def too_large(size: int) -> str | None:
    """Why an image file of this many bytes is not read; None where it is."""
    return None if size <= LARGEST_IMAGE else f"an image file of {in_words(size)}"


def in_words(size: int) -> str:
    """A number of bytes as people say it, such as 1.5 GB."""
    scale, unit = next((each for each in _UNITS if abs(size) >= each[0]), (1, "bytes"))
    return f"{size / scale:.3g} {unit}"
