"""What a person sees: talk and progress bars on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

Tell = Callable[[float, float], None]
_POLL_SECONDS = 0.2


class _Rate(ProgressColumn):
    """Units a second, such as `812 rows/s`."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:,.1f} {unit}/s" if speed and unit else "", style="progress.data.speed")


class Terminal:
    """Where talk goes. Bars are drawn only where stderr is a terminal; `as_json` leaves stdout to
    one JSON object."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._err = Console(stderr=True, highlight=False)
        self._out = Console(highlight=False)

    def line(self, text: str) -> None:
        """One line of talk."""
        self._err.print(Text(text), soft_wrap=True)

    def table(self, table: Table) -> None:
        """A result for people; nothing where machines read."""
        if not self.as_json:
            self._out.print(table)

    def result(self, text: str) -> None:
        """A line of the result for people; nothing where machines read."""
        if not self.as_json:
            self._out.print(Text(text), soft_wrap=True)

    def json(self, value: Any) -> None:
        """The result for machines; nothing where people read."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=1) + "\n")

    @contextmanager
    def stage(self, name: str, unit: str = "rows") -> Iterator[Tell]:
        """A bar for one stage: call what this yields with (done, total)."""
        with self._bars() as bars:
            task = bars.add_task(name, total=None, unit=unit)
            yield lambda done, total: bars.update(task, completed=done, total=total)

    @contextmanager
    def watching(self, name: str, folder: Path, unit: str) -> Iterator[None]:
        """A bar for the sum of what ranks write into `folder` while this is open."""
        done = threading.Event()
        with self.stage(name, unit) as tell:
            follower = threading.Thread(target=_follow, args=(folder, tell, done), daemon=True)
            follower.start()
            try:
                yield
            finally:
                done.set()
                follower.join()

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TaskProgressColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )


def _follow(folder: Path, tell: Tell, done: threading.Event) -> None:
    while not done.wait(_POLL_SECONDS):
        parts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        if parts:
            tell(sum(part[0] for part in parts), sum(part[1] for part in parts))


def duration(seconds: float) -> str:
    """Seconds for people: `8 s`, `2 min 5 s`, `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def now() -> float:
    """A clock that only moves forward, in seconds."""
    return time.monotonic()
