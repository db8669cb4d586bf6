"""Reasons to doubt our own figures. Each is one check; a flag that is raised says one sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.doubted import Doubted, listed, victims
from evaluation.gate import Gate, judged
from evaluation.scoring import a_or_an, apart, known_percent, percent
from evaluation.trial import Trial
from evaluation.victims import victim

_WEAK_TWIN = 0.25
_FEW_EPOCHS = 10
_STILL_MOVING = 0.05
_ADDS = 0.02
_NO_MORE_THAN_GUESSING = 0.05
_SWAPS = {
    "renamed": "{0.it} had learnt the classes all the same",
    "refit-head": "with a new last layer {0.its} features are of use",
}
"""What each shows where it brings a victim above the gate."""


@dataclass(frozen=True)
class Flag:
    """A doubt: id for machines, text for people."""

    id: str
    text: str


Check = Callable[[Doubted], str | None]


def raised(facts: Doubted) -> list[Flag]:
    """Every flag that these figures deserve."""
    found = [(name, check(facts)) for name, check in CHECKS.items()]
    return [Flag(name, text) for name, text in found if text is not None]


def _not_verified(facts: Doubted) -> str | None:
    if facts.trials:
        return None
    return "No victim was trained on this release: nothing is known about its protection."


def _not_held_out(facts: Doubted) -> str | None:
    same = [trial for trial in facts.whole if not trial.held_out]
    if not same:
        return None
    known = victims(same)
    text = (
        f"The noise was made with the architecture of {known.names}, which flatters {known.its} "
        "figures"
    )
    if all(trial.held_out for trial in judged(facts.whole)):
        return f"{text}; the gate looks at the others."
    return f"{text}; the gate looks at no victim that was held out."


def _kind(trial: Trial) -> str:
    return trial.countermeasure.partition(":")[0]


def _diverged(facts: Doubted) -> str | None:
    diverged = [t for t in facts.trials if t.diverged]
    if not diverged:
        return None
    named = listed(t.victim if t.is_plain else f"{t.victim} ({t.countermeasure})" for t in diverged)
    return (
        f"On this release the training of {named} diverged, to numbers that are not finite: "
        f"{victims(diverged).its} low accuracy is no sign of protection."
    )


def _learnt_nothing(facts: Doubted) -> str | None:
    failed = [t for t in facts.plain if not t.diverged and _failed_alone(t)]
    if not failed:
        return None
    found = victims(failed)
    return (
        f"Of the very rows of this release that {found.it} trained on {found.names} learnt no more "
        f"than guessing, while the clean images were learnt: {found.its} low accuracy may be that "
        "of a failed training."
    )


def _failed_alone(trial: Trial) -> bool:
    """Whether it does not know its own rows, while its clean twin did learn."""
    if trial.train_accuracy is None or trial.clean is None or _is_weak(trial):
        return False
    return _above_chance(trial.train_accuracy, trial.chance) < _NO_MORE_THAN_GUESSING


def _weak_twin(facts: Doubted) -> str | None:
    weak = [t for t in facts.plain if _is_weak(t)]
    if not weak:
        return None
    found = victims(weak)
    return (
        f"On the clean images too {found.names} learnt little, so that {found.its} low accuracy on "
        "this release says little."
    )


def _is_weak(trial: Trial) -> bool:
    """Whether its clean twin learnt little."""
    return trial.clean is not None and _above_chance(trial.clean, trial.chance) < _WEAK_TWIN


def _above_chance(accuracy: float, chance: float) -> float:
    """The share of what can be had above chance; nothing where guessing is always right."""
    return (accuracy - chance) / (1 - chance) if chance < 1 else 0.0


def _moving_twin(facts: Doubted) -> str | None:
    moving = [t for t in facts.plain if (t.clean_drift or 0) > _STILL_MOVING]
    if not moving:
        return None
    found = victims(moving)
    return (
        f"On the clean images {found.names} {found.was} still moving at the end: {found.its} "
        "accuracy on this release is compared with one that is not final."
    )


def _no_twin(facts: Doubted) -> str | None:
    alone = [trial for trial in facts.plain if trial.clean is None]
    if not alone:
        return None
    found = victims(alone)
    return (
        f"No clean twin of {found.names} was trained: whether {found.it} would have learnt more "
        "from the unchanged images is not known."
    )


def _few_epochs(facts: Doubted) -> str | None:
    short = [t for t in facts.plain if t.epochs < _FEW_EPOCHS]
    moving = [t for t in facts.plain if (t.drift or 0) > _STILL_MOVING]
    clauses = []
    if short:
        clauses.append(f"{victims(short).names} trained for fewer than {_FEW_EPOCHS} epochs")
    if moving:
        clauses.append(f"the accuracy of {victims(moving).names} was still moving at the end")
    if not clauses:
        return None
    text = f"{', and '.join(clauses)}: longer training may find more."
    return text if short else f"T{text[1:]}"


def _peak_above_gate(facts: Doubted) -> str | None:
    return _above_gate(
        facts,
        lambda trial: trial.peak,
        "At {0.its} best epoch {0.names} scored above what the gate allows at the end: whoever "
        "owns clean labelled images can stop there.",
    )


def _renamed_above_gate(facts: Doubted) -> str | None:
    return _above_gate(
        facts,
        lambda trial: trial.renamed,
        "With {0.its} outputs renamed one to one {0.names} scored above what the gate allows: "
        "{0.it} learnt the classes under other names.",
    )


def _swapped_back(facts: Doubted) -> str | None:
    above = [
        t
        for t in facts.whole
        if _kind(t) in _SWAPS and facts.above(t, t.protected) and not _is_weak_plainly(facts, t)
    ]
    if not above:
        return None
    tried, found = listed(trial.countermeasure for trial in above), victims(above)
    kinds = dict.fromkeys(map(_kind, above))
    shown = listed(_SWAPS[kind].format(found) for kind in kinds)
    return (
        f"A few clean labelled images are enough to undo what {found.names} {found.was} taught "
        f"wrong ({tried}): {shown}."
    )


def _is_weak_plainly(facts: Doubted, trial: Trial) -> bool:
    """Whether the clean twin of plain training, or this one's own, learnt little: then as much as
    the gate allows is little too, and features that nothing was learnt into pass it."""
    plain = facts.plain_trial(trial)
    return _is_weak(trial) or (plain is not None and _is_weak(plain))


def _above_gate(facts: Doubted, figure: Callable[[Trial], float], text: str) -> str | None:
    held = [t for t in facts.whole if t.is_plain and not facts.above(t, t.protected)]
    above = [t for t in held if facts.above(t, figure(t))]
    return text.format(victims(above)) if above else None


def _countered(facts: Doubted) -> str | None:
    above = [
        t
        for t in facts.whole
        if not t.is_plain and facts.above(t, t.protected) and not _gives_nothing(facts, t)
    ]
    if not above:
        return None
    tried = listed(trial.countermeasure for trial in above)
    return f"The protection does not hold against {tried}."


def _gives_nothing(facts: Doubted, trial: Trial) -> bool:
    """Whether it spoils training itself, and comes to no more than plain training may: its own
    threshold, next to chance, is then passed by what is of no use to anybody."""
    plain = facts.plain_trial(trial)
    within = plain is not None and not facts.above(plain, trial.protected)
    return within and _is_spoilt(trial, plain)


def _spoils_twin(facts: Doubted) -> str | None:
    spoilt = [t for t in facts.whole if not t.is_plain and _is_spoilt(t, facts.plain_trial(t))]
    if not spoilt:
        return None
    tried = listed((trial.countermeasure for trial in spoilt), "or")
    return (
        f"With {tried} even the clean images teach less than half of what they teach in plain "
        "training: a low figure there is no sign of protection."
    )


def _is_spoilt(trial: Trial, plain: Trial | None) -> bool:
    if plain is None or plain.clean is None or trial.clean is None:
        return False
    return trial.clean - trial.chance < (plain.clean - trial.chance) / 2


def _mixed_rows_teach(facts: Doubted) -> str | None:
    adding = [
        t
        for t in facts.trials
        if _kind(t) == "mix-percent" and t.clean is not None and t.protected > t.clean + _ADDS
    ]
    if not adding:
        return None
    most = max(adding, key=lambda trial: trial.protected - (trial.clean or 0))
    return (
        f"Among clean rows the protected ones still teach: {most.victim} scored "
        f"{percent(most.protected)} with them ({most.countermeasure}) and "
        f"{known_percent(most.clean)} with the clean ones alone, in as many steps."
    )


def _wide_spread(facts: Doubted) -> str | None:
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in judged(facts.whole):
        if trial.is_plain and facts.allowed(trial) >= trial.protected:
            groups[trial.victim, trial.countermeasure].append(trial)
    wide = [group for group in groups.values() if _spread(group) > _margin(facts, group)]
    if not wide:
        return None
    names = listed(group[0].victim for group in wide)
    return (
        f"The figures of {names} differ between seeds by more than what separates them from the "
        "gate: another seed may miss it."
    )


def _spread(trials: Sequence[Trial]) -> float:
    return max(t.protected for t in trials) - min(t.protected for t in trials)


def _margin(facts: Doubted, trials: Sequence[Trial]) -> float:
    return min(facts.allowed(trial) - trial.protected for trial in trials)


def _no_contrast(facts: Doubted) -> str | None:
    if facts.labelled or any(_kind(trial) == "simclr" for trial in facts.trials):
        return None
    return "The release has no labels, and no victim learnt from it without labels (simclr)."


def _left_out(facts: Doubted) -> str | None:
    if not facts.left_out:
        return None
    return (
        f"Time ran out before {facts.left_out} of the trainings and analyses that were asked for."
    )


def _one_seed(facts: Doubted) -> str | None:
    if not facts.trials or len({trial.seed for trial in facts.trials}) > 1:
        return None
    return "Every victim was trained from one seed: another may differ by some points."


def _no_license(facts: Doubted) -> str | None:
    if facts.license not in (None, "", "unknown"):
        return None
    return "The licence of the source is not known."


def _small_networks(facts: Doubted) -> str | None:
    if not facts.trials or not all(victim(trial.victim).is_small for trial in facts.trials):
        return None
    return "Only small networks were trained; larger ones may learn more."


def _new_rows_alone(facts: Doubted) -> str | None:
    plain = [trial for trial in facts.trials if trial.rows == "new" and trial.is_plain]
    above = [t for t in plain if facts.above(t, t.protected)]
    if not above:
        return None
    most = max(above, key=lambda trial: trial.protected)
    return (
        f"By themselves the {most.train_rows:,} new rows teach {victims(above).names} more than "
        f"the gate would allow: up to {percent(most.protected)}, where as many clean ones teach "
        f"{known_percent(most.clean)}; the gate looks only at old and new rows together."
    )


def _source_public(facts: Doubted) -> str | None:
    if not facts.source_is_public:
        return None
    return (
        "The clean originals are public: whoever has both can subtract the changes, or train on "
        "the originals."
    )


def _typed_seed(facts: Doubted) -> str | None:
    if not facts.typed_seed:
        return None
    return (
        "The secret seed was typed and not drawn at random: whoever guesses it knows the random "
        "choices behind the changes."
    )


def _raised_gate(facts: Doubted) -> str | None:
    sound = [trial for trial in facts.whole if not trial.diverged]
    if not sound:
        return None
    # The worst by the default gate: a raised one might find another victim worse, and allow it.
    usual = Gate().judge(sound)
    if usual is None or facts.allowed(usual.worst) <= usual.threshold:
        return None
    allowed, default = apart(facts.allowed(usual.worst), usual.threshold)
    chosen = f"The chosen gate allows {a_or_an(usual.worst.victim)} {allowed}"
    if usual.threshold < 0:
        return (
            f"{chosen}; by the default gate nothing could be judged, since its clean twin did not "
            "beat guessing."
        )
    return f"{chosen}, more than the {default} of the default gate."


CHECKS: dict[str, Check] = {
    "not-verified": _not_verified,
    "victim-not-held-out": _not_held_out,
    "victim-diverged": _diverged,
    "victim-learnt-nothing": _learnt_nothing,
    "clean-twin-weak": _weak_twin,
    "clean-twin-moving": _moving_twin,
    "no-clean-twin": _no_twin,
    "too-few-epochs": _few_epochs,
    "peak-above-gate": _peak_above_gate,
    "renamed-above-gate": _renamed_above_gate,
    "labels-swapped-back": _swapped_back,
    "countermeasure-above-gate": _countered,
    "countermeasure-spoils-twin": _spoils_twin,
    "mixed-rows-teach": _mixed_rows_teach,
    "unlabelled-not-contrasted": _no_contrast,
    "one-seed": _one_seed,
    "spread-above-margin": _wide_spread,
    "left-out": _left_out,
    "no-license": _no_license,
    "small-networks-only": _small_networks,
    "new-rows-alone": _new_rows_alone,
    "source-public": _source_public,
    "typed-seed": _typed_seed,
    "raised-gate": _raised_gate,
}
