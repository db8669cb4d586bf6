"""What goes wrong on demand.

kind          what the client sees
429 500 ...   that status, in place of the work (429 with Retry-After)
reset         the connection is reset before the work
lose          the work is done, and the connection reset in place of the answer
half          the work is done, and half of the answer's body is sent
stall         nothing, until released; then the work is done (not if the client left)
stall-answer  nothing, until released; the work is done before
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

KINDS = ("reset", "lose", "half", "stall", "stall-answer", "meanwhile")


class Gate:
    """What stalled requests wait at; `goes_on` says whether they then do their work."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.goes_on = True


@dataclass
class Fault:
    """What happens to requests `nth` to `nth + times - 1` of a route, counted from the asking."""

    route: str
    kind: str
    nth: int = 1
    times: int = 1
    retry_after: int = 0
    meanwhile: Callable[[], object] | None = None
    gate: Gate = field(default_factory=Gate)
    _seen: int = 0

    def met(self) -> bool:
        """Counts a request of the route; whether it is one that fails."""
        self._seen += 1
        return self.nth <= self._seen < self.nth + self.times


@dataclass
class Faults:
    """Everything that shall go wrong, and, in order, what did: `happened` has (route, kind)."""

    happened: list[tuple[str, str]] = field(default_factory=list)
    _asked: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _gate: Gate = field(default_factory=Gate)
    _stalled: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def fail(
        self, route: str, kind: str, nth: int = 1, times: int = 1, retry_after: int = 0
    ) -> None:
        """From now on, the nth request of the route fails, and the times - 1 after it.

        Where two faults befall one request, it fails as was asked for first.
        """
        if kind not in KINDS and not (kind.isdigit() and 400 <= int(kind) < 600):
            raise ValueError(f"no such fault: {kind}")
        with self._lock:
            fault = Fault(route, kind, nth, times, retry_after, gate=self._gate)
            self._asked.append(fault)

    def meanwhile(self, route: str, act: Callable[[], object], nth: int = 1) -> None:
        """`act` runs just before the nth request of the route is worked on, as if somebody else
        had been quicker."""
        with self._lock:
            self._asked.append(Fault(route, "meanwhile", nth, meanwhile=act))

    def due(self, route: str) -> Fault | None:
        """The fault that befalls this request of the route, if any."""
        with self._lock:
            met = [fault for fault in self._asked if fault.route == route and fault.met()]
            if not met:
                return None
            self.happened.append((route, met[0].kind))
            return met[0]

    def release(self) -> None:
        """What stalls, or was asked to until now, goes on."""
        self._open(goes_on=True)

    def abandon(self) -> None:
        """What stalls is dropped: its client sees a reset, and nothing was done."""
        self._open(goes_on=False)

    def _open(self, goes_on: bool) -> None:
        with self._lock:
            self._gate.goes_on = goes_on
            self._gate.opened.set()
            self._gate = Gate()

    def stalls(self) -> None:
        """Says that a request stalls now."""
        self._stalled.release()

    def wait_stalled(self, timeout: float = 30) -> bool:
        """Waits until one more request stalls; False where none does in time."""
        return self._stalled.acquire(timeout=timeout)

    def clear(self) -> None:
        """Nothing fails any more, what stalls is dropped, and nothing is said to have failed."""
        self.abandon()
        with self._lock:
            self._asked.clear()
            self.happened.clear()
            self._stalled = threading.Semaphore(0)
