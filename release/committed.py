"""Rows whose noise is settled, though they are in no release that readers of the target see now:
one that waits as a pull request, was withdrawn, or lies on another branch. With another noise,
which would average with the first, they are not published.

They are found in what the vault kept of each release before that was made public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from release.errors import SecondNoise
from release.ledger import PICTURE, Ledger, LedgerEntry, Noise, Released
from release.plan import ReleasePlan
from release.public_rows import public_rows
from release.row_names import row_name
from release.source import Source
from release.survey import Survey
from release.vault import Kept, Vault
from release.workdir import Workdir


def entry_of(plan: ReleasePlan, workdir: Workdir, vault: Vault) -> LedgerEntry:
    """What the ledger is to know of the planned release."""
    survey = Survey.load(workdir.survey(plan.survey))
    return LedgerEntry.of(
        plan.first_row,
        vault.marks(survey.digests),
        vault.marks(survey.pictures)[:, :PICTURE],
        Noise(plan.method, plan.noise_key()),
        [plan.first_row + place for place, _ in survey.bad],
    )


def demand_one_noise(
    plan: ReleasePlan, workdir: Workdir, vault: Vault, seen: Sequence[str], *, reads: bool
) -> None:
    """SecondNoise where the planned release would give a picture another noise than one did that is
    not among the releases that readers have `seen`.

    reads: the source is there to be read, so that rows can be named, and found under other labels
    in entries of earlier versions.
    """
    unseen = list(vault.unseen([*seen, plan.release_id()]))
    if not unseen:
        return
    planned = _Planned(plan, workdir, vault, entry_of(plan, workdir, vault).released(), reads)
    for kept in unseen:
        planned.demand_noise_of(kept)


@dataclass(frozen=True)
class _Planned:
    """The rows that the planned release would publish, as the ledger would know them."""

    plan: ReleasePlan
    workdir: Workdir
    vault: Vault
    rows: LedgerEntry
    reads: bool

    def demand_noise_of(self, kept: Kept) -> None:
        """SecondNoise where a picture of this entry would get another noise."""
        theirs, places = kept.entry.released(), self.rows.rows - self.plan.first_row
        same = Released(theirs.rows, theirs.marks).rows(self.rows.marks) >= 0
        if same.any() and kept.entry.noise != self.rows.noise:
            raise self._second_noise(kept, places[same], "", self._how_again(kept))
        if same.any() and self._is_fitted_anew():
            advice = f"delete {self.workdir.path}, whose State is not the one that is kept, and"
            raise self._second_noise(kept, places[same], "", f"{advice} run the same command again")
        other = places[self._shown(theirs, places) & ~same]
        if len(other):
            labels = "give them the labels of then, or take them out of the source"
            raise self._second_noise(kept, other, " under another label", labels)

    def _shown(self, theirs: LedgerEntry, places: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the rows show a picture of theirs, under whatever label."""
        if theirs.pictures is not None and self.rows.pictures is not None:
            released = Released(theirs.rows, theirs.pictures)
            shown: np.ndarray = released.rows(self.rows.pictures) >= 0
            return shown
        if not self.reads:
            return np.zeros(len(places), np.bool_)
        source, at = self._in_source(places)
        ledger, marks = Ledger([theirs]), self.vault.marks
        found = public_rows(source, self.plan.split, at.tolist(), ledger, marks)
        return np.isin(at, [row.place for row in found])

    def _is_fitted_anew(self) -> bool:
        """Whether another machine kept a State meanwhile that is not this one's."""
        key, folder = self.plan.state_key(), self.workdir.state(self.plan.fit_key())
        kept = self.plan.is_increment and self.vault.has_state(key)
        return kept and folder.exists() and not self.vault.is_state(key, folder)

    def _how_again(self, kept: Kept) -> str:
        if kept.entry.noise is None:
            return "merge or restore that release first"
        option = "--incremental-method" if self.plan.is_increment else "--method"
        same = f"with {option} {kept.entry.noise.method} and whatever else was said then"
        return f"push them {same}, or merge or restore that release first"

    def _second_noise(
        self, kept: Kept, places: np.ndarray, labelled: str, advice: str
    ) -> SecondNoise:
        made_by = kept.entry.noise.method if kept.entry.noise else None
        return SecondNoise(
            f"{len(places)} rows (first: {self._name(int(places[0]))}) have the noise of "
            f"{made_by or 'an earlier version of this tool'}{labelled} since {kept.release}, which "
            f"is no release of {self.plan.target} now, but may be a pull request, on another "
            f"branch, or withdrawn: two noises of one picture average out; {advice}; only if "
            f"nobody ever saw it, delete {kept.place}",
            made_by,
        )

    def _name(self, place: int) -> str:
        """What the owner calls a row of the release."""
        if not self.reads:
            return f"row {self.plan.first_row + place}"
        source, at = self._in_source(np.array([place]))
        return row_name(source, self.plan.split, int(at[0]))

    def _in_source(self, places: np.ndarray) -> tuple[Source, np.ndarray]:
        """The whole source, and where these rows of the release stand in it."""
        source = Source.from_json(self.plan.source)
        chosen = source.chosen.get(self.plan.split)
        return source.whole(), places if chosen is None else np.load(chosen)[places]
