"""The plan of a verification: every decision as plain values, in WORKDIR/verification.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.errors import InputError
from release.plan import digest_of, read_from

if TYPE_CHECKING:
    from crafting.registry import Preset
    from evaluation.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class VerificationPlan:
    """Everything a verification depends on. Paths are absolute.

    release: what people call it; target and branch: where its report can be added, as --to and
    --revision would name it; facts: what its manifest says of how it was made, empty for a release
    that is not ours; source and clean: both datasets, as `Source.to_json` gives them (clean None:
    no twins); pairs: names the array in WORKDIR of the released rows that victims train on and the
    clean row of each (None: no clean rows); test_source: which of them has the test split;
    surrogates: the nets that its method trained.
    """

    release: str
    target: str
    on_hub: bool
    branch: str | None
    facts: dict[str, Any]
    license: str | None
    source_is_public: bool
    surrogates: list[str]

    source: dict[str, Any]
    split: str
    clean: dict[str, Any] | None
    pairs: str | None
    clean_split: str
    test_source: dict[str, Any]
    test_split: str
    class_names: list[str]
    labelled: bool
    rows: int
    delivered_as: str
    net_size: int

    victims: list[str]
    countermeasures: list[str]
    analyses: list[str]
    seeds: int
    epochs: int | None
    preset: Preset
    max_accuracy: float | None
    budget_minutes: float | None

    date: str
    device: str
    workers: int
    max_restarts: int
    hub_patience: float
    versions: dict[str, str]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def data_key(self) -> str:
        """Names the rows that victims train on and are scored on."""
        released = [read_from(self.source), self.split]
        clean = [read_from(self.clean), self.clean_split, self.pairs]
        test = [read_from(self.test_source), self.test_split]
        shown = [self.rows, self.net_size, self.delivered_as]
        return digest_of([released, clean, test, *shown])

    def trial_key(self, spec: TrialSpec) -> str:
        """Names a training by what it trains on and how."""
        return spec.key(digest_of([self.data_key(), self.device, self.versions]))

    def analysis_key(self, analysis: str) -> str:
        """Names what an analysis finds in these rows."""
        parts = [analysis, self.preset, self.epochs, self.device, self.versions]
        return f"analysis-{digest_of([self.data_key(), *parts])}"

    def trials(self) -> list[TrialSpec]:
        """Every training that is asked for, what tells most first: plain ones, then each
        countermeasure once, then by the other victims, and only then further seeds. A clean twin
        follows its protected training."""
        from evaluation.trial import TrialSpec

        pairs = [
            (seed, victim, countermeasure)
            for seed in range(self.seeds)
            for victim in self.victims
            for countermeasure in self.countermeasures
        ]
        kinds = ("protected",) if self.clean is None else ("protected", "clean")
        return [
            TrialSpec(
                victim=victim,
                countermeasure=countermeasure,
                seed=seed,
                data=data,  # type: ignore[arg-type]
                preset=self.preset,
                epochs=self.epochs,
                net_size=self.net_size,
            )
            for seed, victim, countermeasure in sorted(pairs, key=self._information)
            for data in kinds
        ]

    def _information(self, pair: tuple[int, str, str]) -> tuple[int, bool, bool, int, int]:
        """Circumstances come after what the gate may look at, without which there is no report."""
        from evaluation.countermeasures.base import kind_of

        seed, victim, countermeasure = pair
        is_setting = kind_of(countermeasure).is_setting
        place = self.countermeasures.index(countermeasure)
        return seed, countermeasure != "none", is_setting, self.victims.index(victim), place

    def save(self, path: Path) -> None:
        from release.workdir import write_private

        write_private(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> VerificationPlan:
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, TypeError, json.JSONDecodeError):
            raise InputError(
                f"no verification of this version is planned in {path.parent}: run "
                "`protect-release verify RELEASE` again"
            ) from None
