"""The page of a report, read back."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import report_values
from page_reader import Element, read
from PIL import Image

from cards.page import render_report


def page(values: dict[str, Any], **pictures: bytes) -> Element:
    return read(render_report(values, pictures))


@cache
def full() -> Element:
    """The page of a report with all that a report may have."""
    return page(report_values.full())


def png(width: int = 6, height: int = 4) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()
