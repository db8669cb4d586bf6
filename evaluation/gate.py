"""Whether a release may be published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring import a_or_an, above_chance_ratio, apart, known_percent, percent
from evaluation.trial import Trial


@dataclass(frozen=True)
class Verdict:
    """Whether the release holds, judged on its worst trial: accuracy is what that victim may reach
    at most (a fraction), ratio what is left of its clean twin's accuracy above chance, or None
    where that twin was not above chance itself, or the victim diverged."""

    holds: bool
    worst: Trial
    threshold: float
    ratio: float | None
    reason: str

    @property
    def is_open(self) -> bool:
        """Whether it can only say that nothing can be judged, since that twin learnt nothing."""
        return self.threshold < 0


@dataclass(frozen=True)
class Gate:
    """A release holds where the worst held-out victim keeps at most `max_ratio` of the accuracy
    above chance of its clean twin, or, where given, at most `max_accuracy` (a fraction). It never
    holds by a victim that diverged.

    Only victims of all the release's rows are judged: new rows alone are too few to be told from
    clean ones. Of these only plain training, unless nothing else was tried: under a countermeasure
    no method is expected to hold (the card says so). Where no victim is held out, all are judged.
    """

    max_ratio: float = 0.5
    max_accuracy: float | None = None

    def judge(self, trials: Sequence[Trial]) -> Verdict | None:
        """The verdict on these trials; None where none that is judged has a clean twin to be held
        against, unless an accuracy is given. ValueError where none is of all the release's rows."""
        allowed = [(trial, self.threshold(trial)) for trial in judged(trials)]
        known = [(trial, most) for trial, most in allowed if most is not None]
        if not allowed:
            raise ValueError(
                "no victim was trained on all rows of the release, so nothing can be judged: "
                "verify first"
            )
        if not known:
            return None
        worst, threshold = max(known, key=lambda found: found[0].protected - found[1])
        return Verdict(
            holds=worst.protected <= threshold,
            worst=worst,
            threshold=threshold,
            ratio=None
            if worst.diverged
            else above_chance_ratio(worst.protected, worst.clean, worst.chance),
            reason=_reason(worst, threshold),
        )

    def threshold(self, trial: Trial) -> float | None:
        """The accuracy that this victim may reach at most; below 0 where it diverged or its clean
        twin did not beat chance, since nothing was shown then; None where it has no twin."""
        if self.max_accuracy is not None:
            return -1.0 if trial.diverged else self.max_accuracy
        if trial.clean is None:
            return None
        if trial.diverged or trial.clean <= trial.chance:
            return -1.0
        return trial.chance + self.max_ratio * (trial.clean - trial.chance)


def judged(trials: Sequence[Trial]) -> list[Trial]:
    """Those that a gate looks at."""
    whole = [trial for trial in trials if trial.rows == "release" and not trial.is_setting]
    plain = plain_ones(whole)
    return [trial for trial in plain if trial.held_out] or plain


def plain_ones(trials: Sequence[Trial]) -> list[Trial]:
    """Those of plain training, or all of them where nothing plain was tried."""
    return [trial for trial in trials if trial.is_plain] or list(trials)


def _reason(trial: Trial, threshold: float) -> str:
    how = "" if trial.is_plain else f" with {trial.countermeasure}"
    if trial.diverged:
        return (
            f"the training of the {trial.victim} on this release{how} diverged, to numbers that "
            "are not finite, so that protection cannot be judged"
        )
    if threshold < 0:
        return (
            f"the {trial.victim} did not even learn from the clean images{how} "
            f"({known_percent(trial.clean)}, where chance is {percent(trial.chance)}), so that "
            "protection cannot be judged"
        )
    relation = "at most" if trial.protected <= threshold else "more than"
    scored, allowed = apart(trial.protected, threshold)
    return (
        f"{a_or_an(trial.victim)} trained on this release{how} scored {scored}, "
        f"{relation} the {allowed} allowed (clean images: {known_percent(trial.clean)})"
    )
