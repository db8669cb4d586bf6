"""Class folders of small pictures, pushed again and again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clean_data import Run
from source_files import picture, png
from typer.testing import Result

from release.images import decode
from release.shards import read_shard


@dataclass(frozen=True)
class Growing:
    """A source of class folders, and the dataset that it is pushed to."""

    run: Run
    source: Path
    target: Path

    def add(self, place: str, seed: int) -> Path:
        """The picture of this seed lies at this place of the source."""
        path = self.source / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
        return path

    def push(self, *options: object) -> Result:
        return self._ask("push", *options)

    def plan(self, *options: object) -> dict[str, Any]:
        """What the next release would be."""
        result = self._ask("plan", *options, "--json")
        assert result.exit_code == 0, result.output
        planned: dict[str, Any] = json.loads(result.stdout)
        return planned

    def _ask(self, command: str, *options: object) -> Result:
        asked = ("--to", self.target, "--workdir", self.source.with_name("work"))
        return self.run(command, self.source, *asked, *CHEAP, *options)


CHEAP = (
    *("--method", "random-noise", "--incremental-method", "random-noise", "--preset", "quick"),
    *("--no-verify", "--workers", "1", "--license", "mit"),
)


def grown(run: Run, folder: Path, classes: str = "ab", *options: object) -> Growing:
    """One release of four pictures a class."""
    made = Growing(run, folder / "rl", folder / "out")
    for number, name in enumerate(classes):
        for row in range(4):
            made.add(f"{name}/i{row}.png", 10 * number + row)
    first = made.push(*options)
    assert first.exit_code == 0, first.output
    return made


def noises(shards: Iterable[Path], pictures: Iterable[int]) -> dict[int, list[bytes]]:
    """By the seed of each clean picture: the protected pixels of every row that shows it, decoded
    from these Parquet shards."""
    rows = [decode(row.image).pixels for shard in sorted(shards) for row in read_shard(shard)]
    clean = {seed: np.asarray(picture(seed), np.int16) for seed in pictures}
    return {
        seed: [pixels.tobytes() for pixels in rows if np.abs(pixels - image).max() <= 64]
        for seed, image in clean.items()
    }
