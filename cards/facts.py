"""Everything a card may claim, as plain values. What is not here is not said.

A missing fact is an error: there are no defaults but that nobody verified the release again, and
None stands only where absence is itself a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal, get_args

from cards.figures import is_setting, kind

Rows = Literal["release", "new"]
Span = tuple[float, float, float]
"""Mean, least and greatest of a figure over seeds, as fractions."""


@dataclass(frozen=True)
class Measured:
    """One victim under one countermeasure (`none`: plain training) over `seeds` seeds; accuracies
    on clean test images, as fractions. clean is None where no clean twin was trained, peak where no
    epoch was scored. rows: `release` where it trained on all rows that readers get, or a sample of
    them, `new` where only on those that the release adds."""

    victim: str
    held_out: bool
    countermeasure: str
    rows: Rows
    seeds: int
    clean: Span | None
    protected: Span
    peak: Span | None
    renamed: Span

    def __post_init__(self) -> None:
        if self.rows not in get_args(Rows):
            raise ValueError(f"{self.victim} trained on {self.rows!r} rows: {get_args(Rows)}")
        for name in ("clean", "protected", "peak", "renamed"):
            span = getattr(self, name)
            if span is not None and not all(0 <= figure <= 1 for figure in span):
                raise ValueError(f"{self.victim} {name} is {span}: give fractions")

    @property
    def is_plain(self) -> bool:
        """Whether nothing was done against the protection."""
        return self.countermeasure == "none"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A later verification of what is published: on `date` (YYYY-MM-DD) by `tool`, with its report
    at the path `report` within the dataset, and in a sentence what it found; measured: every
    victim under every countermeasure."""

    date: str
    tool: str
    report: str
    sentence: str
    measured: Sequence[Measured]

    def __post_init__(self) -> None:
        _refuse_blanks(self, f"the verification of {self.date}")
        if not _is_day(self.date):
            raise ValueError(f"a verification is of {self.date!r}: give YYYY-MM-DD")

    @property
    def worst(self) -> Measured | None:
        """The victim of all rows that scored highest, whatever was done against the protection and
        whether or not it was held out; None where there is none. What clean rows taught among
        protected ones says nothing of these, so that circumstances are left out."""
        whole = (
            m for m in self.measured if m.rows == "release" and not is_setting(m.countermeasure)
        )
        return max(whole, key=lambda m: m.protected[0], default=None)


@dataclass(frozen=True, kw_only=True)
class ReleaseEntry:
    """One release of the dataset.

    date: YYYY-MM-DD; rows: those that it added, all of them released; total: the released rows of
    the dataset with it; measured: what victims came to on all rows and, where it added to others,
    on the new ones alone, empty where it was not verified.
    """

    name: str
    date: str
    method: str
    budget: str
    rows: int
    total: int
    measured: Sequence[Measured]

    def __post_init__(self) -> None:
        _refuse_blanks(self, f"release {self.name}")
        if not _is_day(self.date):
            raise ValueError(f"release {self.name} is of {self.date!r}: give YYYY-MM-DD")

    def learnt_most(self, rows: Rows) -> Measured | None:
        """The plain victim that scored highest after training on these rows, or, where nothing
        plain was tried, the one under a countermeasure: whom the gate looks at, so that
        circumstances are left out. Among those held out where there are any; None where none was
        trained on them."""
        tried = [m for m in self.measured if m.rows == rows and not is_setting(m.countermeasure)]
        gated = [m for m in tried if m.is_plain] or tried
        judged = [m for m in gated if m.held_out] or gated
        return max(judged, key=lambda m: m.protected[0], default=None)


@dataclass(frozen=True)
class Picture:
    """A published picture: its path within the release and what it shows, in one sentence."""

    path: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The facts of a dataset, of one split, as its newest release leaves it.

    About all releases together: rows = released + quarantined, which counts rows by reason;
    unprotected_rows are released unchanged; class_names, features (None where only tars are
    published), num_bytes and download_size; data_files, the globs of the default config, and
    tar_files, those of the WebDataset copy, one glob a release. releases: every one, the oldest
    first.

    About the newest, called `release`, which is the last of them: method, budget (written as
    `linf:8`), preset, measured, gate, flags, psnr, ssim, max_level, conversions (rows by what was
    changed to make them 8-bit grey or RGB) and shown_clean_rows. gate says in a sentence how it was
    judged, or None where nothing was verified (measured is then empty); only_small_networks:
    whether every victim is a net for minutes on a CPU. test_split: of the source, what victims were
    scored on, or None where that was a tenth of the rows, which none trained on. sampled: of the
    rows that victims trained on, how many were published before, of how many, and how many are new;
    None where no release came before. psnr in dB is None where no pixel changed; max_level in grey
    levels of 255. verified: the verifications after publication, in any order.

    repo_id: where readers find it on the Hub, or None for a folder; branch: the one that they have
    to name there, None for main; before: the tag of the release before, None where there is none.
    source_is_public: whether anyone can read the clean originals.
    """

    release: str
    releases: Sequence[ReleaseEntry]
    source_is_public: bool

    pretty_name: str
    repo_id: str | None
    branch: str | None
    before: str | None
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
    test_split: str | None
    only_small_networks: bool
    sampled: tuple[int, int, int] | None
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
    verified: Sequence[Verification] = ()

    def __post_init__(self) -> None:
        _refuse_blanks(self, "the card")
        lost = self.rows - self.released - sum(self.quarantined.values())
        if lost:
            raise ValueError(
                f"{self.rows} rows were read, but released and quarantined ones differ from that "
                f"by {lost}: count every row once"
            )
        _demand_chain(self.releases, self.release, self.released)
        if bool(self.measured) != (self.gate is not None):
            raise ValueError("a verdict needs measured victims, and measured victims a verdict")

    @property
    def is_verified(self) -> bool:
        return bool(self.measured)

    def tried(self, name: str) -> bool:
        """Whether some victim met the countermeasure of this name."""
        return any(kind(measured.countermeasure) == name for measured in self.measured)

    @property
    def measured_alone(self) -> bool:
        """Whether victims trained on the new rows alone, too."""
        return any(measured.rows == "new" for measured in self.measured)

    @property
    def new_rows(self) -> int:
        """How many rows the newest release gave to its victims."""
        return self.releases[-1].rows if self.sampled is None else self.sampled[2]


def _refuse_blanks(facts: CardFacts | ReleaseEntry | Verification, owner: str) -> None:
    for field in fields(facts):
        value = getattr(facts, field.name)
        if value == "" or (field.name in ("data_files", "releases") and not value):
            raise ValueError(f"{owner} has no {field.name}: a missing fact is not left blank")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _demand_chain(releases: Sequence[ReleaseEntry], last: str, released: int) -> None:
    total = 0
    for entry in releases:
        total += entry.rows
        if entry.total != total:
            raise ValueError(
                f"release {entry.name} counts {entry.total} rows in all, but it and those before "
                f"it added {total}"
            )
    if (releases[-1].name, total) != (last, released):
        raise ValueError(
            f"the card is of release {last} with {released} rows, but the last one listed is "
            f"{releases[-1].name} with {total}"
        )


_BUDGETS = {
    "linf": "no value of a pixel moves by more than {} of 255 grey levels",
    "l2": "the difference of an image has a Euclidean norm of at most {} (values from 0 to 1)",
    "l0": "at most {} of an image's pixels may change",
    "unbounded": "changes are not bounded",
}


def budget_in_words(budget: str) -> str:
    """What a budget such as `linf:8` or `linf:8+l0:1` allows; ValueError for another kind."""
    parts = [part.partition(":") for part in budget.split("+")]
    unknown = [kind for kind, _, _ in parts if kind not in _BUDGETS]
    if unknown:
        raise ValueError(f"no words for a budget of kind {unknown[0]!r}: {', '.join(_BUDGETS)}")
    return ", and then ".join(_BUDGETS[kind].format(amount) for kind, _, amount in parts)
