"""The plan of a release: every decision as plain values, written to WORKDIR/plan.json before any
work, and the only thing that workers are told.

Each stage is keyed by the fields it reads, so that a new budget reuses the surrogate and a new gate
every trial. The plan holds the seed and local paths: it is secret, and `public_view` is all of it
that reaches a manifest or a card.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.errors import InputError

if TYPE_CHECKING:
    from crafting.method import Method
    from crafting.registry import Preset
    from evaluation.released import Format
    from evaluation.trial import Rows, TrialSpec
    from release.encode import Encoding

_PUBLIC = (
    "split",
    "columns",
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
    "victim_epochs",
    "max_accuracy",
    "typed_seed",
    "versions",
)

_READ = ("pin", "config", "image_column", "label_column", "class_names", "tar_image", "tar_label")

_CHANGES_PIXELS = (
    "method",
    "preset",
    "budget",
    "settings",
    "target_map",
    "protect_classes",
    "protect_share",
)

_IN_THE_BYTES = (
    *_CHANGES_PIXELS,
    "formats",
    "encoding",
    "rows_per_shard",
    "batch_size",
    "release",
    "first_row",
)

_IN_THE_NOISE = (*_CHANGES_PIXELS, "net_size", "num_classes")


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """Everything a release depends on. Paths are absolute; numbers of rows are source rows.

    release, previous, first_row: its place in the chain; source, survey, num_rows: the rows it adds
    and the survey that describes them; test_source: what the test split is read from where `source`
    has no labels and that has; pairs: which rows victims train on, by a digest (None: the rows that
    it adds); removed: published rows that the source no longer has; state: where what later
    releases need is kept.
    """

    release: str
    previous: str | None
    first_row: int
    date: str
    removed: int
    survey: str
    pairs: str | None
    old_rows: int
    first_rows: int

    source: dict[str, Any]
    source_is_public: bool
    columns: list[str]
    not_published: dict[str, list[str]]
    split: str
    test_split: str | None
    test_source: dict[str, Any] | None
    limit: int | None
    num_rows: int
    test_rows: int
    class_names: list[str]
    shape: list[int] | None

    target: str
    on_hub: bool
    revision: str | None
    create_pr: bool
    public: bool
    gated: str | None
    hub_patience: float
    state: str
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
    fit_share: float
    seed: str
    typed_seed: bool

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
    def scored_names(self) -> list[str]:
        """The classes that victims are scored on: where the release has no labels, those of the
        test rows."""
        return self.class_names or list((self.test_source or {}).get("class_names", ()))

    @property
    def num_classes(self) -> int:
        return len(self.scored_names)

    @property
    def is_labelled(self) -> bool:
        """Whether the released rows have labels."""
        return self.source["label_column"] is not None

    def configured(self) -> Method:
        """The method with every option as planned."""
        from crafting.budget import parse
        from crafting.registry import configure

        return configure(self.method, self.preset, parse(self.budget), self.settings)

    def fingerprint(self) -> str:
        """The sha256 of the whole plan in canonical JSON; secret as the plan is, since it would
        let anyone try seeds."""
        return digest_of(asdict(self))

    def rows_key(self) -> str:
        """Names the rows that are read, with their images and labels: one source, split and
        limit."""
        return digest_of([read_from(self.source), self.split, self.limit])

    @property
    def is_increment(self) -> bool:
        """Whether it adds rows to a dataset that is there already."""
        return self.previous is not None

    def release_id(self) -> str:
        """Tells this release from any other of its name, without saying what it was made from."""
        made = f"{self.craft_key()} {self.release} {self.previous}"
        return hmac.new(bytes.fromhex(self.seed), made.encode(), hashlib.sha256).hexdigest()[:16]

    def cache_key(self) -> str:
        """Names the decoded rows at net size that victims train on, and fit where it is the first
        release."""
        test = [read_from(self.test_source), self.test_split]
        read = [self.rows_key(), *test, self.net_size, self.fit_rows, self.seed]
        some = self.survey if self.pairs is None and self.survey != self.split else self.pairs
        return digest_of(read if some is None else [*read, some])

    @property
    def read_survey(self) -> str:
        """The survey of the rows that fit and clean twins are drawn from: those of a first release,
        else the whole source."""
        return self.split if self.is_increment else self.survey

    @property
    def fit_part(self) -> str:
        """Which part of the cache fit reads."""
        return "fit" if self.is_increment else "train"

    def state_key(self) -> str:
        """Names the State for later releases: one for each method, its options and this dataset,
        whatever rows or versions it was fitted with."""
        made_for = [self.net_size, self.class_names, self.target_map, self.seed]
        return digest_of([self.configured().fit_key(), *made_for])

    def fit_key(self) -> str:
        """Names the State: a first release's by all that it depends on; an increment takes the
        one that is kept."""
        if self.is_increment:
            return digest_of(["kept", self.state_key()])
        ran = [self.seed, self.device, self.fit_workers, self.fit_threads, self.versions]
        return digest_of([self.cache_key(), self.configured().fit_key(), *ran])

    def craft_key(self) -> str:
        """Names the shards: everything their bytes depend on."""
        rows = [
            {**self.source, "chosen": {}, "unread": []},
            self.survey,
        ]  # whatever folder lists them
        return digest_of([self.fit_key(), rows, *(getattr(self, name) for name in _IN_THE_BYTES)])

    def noise_key(self) -> str:
        """Names all that the noise of a row depends on besides the row: where keys are equal, it
        has the same pixels in both releases, wherever it stands and however it is stored."""
        method = self.configured()
        made_by = self.fit_key() if method.has_fit else self.seed
        company = None if method.scope == "sample" else self.craft_key()
        return digest_of([made_by, company, *(getattr(self, name) for name in _IN_THE_NOISE)])

    def protected_key(self) -> str:
        """Names the released rows that victims train on: those of this release's shards and, from
        earlier ones, of the very dataset that it adds to."""
        if self.pairs is None:
            return self.craft_key()
        return digest_of([self.craft_key(), self.old_key()])

    def old_key(self) -> str:
        """Names the rows published before that victims train on."""
        return digest_of([self.previous, self.pairs])

    def trials(self) -> list[TrialSpec]:
        """Every training that verification needs, clean twins included."""
        from evaluation.trial import TrialSpec

        return [
            TrialSpec(
                victim=victim,
                countermeasure=countermeasure,
                seed=seed,
                data=data,
                preset=self.preset,
                epochs=self.victim_epochs if rows == "release" else self._epochs_alone(victim),
                rows=rows,
                net_size=self.net_size,
            )
            for rows in self._trained_on()
            for victim in self.victims
            for countermeasure in self.countermeasures
            for seed in range(self.victim_seeds)
            for data in ("clean", "protected")
        ]

    def _trained_on(self) -> list[Rows]:
        return ["release", "new"] if self.is_increment else ["release"]

    def _epochs_alone(self, name: str) -> int:
        """Epochs on the new rows alone that take at least as many steps as the first release's."""
        from evaluation.victims import victim

        epochs = victim(name).recipe(self.preset, self.victim_epochs).epochs
        return max(epochs, math.ceil(epochs * self.first_rows / self.num_rows))

    def trial_key(self, spec: TrialSpec) -> str:
        """Names a trial by what it trains on and how; a clean twin serves every method."""
        protected = [self.protected_key(), self.fit_rows]
        data = self.cache_key() if spec.data == "clean" else protected
        return spec.key(digest_of([data, self.cache_key(), self.device, self.versions]))

    def public_view(self) -> dict[str, Any]:
        """What a manifest may say: no seed, no path, no pin of clean rows, no target classes."""
        from evaluation.countermeasures import parse

        view = {name: getattr(self, name) for name in _PUBLIC}
        return view | {
            "kept": self.source["kept"],
            "settings": self.configured().published(self.settings),
            "countermeasures": [parse(text).public for text in self.countermeasures],
        }

    def save(self, path: Path) -> None:
        from release.workdir import write_private

        write_private(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> ReleasePlan:
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"no plan in {path.parent}: run `protect-release plan SOURCE --workdir "
                f"{path.parent}` first"
            ) from None
        except (TypeError, json.JSONDecodeError):
            raise InputError(
                f"{path} was written by another version: run `protect-release plan` again"
            ) from None


def read_from(source: Mapping[str, Any] | None) -> list[Any]:
    """What decides which images and labels are read from a source, as `Source.to_json` gives it:
    other columns of the same files are other data."""
    return [] if source is None else [source[name] for name in _READ]


def digest_of(value: Any) -> str:
    """24 hex digits of the value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
