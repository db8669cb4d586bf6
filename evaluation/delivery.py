"""How images reach people: what a site does to the files before anyone can keep them.

A chain is written `resize:256,jpeg:90` and done from left to right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from crafting.registry import lookup

_Step = Callable[[Image.Image, int], Image.Image]


@dataclass(frozen=True)
class Delivery:
    """What is done to every image of a release before victims meet it; nothing where empty."""

    steps: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return ",".join(f"{name}:{value}" for name, value in self.steps)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (H,W,C) uint8 as they arrive; C stays, H and W are what the chain makes them."""
        if not self.steps:
            return pixels
        channels = pixels.shape[2]
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        for name, value in self.steps:
            image = _STEPS[name].make(image, value)
        arrived = np.array(image.convert("L" if channels == 1 else "RGB"))
        return arrived.reshape(image.height, image.width, channels)


def parse_delivery(text: str) -> Delivery:
    """The chain written as `text`; ValueError names the nearest steps, or what a step takes."""
    parts = [part.strip().partition(":") for part in text.split(",")] if text else []
    return Delivery(tuple((name, _value(name, value)) for name, _, value in parts))


def _value(name: str, text: str) -> int:
    step = lookup("delivery step", name, _STEPS)
    if not text.isdecimal() or not step.low <= int(text) <= step.high:
        raise ValueError(
            f"{name} takes {step.takes} from {step.low} to {step.high}, such as "
            f"{name}:{step.usual}, not {text!r}"
        )
    return int(text)


@dataclass(frozen=True)
class _Kind:
    make: _Step
    takes: str
    low: int
    high: int
    usual: int


def _resize(image: Image.Image, side: int) -> Image.Image:
    """The shorter side becomes `side`; smaller images stay as they are."""
    shorter = min(image.size)
    if shorter <= side:
        return image
    width, height = (max(1, round(length * side / shorter)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _crop(image: Image.Image, side: int) -> Image.Image:
    """The middle square of at most `side` pixels."""
    side = min(side, *image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    return _recoded(image, "JPEG", quality)


def _webp(image: Image.Image, quality: int) -> Image.Image:
    return _recoded(image, "WEBP", quality)


def _recoded(image: Image.Image, format: str, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, format, quality=quality)
    return Image.open(file)


_STEPS: Mapping[str, _Kind] = {
    "resize": _Kind(_resize, "the shorter side in pixels", 8, 8192, 256),
    "crop": _Kind(_crop, "the side of a square in pixels", 8, 8192, 224),
    "jpeg": _Kind(_jpeg, "a quality", 1, 100, 90),
    "webp": _Kind(_webp, "a quality", 1, 100, 80),
}
