"""Finished shards are sent to the target while others are still being crafted. Nothing refers to
them until the release is published."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.publish import Target
from release.shards import ShardRecord

_POLL_SECONDS = 0.5


@contextmanager
def sending_ahead(target: Target, folder: Path, split: str) -> Iterator[None]:
    """While this is open, each shard of `folder` that gets its record is offered to a Hub target;
    when it ends well, all of them were, and when it does not, none is begun any more."""
    if not target.is_hub:
        yield
        return
    ended, well = threading.Event(), threading.Event()
    files = _finished(folder, split, ended)
    sender = threading.Thread(target=_send, args=(target, folder, files, ended, well), daemon=True)
    sender.start()
    try:
        yield
        well.set()
    finally:
        ended.set()
        sender.join()


def _send(
    target: Target,
    folder: Path,
    files: Iterator[str],
    ended: threading.Event,
    well: threading.Event,
) -> None:
    for file in files:
        # Whoever interrupts a run does not wait for uploads that the next one makes anyway.
        if ended.is_set() and not well.is_set():
            return
        target.offer(folder / file, file)


def _finished(folder: Path, split: str, ended: threading.Event) -> Iterator[str]:
    """The files of each shard that gets its record, to the last one that has it at the end."""
    seen: set[Path] = set()
    while True:
        over = ended.wait(_POLL_SECONDS)
        for path in sorted((folder / "records" / split).glob("*.json")):
            if path not in seen:
                seen.add(path)
                for file in ShardRecord.from_json(json.loads(path.read_text())).files:
                    yield file.path
        if over:
            return
