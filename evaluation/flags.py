"""Reasons to doubt our own figures. Each is one check; a flag that is raised says one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crafting.registry import Preset
from evaluation.gate import Gate
from evaluation.verify import Trial

_WEAK_TWIN = 0.25
_FEW_EPOCHS = 10
_STILL_MOVING = 0.05


@dataclass(frozen=True)
class Flag:
    """A doubt: id for machines, text for people."""

    id: str
    text: str


@dataclass(frozen=True)
class Doubted:
    """What the checks look at."""

    trials: Sequence[Trial]
    num_classes: int
    gate: Gate
    license: str | None
    preset: Preset


Check = Callable[[Doubted], str | None]


def raised(facts: Doubted) -> list[Flag]:
    """Every flag that these figures deserve."""
    found = [(name, check(facts)) for name, check in CHECKS.items()]
    return [Flag(name, text) for name, text in found if text is not None]


def _names(trials: Iterable[Trial]) -> str:
    return ", ".join(dict.fromkeys(trial.victim for trial in trials))


def _not_verified(facts: Doubted) -> str | None:
    if facts.trials:
        return None
    return "No victim was trained on this release: nothing is known about its protection."


def _not_held_out(facts: Doubted) -> str | None:
    same = [trial for trial in facts.trials if not trial.held_out]
    if not same:
        return None
    text = f"The noise was made with the architecture of {_names(same)}, which flatters its figure"
    if len(same) == len(facts.trials):
        return f"{text}; no victim was held out."
    return f"{text}; the gate looks at the others."


def _weak_twin(facts: Doubted) -> str | None:
    chance = 1 / facts.num_classes
    weak = [t for t in facts.trials if (t.clean - chance) / (1 - chance) < _WEAK_TWIN]
    if not weak:
        return None
    return (
        f"On the clean images too {_names(weak)} learnt little, so that its low accuracy on this "
        "release says little."
    )


def _few_epochs(facts: Doubted) -> str | None:
    short = [t for t in facts.trials if t.epochs < _FEW_EPOCHS or t.drift > _STILL_MOVING]
    if not short:
        return None
    return (
        f"{_names(short)} trained for fewer than {_FEW_EPOCHS} epochs, or its accuracy was still "
        "moving at the end: longer training may find more."
    )


def _peak_above_gate(facts: Doubted) -> str | None:
    return _above_gate(
        facts,
        lambda trial: trial.peak,
        "at its best epoch {victims} scored above what the gate allows at the end: whoever owns "
        "clean labelled images can stop there",
    )


def _renamed_above_gate(facts: Doubted) -> str | None:
    return _above_gate(
        facts,
        lambda trial: trial.renamed,
        "with its outputs renamed one to one {victims} scored above what the gate allows: it "
        "learnt the classes under other names",
    )


def _above_gate(facts: Doubted, figure: Callable[[Trial], float], text: str) -> str | None:
    above = [
        trial
        for trial in facts.trials
        if trial.is_plain and figure(trial) > facts.gate.threshold(trial, facts.num_classes)
    ]
    if not above:
        return None
    sentence = text.format(victims=_names(above))
    return f"{sentence[0].upper()}{sentence[1:]}."


def _countered(facts: Doubted) -> str | None:
    above = [
        trial
        for trial in facts.trials
        if not trial.is_plain and trial.protected > facts.gate.threshold(trial, facts.num_classes)
    ]
    if not above:
        return None
    tried = ", ".join(dict.fromkeys(trial.countermeasure for trial in above))
    return f"The protection does not hold against {tried}."


def _one_seed(facts: Doubted) -> str | None:
    if not facts.trials or len({trial.seed for trial in facts.trials}) > 1:
        return None
    return "Every victim was trained from one seed: another may differ by some points."


def _no_license(facts: Doubted) -> str | None:
    if facts.license not in (None, "", "unknown"):
        return None
    return "The licence of the source is not known."


def _small_networks(facts: Doubted) -> str | None:
    if facts.preset != "quick" or not facts.trials:
        return None
    return "Only small networks were trained, for few epochs; larger ones may learn more."


CHECKS: dict[str, Check] = {
    "not-verified": _not_verified,
    "victim-not-held-out": _not_held_out,
    "clean-twin-weak": _weak_twin,
    "too-few-epochs": _few_epochs,
    "peak-above-gate": _peak_above_gate,
    "renamed-above-gate": _renamed_above_gate,
    "countermeasure-above-gate": _countered,
    "one-seed": _one_seed,
    "no-license": _no_license,
    "small-networks-only": _small_networks,
}
