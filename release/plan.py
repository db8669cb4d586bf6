"""The plan of a release: every decision as plain values, written to WORKDIR/plan.json before any
work, and the only thing that workers are told.

Each stage is keyed by the fields it reads, so that a new budget reuses the surrogate and a new gate
every trial. The plan holds the seed and local paths: it is secret, and `public` is the only view of
it that reaches a manifest or a card.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.errors import InputError

if TYPE_CHECKING:
    from crafting.method import Method
    from crafting.registry import Preset
    from evaluation.released import Format
    from evaluation.verify import TrialSpec
    from release.encode import Encoding

_PUBLIC = (
    "split",
    "num_rows",
    "method",
    "preset",
    "budget",
    "settings",
    "protect_share",
    "net_size",
    "formats",
    "encoding",
    "rows_per_shard",
    "victims",
    "countermeasures",
    "max_accuracy",
    "versions",
)

_IN_THE_BYTES = (
    "method",
    "preset",
    "budget",
    "settings",
    "target_map",
    "protect_classes",
    "protect_share",
    "formats",
    "encoding",
    "rows_per_shard",
    "batch_size",
    "source",
)


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """Everything a release depends on. Paths are absolute; numbers of rows are source rows."""

    source: dict[str, Any]
    not_published: dict[str, list[str]]
    split: str
    test_split: str | None
    limit: int | None
    num_rows: int
    test_rows: int
    class_names: list[str]
    shape: list[int] | None

    target: str
    workdir: str

    method: str
    preset: Preset
    budget: str
    settings: dict[str, str]
    target_map: list[int] | None
    protect_classes: list[int] | None
    protect_share: float | None
    net_size: int
    fit_rows: int
    seed: str

    formats: list[Format]
    encoding: Encoding
    rows_per_shard: int
    batch_size: int
    license: str | None
    show_rows: list[int]

    verify: bool
    victims: list[str]
    countermeasures: list[str]
    victim_seeds: int
    victim_epochs: int | None
    max_accuracy: float | None

    device: str
    workers: int
    max_restarts: int
    fit_workers: int
    fit_threads: int
    versions: dict[str, str]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def configured(self) -> Method:
        """The method with every option as planned."""
        from crafting.budget import parse
        from crafting.registry import configure

        return configure(self.method, self.preset, parse(self.budget), self.settings)

    def fingerprint(self) -> str:
        """The sha256 of the whole plan in canonical JSON; secret as the plan is, since it would
        let anyone try seeds."""
        return _digest(asdict(self))

    def rows_key(self) -> str:
        """Names the rows that are read: one source, split and limit."""
        return _digest([self.source["pin"], self.source["config"], self.split, self.limit])

    def cache_key(self) -> str:
        """Names the decoded rows at net size that fit and victims train on."""
        return _digest([self.rows_key(), self.test_split, self.net_size, self.fit_rows, self.seed])

    def fit_key(self) -> str:
        """Names the State."""
        ran = [self.seed, self.device, self.fit_workers, self.fit_threads, self.versions]
        return _digest([self.cache_key(), self.configured().fit_key(), *ran])

    def craft_key(self) -> str:
        """Names the shards: everything their bytes depend on."""
        return _digest([self.fit_key(), *(getattr(self, name) for name in _IN_THE_BYTES)])

    def trials(self) -> list[TrialSpec]:
        """Every training that verification needs, clean twins included."""
        from evaluation.verify import TrialSpec

        return [
            TrialSpec(
                victim=victim,
                countermeasure=countermeasure,
                seed=seed,
                data=data,
                preset=self.preset,
                epochs=self.victim_epochs,
            )
            for victim in self.victims
            for countermeasure in self.countermeasures
            for seed in range(self.victim_seeds)
            for data in ("clean", "protected")
        ]

    def trial_key(self, spec: TrialSpec) -> str:
        """Names a trial by what it trains on and how; a clean twin serves every method."""
        data = self.cache_key() if spec.data == "clean" else [self.craft_key(), self.fit_rows]
        return spec.key(_digest([data, self.cache_key(), self.device, self.versions]))

    def public(self) -> dict[str, Any]:
        """What a manifest may say: no seed, no path, no pin of clean rows, no target classes."""
        return {name: getattr(self, name) for name in _PUBLIC}

    def save(self, path: Path) -> None:
        from release.workdir import write_private

        write_private(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> ReleasePlan:
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise InputError(
                f"no plan in {path.parent}: run `protect-release plan SOURCE --workdir "
                f"{path.parent}` first"
            ) from None
        except (TypeError, json.JSONDecodeError):
            raise InputError(
                f"{path} was written by another version: run `protect-release plan` again"
            ) from None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
