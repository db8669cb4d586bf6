"""Each flag is raised by what deserves it, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from trials import trial

from evaluation.doubted import Doubted
from evaluation.flags import CHECKS, raised
from evaluation.gate import Gate

SOUND = [trial(), trial(seed=1)]


def ids(trials: Any = None, **changes: Any) -> list[str]:
    facts = {"gate": Gate(), "license": "mit"} | changes
    chosen = SOUND if trials is None else trials
    flags = raised(Doubted(trials=chosen, **facts))
    assert all(flag.text.endswith(".") for flag in flags)
    return [flag.id for flag in flags]


def with_one(**changes: Any) -> list[Any]:
    return [*SOUND, trial(**changes)]


def test_sound_figures_raise_no_flag() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("expected", "trials"),
    [
        ("victim-not-held-out", with_one(held_out=False)),
        ("victim-diverged", with_one(diverged=True, protected=0.1)),
        ("victim-diverged", with_one(diverged=True, protected=0.1, countermeasure="simclr")),
        ("victim-learnt-nothing", with_one(train_accuracy=0.12)),
        ("clean-twin-weak", with_one(clean=0.31, protected=0.1, peak=0.1, renamed=0.1)),
        ("clean-twin-moving", with_one(clean_drift=0.06)),
        ("no-clean-twin", with_one(clean=None, clean_drift=None)),
        ("too-few-epochs", with_one(epochs=9)),
        ("too-few-epochs", with_one(drift=0.06)),
        ("peak-above-gate", with_one(peak=0.41)),
        ("renamed-above-gate", with_one(renamed=0.41)),
        ("countermeasure-above-gate", with_one(countermeasure="grayscale", protected=0.41)),
        ("one-seed", [trial()]),
        ("not-verified", []),
        ("new-rows-alone", with_one(rows="new", clean=0.38, protected=0.37)),
    ],
)
def test_a_flag_is_raised_alone_by_its_cause(expected: str, trials: list[Any]) -> None:
    assert ids(trials) == [expected]


@pytest.mark.parametrize(
    "trials",
    [
        with_one(clean=0.33, protected=0.1, peak=0.1, renamed=0.1),
        with_one(train_accuracy=0.16),
        with_one(train_accuracy=None),
        with_one(epochs=10, drift=0.05),
        with_one(peak=0.39, renamed=0.39),
        with_one(protected=0.5, peak=0.5, renamed=0.5),
        with_one(countermeasure="grayscale", protected=0.39, peak=0.5, renamed=0.5),
        with_one(rows="new", clean=0.38, protected=0.23),
    ],
)
def test_figures_just_inside_raise_no_flag(trials: list[Any]) -> None:
    assert ids(trials) == []


def test_of_new_rows_alone_only_the_final_accuracy_counts() -> None:
    """They are few, so that whatever else would be flagged is to be expected of them."""
    worse = {"peak": 0.9, "renamed": 0.9, "epochs": 2, "drift": 0.5, "held_out": False}
    assert ids(with_one(rows="new", clean=0.25, protected=0.1, **worse)) == []
    countered = trial(rows="new", countermeasure="grayscale", protected=0.65)
    assert ids([*SOUND, countered]) == []


def test_new_rows_that_teach_nobody_anything_raise_no_flag() -> None:
    assert ids(with_one(rows="new", clean=0.1, protected=0.11)) == []


def test_new_rows_alone_are_told_in_figures() -> None:
    alone = {"rows": "new", "train_rows": 1500, "clean": 0.38}
    trials = [*SOUND, trial(protected=0.36, **alone), trial(seed=1, protected=0.37, **alone)]
    (flag,) = raised(Doubted(trials, Gate(), "mit"))
    assert flag.text == (
        "By themselves the 1,500 new rows teach resnet18 more than the gate would allow: up to "
        "37.0 %, where as many clean ones teach 38.0 %; the gate looks only at old and new rows "
        "together."
    )


@pytest.mark.parametrize(
    ("name", "expected"), [("source_is_public", "source-public"), ("typed_seed", "typed-seed")]
)
def test_what_makes_the_changes_known_is_told(name: str, expected: str) -> None:
    assert ids(**{name: True}) == [expected]
    assert ids([], **{name: True}) == ["not-verified", expected]


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(max_accuracy=0.41), ["raised-gate"]),
        (Gate(max_accuracy=0.4), []),
        (Gate(max_ratio=0.6), ["raised-gate"]),
        (Gate(max_ratio=0.5), []),
    ],
)
def test_a_gate_above_the_default_one_is_told(gate: Gate, expected: list[str]) -> None:
    assert ids(gate=gate) == expected
    assert ids([*SOUND, trial(rows="new", clean=0.2, protected=0.1)], gate=gate) == expected


def test_a_chosen_gate_is_told_beside_the_default_one() -> None:
    def told(**changes: Any) -> str:
        trials = [trial(seed=seed, **changes) for seed in (0, 1)]
        return raised(Doubted(trials, Gate(max_accuracy=0.5), "mit"))[-1].text

    assert (
        told()
        == "The chosen gate allows a resnet18 50.0 %, more than the 40.0 % of the default gate."
    )
    assert told(clean=0.1) == (
        "The chosen gate allows a resnet18 50.0 %; by the default gate nothing could be judged, "
        "since its clean twin did not beat guessing."
    )


def test_a_gate_is_compared_for_the_victim_that_the_default_one_finds_worst() -> None:
    """By its accuracy alone the other one would be worse, and that one is allowed more."""
    strong, weak = trial(clean=0.95, protected=0.45), trial(seed=1, clean=0.6, protected=0.44)
    trials = [replace(made, peak=0.3, renamed=0.3) for made in (strong, weak)]
    assert ids(trials, gate=Gate(max_accuracy=0.46)) == ["raised-gate"]


@pytest.mark.parametrize("license", [None, "", "unknown"])
def test_a_missing_licence_is_told(license: str | None) -> None:
    assert ids(license=license) == ["no-license"]


def test_small_networks_are_told_from_others_by_their_size() -> None:
    small = [trial(victim="vgg-w16"), trial(victim="resnet10-w16", seed=1)]
    assert ids(small) == ["small-networks-only"]
    assert ids([*small, trial(victim="mobilenetv2")]) == []


AT_CHANCE = {"clean": 0.099, "protected": 0.1, "peak": 0.12, "renamed": 0.11}


@pytest.mark.parametrize("countermeasure", ["deconv-at", "renamed", "refit-head"])
def test_where_the_twin_learns_nothing_no_countermeasure_undoes_anything(
    countermeasure: str,
) -> None:
    spoilt = trial(countermeasure=countermeasure, **AT_CHANCE)
    assert ids([*SOUND, spoilt]) == ["countermeasure-spoils-twin"]


def test_a_countermeasure_that_spoils_training_undoes_nothing_by_a_figure_next_to_chance() -> None:
    """A threshold of 11 % is passed by 11.5 %, of which nobody has any use."""
    spoilt = trial(countermeasure="deconv-at", clean=0.12, protected=0.115)
    assert ids([*SOUND, spoilt]) == ["countermeasure-spoils-twin"]
    useful = replace(spoilt, clean=0.35, protected=0.45)
    assert ids([*SOUND, useful]) == ["countermeasure-above-gate", "countermeasure-spoils-twin"]
    alone = replace(spoilt, victim="resnet10-w16")
    assert ids([*SOUND, alone]) == ["countermeasure-above-gate"], "held against nothing plain"


def test_where_guessing_is_always_right_the_twin_tells_nothing() -> None:
    """All test rows are of one class."""
    one_class = {"chance": 1.0, "clean": 1.0, "protected": 1.0, "peak": 1.0, "renamed": 1.0}
    assert ids([trial(**one_class), trial(seed=1, **one_class)]) == ["clean-twin-weak"]


def test_where_the_plain_twin_learns_nothing_nothing_is_above_the_gate() -> None:
    assert ids([trial(**AT_CHANCE), trial(seed=1, **AT_CHANCE)]) == ["clean-twin-weak"]


@pytest.mark.parametrize(
    "changes",
    [
        {"clean": 0.36, "protected": 0.1},  # weak, though not by half
        {"clean": None, "clean_drift": None},
        {"clean_drift": 0.2},
        {"epochs": 5},
        {"drift": None},
    ],
)
def test_what_a_countermeasure_does_to_training_is_not_told_of_plain_training(
    changes: dict[str, Any],
) -> None:
    facts = {"countermeasure": "at-linf", "protected": 0.2} | changes
    assert not {"clean-twin-weak", "no-clean-twin", "clean-twin-moving", "too-few-epochs"} & set(
        ids(with_one(**facts))
    )


def test_flags_follow_a_chosen_accuracy() -> None:
    assert ids(gate=Gate(max_accuracy=0.2)) == ["peak-above-gate", "renamed-above-gate"]


def test_a_flag_names_its_victims_once() -> None:
    trials = [trial(victim="resnet18-w16", seed=seed, epochs=2) for seed in (0, 1)]
    facts = Doubted(trials, Gate(), "mit", "paper")
    assert raised(facts)[0].text.startswith("resnet18-w16 trained for fewer")


def told(expected: str, *changes: dict[str, Any]) -> str:
    """What the flag says of victims that differ so."""
    names = ("resnet18", "vgg16", "densenet121")
    trials = [trial(victim=name, **each) for name, each in zip(names, changes, strict=False)]
    flags = {flag.id: flag.text for flag in raised(Doubted(trials, Gate(), "mit"))}
    return flags[expected]


@pytest.mark.parametrize(
    ("expected", "changes", "one", "three"),
    [
        (
            "clean-twin-moving",
            {"clean_drift": 0.2},
            "resnet18 was still moving at the end: its accuracy on this release is compared",
            "resnet18, vgg16 and densenet121 were still moving at the end: their accuracy on",
        ),
        (
            "renamed-above-gate",
            {"renamed": 0.6},
            "With its outputs renamed one to one resnet18 scored above what the gate allows: it",
            "With their outputs renamed one to one resnet18, vgg16 and densenet121 scored above "
            "what the gate allows: they learnt",
        ),
        (
            "no-clean-twin",
            {"clean": None},
            "No clean twin of resnet18 was trained: whether it would have",
            "resnet18, vgg16 and densenet121 was trained: whether they would have",
        ),
        (
            "victim-not-held-out",
            {"held_out": False},
            "the architecture of resnet18, which flatters its figures;",
            "of resnet18, vgg16 and densenet121, which flatters their figures;",
        ),
    ],
)
def test_flags_of_several_victims_are_sentences(
    expected: str, changes: dict[str, Any], one: str, three: str
) -> None:
    assert one in told(expected, changes)
    assert three in told(expected, *[changes] * 3)


def test_few_epochs_and_a_moving_end_are_told_apart() -> None:
    ends = ": longer training may find more."
    few, moving = {"epochs": 9}, {"drift": 0.2}
    assert told("too-few-epochs", few) == f"resnet18 trained for fewer than 10 epochs{ends}"
    moved = "accuracy of {} was still moving at the end"
    assert told("too-few-epochs", moving) == f"The {moved.format('resnet18')}{ends}"
    assert told("too-few-epochs", few, moving) == (
        f"resnet18 trained for fewer than 10 epochs, and the {moved.format('vgg16')}{ends}"
    )


def test_ids_are_for_machines() -> None:
    assert all(name == name.lower() and " " not in name for name in CHECKS)


def countered(name: str, **changes: Any) -> list[Any]:
    return with_one(countermeasure=name, **changes)


def test_labels_that_few_clean_images_swap_back_are_told() -> None:
    for name in ("renamed", "refit-head:images=50"):
        assert "labels-swapped-back" in ids(countered(name, protected=0.5))
        assert "labels-swapped-back" not in ids(countered(name, protected=0.3))
    assert "labels-swapped-back" not in ids(countered("jpeg", protected=0.5))


@pytest.mark.parametrize("name", ["renamed", "refit-head"])
def test_where_little_is_learnt_few_clean_images_swap_nothing_back(name: str) -> None:
    """A new last layer on features of chance passes what the gate then allows."""
    plain = [trial(seed=seed, clean=0.3, protected=0.1) for seed in (0, 1)]
    assert "labels-swapped-back" not in ids([*plain, trial(countermeasure=name, protected=0.5)])
    assert "labels-swapped-back" not in ids(countered(name, clean=0.3, protected=0.25))


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["renamed"], "(renamed): it had learnt the classes all the same."),
        (["refit-head"], "(refit-head): with a new last layer its features are of use."),
        (
            ["renamed", "refit-head"],
            "(renamed and refit-head): it had learnt the classes all the same and with a new last "
            "layer its features are of use.",
        ),
    ],
)
def test_what_few_clean_images_undo_is_told_for_what_it_shows(names: list[str], shown: str) -> None:
    tried = [trial(countermeasure=name, protected=0.5) for name in names]
    found = {f.id: f.text for f in raised(Doubted([*SOUND, *tried], Gate(), "mit"))}
    assert found["labels-swapped-back"].endswith(shown)


def test_a_countermeasure_that_spoils_clean_training_is_told() -> None:
    assert "countermeasure-spoils-twin" in ids(countered("dpsgd", clean=0.35, protected=0.1))
    assert "countermeasure-spoils-twin" not in ids(countered("dpsgd", clean=0.45, protected=0.1))
    # The same victim from the same seed is what it is held against.
    other = [*SOUND, trial(countermeasure="dpsgd", clean=0.35, victim="resnet10-w16")]
    assert "countermeasure-spoils-twin" not in ids(other)


def test_protected_rows_that_add_to_clean_ones_are_told() -> None:
    teaching = countered("mix-percent", clean=0.5, protected=0.55)
    assert "mixed-rows-teach" in ids(teaching)
    assert "mixed-rows-teach" not in ids(countered("mix-percent", clean=0.5, protected=0.51))


def test_circumstances_are_no_countermeasures() -> None:
    """Where half of the rows are clean, nothing is expected of the other half."""
    assert "countermeasure-above-gate" not in ids(countered("mix-percent", protected=0.69))
    assert "countermeasure-above-gate" in ids(countered("jpeg", protected=0.69))


def test_seeds_that_differ_by_more_than_the_margin_are_told() -> None:
    near = [trial(protected=0.30), trial(seed=1, protected=0.38)]
    far = [trial(protected=0.10), trial(seed=1, protected=0.18)]
    assert "spread-above-margin" in ids(near)
    assert "spread-above-margin" not in ids(far)


def test_seeds_of_a_victim_that_the_gate_does_not_look_at_decide_nothing() -> None:
    known = {"victim": "vgg16", "held_out": False}
    near = [trial(protected=0.30, **known), trial(seed=1, protected=0.38, **known)]
    assert "spread-above-margin" in ids(near)
    assert "spread-above-margin" not in ids([*SOUND, *near])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, "the gate looks at the others."),
        ({"countermeasure": "cutmix"}, "the gate looks at no victim that was held out."),
        ({"rows": "new"}, "the gate looks at no victim that was held out."),
        ({"held_out": False}, "the gate looks at no victim that was held out."),
    ],
)
def test_whether_the_gate_looks_at_others_is_told(other: dict[str, Any], says: str) -> None:
    known = [trial(victim="vgg16", held_out=False), trial(seed=1, **other)]
    (flag,) = (f for f in raised(Doubted(known, Gate(), "mit")) if f.id == "victim-not-held-out")
    assert flag.text.endswith(says)


def test_a_release_without_labels_is_to_be_learnt_from_without_labels() -> None:
    contrasted = [trial(countermeasure="simclr:clean=100")]
    assert "unlabelled-not-contrasted" in ids(labelled=False)
    assert "unlabelled-not-contrasted" not in ids(contrasted, labelled=False)
    assert "unlabelled-not-contrasted" not in ids()


def test_what_there_was_no_time_for_is_counted() -> None:
    (flag,) = raised(Doubted(SOUND, Gate(), "mit", left_out=7))
    assert flag.id == "left-out"
    assert "7 of the trainings" in flag.text


def test_without_a_clean_twin_nothing_is_above_the_gate() -> None:
    alone = [trial(seed=seed, clean=None, clean_drift=None, protected=0.9) for seed in (0, 1)]
    assert ids(alone) == ["no-clean-twin"]
