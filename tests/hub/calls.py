"""What the client asks, read from the wire once.

Routes match the raw path, because clients quote revisions and paths (refs%2Fpr%2F1): a segment is
unquoted only after the path was split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.answers import Answer, Refusal

if TYPE_CHECKING:
    from tests.hub.state import State

_CHUNK = 1 << 16
_FIELDS = {
    "kind": "(?P<kind>dataset|model|space)",
    "repo": "(?P<repo>[^/]+/[^/]+?)",
    "path": "(?P<path>.+)",
}


class Body:
    """The bytes of a request, of a given length or in chunks; never read past its end."""

    def __init__(self, file: BufferedIOBase, headers: Message) -> None:
        if "chunked" in headers.get("Transfer-Encoding", ""):
            self._pieces = _chunked(file)
        else:
            self._pieces = _sized(file, int(headers.get("Content-Length") or 0))

    def pieces(self) -> Iterator[bytes]:
        """What was not read yet, in small pieces; ConnectionError where the client goes away."""
        return self._pieces

    def read(self) -> bytes:
        return b"".join(self._pieces)

    def load(self) -> None:
        """The whole body is in memory, and read from there."""
        self._pieces = iter([self.read()])

    def drain(self) -> None:
        """Nothing is left unread, so that the next request of the connection is found."""
        for _ in self._pieces:
            pass


def _sized(file: BufferedIOBase, left: int) -> Iterator[bytes]:
    while left:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise ConnectionAbortedError("the client went away")
        left -= len(piece)
        yield piece


def _chunked(file: BufferedIOBase) -> Iterator[bytes]:
    while size := int(file.readline().split(b";")[0] or b"0", 16):
        yield from _sized(file, size)
        file.readline()
    while file.readline().strip():
        pass


@dataclass(frozen=True)
class Call:
    """One request; `query` has the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: Body

    @classmethod
    def of(cls, method: str, target: str, headers: Message, file: BufferedIOBase) -> Call:
        """The request line and headers as they came; the body is still on the wire."""
        split = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        return cls(method, split.path, query, headers, Body(file, headers))

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; 400 where it is none."""
        try:
            value = json.loads(self.body.read() or b"{}")
        except json.JSONDecodeError as error:
            raise Refusal(400, f"Invalid JSON: {error}") from None
        if not isinstance(value, dict):
            raise Refusal(400, "Expected a JSON object")
        return value

    def form(self) -> dict[str, list[str]]:
        """The body as a form, or as JSON where it says so."""
        if "json" in self.headers.get("Content-Type", ""):
            return {k: v if isinstance(v, list) else [str(v)] for k, v in self.json().items()}
        return parse_qs(self.body.read().decode())


Act = Callable[..., Answer]


@dataclass(frozen=True)
class Route:
    """A named kind of request."""

    name: str
    methods: tuple[str, ...]
    pattern: re.Pattern[str]
    act: Act


ROUTES: list[Route] = []


def route(name: str, methods: str, pattern: str) -> Callable[[Act], Act]:
    """The function answers `methods` (such as "GET HEAD") on paths like `pattern`, whose fields in
    braces it is given unquoted: {kind}, {repo} (two segments), {path} (the rest) or one segment."""
    fields = re.sub(
        r"\{(\w+)\}", lambda m: _FIELDS.get(m[1], f"(?P<{m[1]}>[^/]+)"), pattern.replace(".", r"\.")
    )

    def add(act: Act) -> Act:
        ROUTES.append(Route(name, tuple(methods.split()), re.compile(fields), act))
        return act

    return add


def find(call: Call) -> tuple[Route, dict[str, str]]:
    """The route of a request and its fields; a route named "unknown" where there is none."""
    for candidate in ROUTES:
        matched = candidate.pattern.fullmatch(call.path)
        if matched and call.method in candidate.methods:
            return candidate, {name: unquote(value) for name, value in matched.groupdict().items()}
    return _UNKNOWN, {}


def _unknown(state: State, call: Call) -> Answer:
    raise Refusal(404, f"Not Found: {call.method} {call.path}")


_UNKNOWN = Route("unknown", (), re.compile(""), _unknown)
