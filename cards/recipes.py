"""What was trained, how, on what and by what, as a report says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cards.figures import kind

FINETUNE = "finetune"
"""The countermeasure whose victims do not start from nothing."""
_APART = {"versions", "victims", "countermeasures", "kept"}


@dataclass(frozen=True)
class TrainedBy:
    """Victims, each with the size of its net, that one recipe trained; where: the countermeasures
    under which they had it, empty where they had no other."""

    victims: str
    words: str
    where: str


@dataclass(frozen=True)
class LeftOut:
    """Trainings that were asked for and not made: a victim under a countermeasure on one kind of
    rows."""

    countermeasure: str
    victim: str
    on: str
    seeds: str


def recipes(report: Mapping[str, Any]) -> list[TrainedBy]:
    """Every recipe with the victims that it trained."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for training in report["trainings"]:
        spec = training["spec"]
        victim = f"{spec['victim']} ({training['num_parameters']:,} parameters)"
        by_recipe = found.setdefault(victim, {})
        by_recipe.setdefault(recipe_in_words(training["recipe"]), {})[spec["countermeasure"]] = None
    shared: dict[tuple[str, str], list[str]] = {}
    for victim, by_recipe in found.items():
        for words, names in by_recipe.items():
            where = ", ".join(names) if len(by_recipe) > 1 else ""
            shared.setdefault((words, where), []).append(victim)
    return [TrainedBy(", ".join(victims), *key) for key, victims in shared.items()]


def recipe_in_words(recipe: Mapping[str, Any]) -> str:
    """How a net was trained, in one line; what this version does not know is named as it is."""
    known = dict(recipe)
    epochs, batch = known.pop("epochs"), known.pop("batch_size")
    optimiser = _optimiser(known)
    schedule = _schedule(known)
    rate, decay = known.pop("lr"), known.pop("weight_decay")
    augment = "random crops and flips" if known.pop("augment") else "no augmentation"
    rest = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in known.items()]
    parts = [
        f"{epochs} epoch{'' if epochs == 1 else 's'}",
        f"batches of {batch}",
        optimiser,
        f"learning rate {rate:g}, {schedule}",
        f"weight decay {decay:g}",
        augment,
        *rest,
    ]
    return "; ".join(parts)


def _optimiser(recipe: dict[str, Any]) -> str:
    name = str(recipe.pop("optimiser", "sgd"))
    momentum, nesterov = recipe.pop("momentum"), recipe.pop("nesterov")
    if name.lower() != "sgd":
        return {"adamw": "AdamW"}.get(name, name)
    return f"SGD with {'Nesterov ' if nesterov else ''}momentum {momentum:g}"


def _schedule(recipe: dict[str, Any]) -> str:
    name, milestones = str(recipe.pop("schedule")), recipe.pop("milestones")
    if name == "multistep":
        places = " and ".join(f"{100 * place:g} %" for place in milestones)
        return f"a tenth of it after {places} of training" if places else "constant"
    known = {
        "linear": "climbing, then falling linearly",
        "cosine": "falling along a cosine",
        "warm-cosine": "climbing, then falling along a cosine",
    }
    return known.get(name, name)


def training_paragraphs(report: Mapping[str, Any]) -> list[str]:
    """What the victims trained on and were scored on, in sentences."""
    trainings = report["trainings"]
    if not trainings:
        return ["No network was trained on this release."]
    about = (
        _held_out(report["test_split"]),
        _owned(trainings),
        _sampled(report["sample"]),
        _delivered(report["delivered_as"]),
    )
    found = [_counts(trainings), *about]
    return [sentence for sentence in found if sentence]


def _counts(trainings: list[Mapping[str, Any]]) -> str:
    on_release = [one for one in trainings if one["spec"]["data"] == "protected"]
    seeds = sorted({one["spec"]["seed"] for one in trainings})
    hours = sum(one["seconds"] for one in trainings) / 3600
    twins = len(trainings) - len(on_release)
    return (
        f"{_times(len(on_release), 'training')} on this release and "
        f"{f'{twins:,}' if twins else 'none'} of clean twins, from seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}, took {_taken(hours)} in all. {_start(trainings)} was given "
        f"{_range(trainings, 'train_rows')} rows and in the end was scored on "
        f"{_range(trainings, 'test_rows')} clean test images."
    )


def _owned(trainings: list[Mapping[str, Any]]) -> str:
    """Which test images were given away with their labels."""
    rows = {one["spec"]["countermeasure"]: one["owned_rows"] for one in trainings}
    given = [f"{count:,} under {name}" for name, count in rows.items() if count]
    if not given:
        return ""
    return (
        "Of the clean test images some were given, with their labels, to whoever trains, and were "
        f"not scored: {', '.join(given)}."
    )


def _taken(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} hours"
    minutes = round(60 * hours)
    return _times(minutes, "minute") if minutes else "less than a minute"


def _start(trainings: list[Mapping[str, Any]]) -> str:
    """Whether all trained from scratch; at the beginning of a sentence."""
    if all(kind(one["spec"]["countermeasure"]) != FINETUNE for one in trainings):
        return "Each trained from scratch,"
    return f"Each trained from scratch (under {FINETUNE} from weights of elsewhere),"


def _times(many: int, what: str) -> str:
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def _range(trainings: list[Mapping[str, Any]], name: str) -> str:
    counts = [one[name] for one in trainings]
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _held_out(test_split: str | None) -> str:
    if test_split is not None:
        return ""
    return (
        "The source has no test split: the test images are the clean originals of a tenth of the "
        "released rows of each class, drawn from the secret seed, which no victim trained on."
    )


def _sampled(sample: Mapping[str, int] | None) -> str:
    if not sample:
        return ""
    return (
        f"All rows are {sample['old']:,} of the {sample['published']:,} rows published before, "
        f"drawn by the seed, and the {sample['new']:,} that this release adds."
    )


def _delivered(form: str | None) -> str:
    if not form:
        return ""
    return f"Images were changed before victims met them, as readers get them: {form}."


def left_out(report: Mapping[str, Any]) -> list[LeftOut]:
    """What was asked for and not trained, seeds taken together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for spec in report["left_out"]:
        on = "clean images" if spec["data"] == "clean" else "this release"
        if spec["rows"] == "new":
            on += ", new rows alone"
        found.setdefault((spec["countermeasure"], spec["victim"], on), []).append(str(spec["seed"]))
    return [LeftOut(*key, ", ".join(seeds)) for key, seeds in found.items()]


def release_facts(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headed lists of names and values: the release, what it was measured on and with."""
    release = report["release"]
    entries = [
        (name.replace("_", " "), _plain(value))
        for name, value in release.items()
        if name not in _APART and value not in (None, "", [], {})
    ]
    about = [("The release", entries)] if entries else []
    return [*about, *headed({"Hardware": report["hardware"], "Versions": report["versions"]})]


def headed(
    groups: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headed lists of names and values, those that are empty left out."""
    return [
        (heading, [(name, _plain(value)) for name, value in values.items()])
        for heading, values in groups.items()
        if values
    ]


def _plain(value: Any) -> str:
    """A value of JSON as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
