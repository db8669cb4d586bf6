"""Pictures within a page."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_PNG = b"\x89PNG\r\n\x1a\n"
_CAPTIONS = {
    "images": "Images of this release, as published (of large ones, the middle).",
    "shown": "Chosen rows: clean, as published, and their difference times 16 (of large ones, the "
    "middle).",
    "compared": "Clean, as published, and their difference times 16 (of large ones, the middle).",
}


@dataclass(frozen=True)
class Strip:
    """A picture with its caption: a `data:` URI, and its size in pixels."""

    caption: str
    uri: str
    width: int
    height: int


def strips(pictures: Mapping[str, bytes]) -> list[Strip]:
    """These PNGs by name, the captions of those that a release has being known; ValueError where
    one is no PNG."""
    return [_strip(name, data) for name, data in pictures.items()]


def _strip(name: str, data: bytes) -> Strip:
    if data[:8] != _PNG or len(data) < 24:
        raise ValueError(f"picture {name!r} is no PNG: give the bytes of one")
    width, height = struct.unpack(">II", data[16:24])
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return Strip(_caption(name), uri, width, height)


def _caption(name: str) -> str:
    path = PurePosixPath(name)
    if path.suffix != ".png":
        return name
    return _CAPTIONS.get(path.stem, path.stem.replace("-", " ").replace("_", " "))
