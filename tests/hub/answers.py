"""What the server answers, and the errors by which it refuses.

The client tells errors apart by the X-Error-Code header rather than by the status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """Bytes start..stop of a file, sent without being held."""

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def first_half(self) -> Part:
        return Part(self.path, self.start, self.start + len(self) // 2)


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body; the length header is added when it is sent."""

    status: int
    body: bytes | Part = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request the Hub says no to; `code` types it for the client."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers, self.more = dict(headers or {}), more

    def answer(self) -> Answer:
        """The refusal as the client reads it: headers first, the same words as JSON."""
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return as_json({"error": self.message, **self.more}, self.status, headers)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of JSON."""
    return Answer(
        status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def of_file(path: Path, asked: str | None, headers: Mapping[str, str]) -> Answer:
    """A file, or the one range of it that was asked for: 200, 206 or 416."""
    size = path.stat().st_size
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if not wanted or wanted.groups() == ("", ""):
        return Answer(200, Part(path, 0, size), headers)
    start, stop = _bounds(wanted[1], wanted[2], size)
    if start >= stop:
        raise Refusal(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Answer(206, Part(path, start, stop), headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
