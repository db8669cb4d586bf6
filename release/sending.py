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
    when it ends well, all of them were."""
    if not target.is_hub:
        yield
        return
    ended = threading.Event()
    sender = threading.Thread(target=_send, args=(target, folder, split, ended), daemon=True)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()


def _send(target: Target, folder: Path, split: str, ended: threading.Event) -> None:
    sent: set[Path] = set()
    while True:
        over = ended.wait(_POLL_SECONDS)
        for path in sorted((folder / "records" / split).glob("*.json")):
            if path not in sent:
                sent.add(path)
                for file in ShardRecord.from_json(json.loads(path.read_text())).files:
                    target.offer(folder / file.path, file.path)
        if over:
            return
