"""Finished shards go ahead while others are crafted, and no further once crafting has failed."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from release.publish import Target
from release.sending import sending_ahead
from release.shards import ShardFile, ShardRecord

SECONDS = 20
"""How long a test waits for what takes a moment."""


@dataclass
class Slow:
    """A Hub whose uploads each wait until `goes_on` is set."""

    is_hub: bool = True
    offered: list[str] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)

    def offer(self, file: Path, path: str) -> None:
        self.offered.append(path)
        self.begun.set()
        assert self.goes_on.wait(SECONDS)


def finish(folder: Path, count: int) -> list[str]:
    """So many shards have their records; the files that these name."""
    files = [f"data/train/r0001-{index:05d}.parquet" for index in range(count)]
    for index, path in enumerate(files):
        file = ShardFile(path, "0" * 64, 1, 1, "parquet")
        record = ShardRecord(index, index, index + 1, (index,), (file,), {}, 0.0)
        kept = folder / f"records/train/r0001-{index:05d}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        making = kept.with_suffix(".making")
        making.write_text(json.dumps(record.to_json()))
        making.rename(kept)
    return files


def test_every_shard_was_offered_once_when_crafting_ends_well(tmp_path: Path) -> None:
    hub = Slow()
    hub.goes_on.set()
    with sending_ahead(cast(Target, hub), tmp_path, "train"):
        finish(tmp_path, 1)
        assert hub.begun.wait(SECONDS)
        files = finish(tmp_path, 3)
    assert hub.offered == files


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_no_upload_begins_once_crafting_has_failed(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    hub = Slow()
    files = finish(tmp_path, 3)

    def fails() -> None:
        with sending_ahead(cast(Target, hub), tmp_path, "train"):
            assert hub.begun.wait(SECONDS)
            # The upload under way ends a moment after crafting has.
            threading.Timer(0.5, hub.goes_on.set).start()
            raise failure

    with pytest.raises(failure):
        fails()
    assert hub.offered == files[:1]
