"""What flags are raised about, and how they name it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evaluation.gate import Gate, plain_ones
from evaluation.trial import Trial


@dataclass(frozen=True)
class Doubted:
    """What the checks look at. source_is_public: whether anyone can read the clean originals;
    typed_seed: whether the secret seed was typed and not drawn; labelled: whether the release has
    labels; left_out: how many trainings and analyses were asked for and not made."""

    trials: Sequence[Trial]
    gate: Gate
    license: str | None
    source_is_public: bool = False
    typed_seed: bool = False
    labelled: bool = True
    left_out: int = 0

    @property
    def whole(self) -> list[Trial]:
        """The trials that the gate may look at: on all rows of the release."""
        return [t for t in self.trials if t.rows == "release" and not t.is_setting]

    @property
    def plain(self) -> list[Trial]:
        """Those of plain training, or all of them where nothing plain was tried."""
        return plain_ones(self.whole)

    def plain_trial(self, trial: Trial) -> Trial | None:
        """The plain training of the same victim from the same seed, where there is one."""
        alike = (t for t in self.whole if (t.victim, t.seed) == (trial.victim, trial.seed))
        return next((t for t in alike if t.is_plain), None)

    def allowed(self, trial: Trial) -> float:
        """What the gate allows this victim; where it has no clean twin, everything."""
        threshold = self.gate.threshold(trial)
        return 1.0 if threshold is None else threshold

    def above(self, trial: Trial, figure: float) -> bool:
        """Whether this figure of the trial is more than the gate allows; no figure is where the
        clean twin did not beat chance, or the victim diverged, since that says nothing of the
        protection."""
        return figure > self.allowed(trial) >= 0


class Victims(NamedTuple):
    """The victims of some trials, and the words that go with one or with several."""

    names: str
    was: str
    its: str
    it: str


def victims(trials: Iterable[Trial]) -> Victims:
    """Those of these trials, each once."""
    found = list(dict.fromkeys(trial.victim for trial in trials))
    words = ("was", "its", "it") if len(found) == 1 else ("were", "their", "they")
    return Victims(listed(found), *words)


def listed(names: Iterable[str], last: str = "and") -> str:
    """Each name once, as A, B and C."""
    *others, final = dict.fromkeys(names)
    return f"{', '.join(others)} {last} {final}" if others else final
