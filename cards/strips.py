"""Pictures within a page."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Strip:
    """A picture with its caption: a `data:` URI, and its size in pixels."""

    caption: str
    uri: str
    width: int
    height: int


def strips(pictures: Mapping[str, bytes]) -> list[Strip]:
    """These PNGs, which are given by caption; ValueError where one is no PNG."""
    return [_strip(caption, data) for caption, data in pictures.items()]


def _strip(caption: str, data: bytes) -> Strip:
    if data[:8] != _PNG or len(data) < 24:
        raise ValueError(f"picture {caption!r} is no PNG: give the bytes of one")
    width, height = struct.unpack(">II", data[16:24])
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return Strip(caption, uri, width, height)
