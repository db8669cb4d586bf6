"""Everything a card may claim, as plain values. What is not here is not said.

A missing fact is an error: there are no defaults, and None stands only where absence is itself a
fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Span = tuple[float, float, float]
"""Mean, least and greatest of a figure over seeds, as fractions."""


@dataclass(frozen=True)
class Measured:
    """One victim under one countermeasure (`none`: plain training) over `seeds` seeds; accuracies
    on clean test images, as fractions."""

    victim: str
    held_out: bool
    countermeasure: str
    seeds: int
    clean: Span
    protected: Span
    peak: Span
    renamed: Span

    def __post_init__(self) -> None:
        for name in ("clean", "protected", "peak", "renamed"):
            if not all(0 <= figure <= 1 for figure in getattr(self, name)):
                raise ValueError(f"{self.victim} {name} is {getattr(self, name)}: give fractions")


@dataclass(frozen=True)
class Picture:
    """A published picture: its path within the release and what it shows, in one sentence."""

    path: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The facts of one release, of one split.

    repo_id: where readers find it on the Hub, or None for a folder. source_name: None where the
    owner keeps it to itself. rows = released + quarantined, which counts rows by reason;
    conversions counts rows by what was changed to make them 8-bit grey or RGB; unprotected_rows are
    released unchanged. budget is written as `linf:8`. gate says in a sentence how the release was
    judged, or None where nothing was verified (measured is then empty). psnr in dB is None where no
    pixel changed; max_level in grey levels of 255. features is None where only tars are published.
    data_files are the globs of the default config, tar_files those of the WebDataset copy.
    """

    pretty_name: str
    repo_id: str | None
    source_name: str | None
    source_citation: str | None
    license: str
    split: str
    rows: int
    released: int
    quarantined: Mapping[str, int]
    conversions: Mapping[str, int]
    unprotected_rows: int
    class_names: Sequence[str]
    image_column: str
    shown_clean_rows: Sequence[int]

    method: str
    paper: str
    bibtex: str
    budget: str
    preset: str

    measured: Sequence[Measured]
    gate: str | None
    flags: Sequence[str]
    psnr: float | None
    ssim: float
    max_level: int

    features: Sequence[Mapping[str, Any]] | None
    data_files: Sequence[str]
    tar_files: Sequence[str]
    num_bytes: int
    download_size: int
    pictures: Sequence[Picture]
    tool: str

    def __post_init__(self) -> None:
        _refuse_blanks(self)
        lost = self.rows - self.released - sum(self.quarantined.values())
        if lost:
            raise ValueError(
                f"{self.rows} rows were read, but released and quarantined ones differ from that "
                f"by {lost}: count every row once"
            )
        if bool(self.measured) != (self.gate is not None):
            raise ValueError("a verdict needs measured victims, and measured victims a verdict")

    @property
    def is_verified(self) -> bool:
        return bool(self.measured)


def _refuse_blanks(facts: CardFacts) -> None:
    for field in fields(facts):
        value = getattr(facts, field.name)
        if value == "" or (field.name == "data_files" and not value):
            raise ValueError(f"the card has no {field.name}: a missing fact is not left blank")


_BUDGETS = {
    "linf": "no value of a pixel moves by more than {} of 255 grey levels",
    "l2": "the difference of an image has a Euclidean norm of at most {} (values from 0 to 1)",
    "l0": "at most {} pixels of an image change",
    "unbounded": "changes are not bounded",
}


def budget_in_words(budget: str) -> str:
    """What a budget such as `linf:8` or `linf:8+l0:1` allows; ValueError for another kind."""
    parts = [part.partition(":") for part in budget.split("+")]
    unknown = [kind for kind, _, _ in parts if kind not in _BUDGETS]
    if unknown:
        raise ValueError(f"no words for a budget of kind {unknown[0]!r}: {', '.join(_BUDGETS)}")
    return ", and then ".join(_BUDGETS[kind].format(amount) for kind, _, amount in parts)
