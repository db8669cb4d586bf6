"""Tiny victims that really train, on images whose class is their colour."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from crafting.batch import PixelSplit
from crafting.snapshot import Snapshot
from crafting.training import Hooks
from evaluation.countermeasures import Countermeasure, Setting
from evaluation.trial import Epoch, Outcome, TrialSpec, pair, schedule
from evaluation.verify import Splits, for_curve, run

CPU = torch.device("cpu")
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])


def coloured(count: int, seed: int, shift: int = 0) -> PixelSplit:
    """Images (3,16,16) of four colours; with a shift they are labelled as the next colour."""
    generator = np.random.default_rng(seed)
    colours = np.arange(count) % 4
    noise = generator.normal(0, 30, (count, 3, 16, 16))
    pixels = np.clip(COLOURS[colours][:, :, None, None] + noise, 0, 255).astype(np.uint8)
    return PixelSplit(pixels, np.arange(count), (colours + shift) % 4, 4)


def spec(**changes: object) -> TrialSpec:
    return replace(
        TrialSpec(victim="vgg-w16", seed=0, data="clean", preset="quick", epochs=6, net_size=16),
        **changes,  # type: ignore[arg-type]
    )


def trained(train: PixelSplit, **changes: object) -> Outcome:
    told: list[float] = []
    outcome = run(
        spec(**changes),
        Splits(train, coloured(80, 2)),
        device=CPU,
        progress=told.append,
    )
    epochs = outcome.recipe.epochs
    assert told == [epoch / epochs for epoch in range(1, epochs + 1)]
    return outcome


@pytest.fixture(scope="module")
def clean() -> Outcome:
    return trained(coloured(400, 1))


@pytest.fixture(scope="module")
def mislabelled() -> Outcome:
    return trained(coloured(400, 1, shift=1), data="protected")


@dataclass
class _Interrupting:
    """Keeps one snapshot, and interrupts after that of the second epoch."""

    kept: Snapshot | None = None

    def load(self) -> Snapshot | None:
        return self.kept

    def save(self, snapshot: Snapshot) -> None:
        self.kept = copy.deepcopy(snapshot)
        if len(snapshot["curve"]) == 2:
            raise KeyboardInterrupt


def test_an_interrupted_victim_ends_with_the_same_outcome(clean: Outcome) -> None:
    keeper, told = _Interrupting(), []
    splits = Splits(coloured(400, 1), coloured(80, 2))
    with pytest.raises(KeyboardInterrupt):
        run(spec(), splits, device=CPU, progress=told.append, keeper=keeper)
    before = keeper.kept["seconds"]  # type: ignore[index]
    outcome = run(spec(), splits, device=CPU, progress=told.append, keeper=keeper)
    assert replace(outcome, seconds=clean.seconds) == clean
    assert outcome.seconds > before
    assert told == [epoch / 6 for epoch in range(1, 7)]


def test_a_victim_learns_and_is_scored_after_every_epoch() -> None:
    outcome = trained(coloured(400, 1), epochs=12)
    assert outcome.final > 0.9
    assert len(outcome.curve) == 12
    assert outcome.curve[-1].test_accuracy == outcome.final
    assert outcome.curve[-1].loss < outcome.curve[0].loss
    assert (outcome.train_rows, outcome.test_rows, outcome.num_parameters) == (400, 80, 72788)
    assert outcome.train_accuracy > 0.9
    assert np.sum(outcome.confusion) == 80
    assert np.trace(outcome.confusion) == round(outcome.final * 80)


def test_a_victim_that_learnt_other_names_is_not_a_failed_one(mislabelled: Outcome) -> None:
    assert mislabelled.final < 0.1
    assert mislabelled.renamed > 0.6
    assert mislabelled.train_accuracy > 0.9


def test_the_peak_is_the_best_epoch(clean: Outcome) -> None:
    curve = tuple(Epoch(1.0, 0.5, accuracy) for accuracy in (0.2, 0.6, 0.4))
    outcome = replace(clean, curve=curve, final=0.4)
    assert (outcome.peak, outcome.peak_epoch) == (0.6, 2)


def test_a_peak_that_is_that_of_the_end_is_of_the_last_epoch(clean: Outcome) -> None:
    """As where a new last layer is fitted after training."""
    curve = tuple(Epoch(1.0, 0.5, accuracy) for accuracy in (0.2, 0.6, 0.4))
    outcome = replace(clean, curve=curve, final=0.7)
    assert (outcome.peak, outcome.peak_epoch) == (0.7, outcome.recipe.epochs)


def test_the_same_spec_gives_the_same_victim_and_another_seed_another(clean: Outcome) -> None:
    assert replace(trained(coloured(400, 1)), seconds=clean.seconds) == clean
    assert trained(coloured(400, 1), seed=1).curve != clean.curve


def test_training_leaves_global_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trained(coloured(40, 1), epochs=1)
    assert torch.equal(torch.rand(1), expected)


def test_a_countermeasure_changes_training() -> None:
    """Without colour, bright and dark colours are still told apart, but not as they were."""
    grey = trained(coloured(400, 1), countermeasure="grayscale")
    assert grey.final < 0.9


def test_an_outcome_survives_json(clean: Outcome) -> None:
    assert Outcome.from_json(json.loads(json.dumps(clean.to_json()))) == clean


def test_an_outcome_from_before_releases_grew_is_of_all_rows(clean: Outcome) -> None:
    values = json.loads(json.dumps(clean.to_json()))
    del values["spec"]["rows"]
    assert Outcome.from_json(values) == clean


def test_an_older_outcome_tells_how_many_clean_images_were_given(clean: Outcome) -> None:
    made = replace(clean, spec=spec(countermeasure="renamed:images=20"))
    for test_rows, given in ((80, 20), (12, 12)):
        values = replace(made, test_rows=test_rows).to_json()
        del values["owned_rows"]
        assert Outcome.from_json(json.loads(json.dumps(values))).owned_rows == given


def test_a_key_names_everything_that_decides_the_outcome() -> None:
    specs = [
        spec(),
        spec(victim="resnet10-w16"),
        spec(countermeasure="grayscale"),
        spec(seed=1),
        spec(data="protected"),
        spec(preset="paper"),
        spec(epochs=7),
        spec(rows="new"),
    ]
    keys = {made.key("rows") for made in specs} | {spec().key("other rows")}
    assert len(keys) == len(specs) + 1
    assert spec().key("rows") == spec().key("rows")


def test_a_key_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluation import trial
    from evaluation.victims import victim

    entry = victim("vgg-w16")
    changed = replace(entry, recipe_quick=replace(entry.recipe_quick, lr=0.3))
    before = spec().key("rows")
    monkeypatch.setattr(trial, "victim", lambda name: changed)
    assert spec().key("rows") != before


def test_long_trainings_go_first_and_to_whoever_is_free() -> None:
    short = [spec(seed=seed) for seed in range(4)]
    long = spec(victim="resnet18-w16", epochs=9)
    shares = schedule([*short, long], world=2)
    assert shares == [[long], short]
    assert schedule([], world=3) == [[], [], []]


def test_every_training_is_scheduled_once() -> None:
    specs = [spec(seed=seed, victim=v) for seed in range(5) for v in ("vgg-w16", "resnet10-w16")]
    shares = schedule(specs, world=3)
    everything = [made for share in shares for made in share]
    assert len(everything) == len(specs)
    assert set(everything) == set(specs)
    loads = [sum(made.cost for made in share) for share in shares]
    assert max(loads) - min(loads) <= max(made.cost for made in specs)


def test_trials_pair_protected_trainings_with_their_twins(
    clean: Outcome, mislabelled: Outcome
) -> None:
    other = replace(clean, spec=spec(seed=1), final=0.5)
    held, same = (
        pair([mislabelled, other, clean], surrogates)[0]
        for surrogates in (["resnet10-w16"], ["resnet10-w16", "vgg-w16"])
    )
    assert (held.clean, held.protected) == (clean.final, mislabelled.final)
    assert (held.renamed, held.clean_renamed) == (mislabelled.renamed, clean.renamed)
    assert (held.held_out, same.held_out) == (True, False)
    assert (held.epochs, held.rows, held.train_rows) == (6, "release", 400)
    last = [epoch.test_accuracy for epoch in mislabelled.curve[-3:]]
    assert held.drift == max(last) - min(last)
    assert held.clean_drift is not None


@pytest.mark.parametrize("other", [{"countermeasure": "grayscale"}, {"rows": "new"}])
def test_a_twin_of_another_kind_is_no_twin(
    other: dict[str, str], clean: Outcome, mislabelled: Outcome
) -> None:
    alien = replace(clean, spec=spec(**other))
    (trial,) = pair([alien, mislabelled])
    assert (trial.clean, trial.clean_peak, trial.clean_drift) == (None, None, None)
    assert trial.protected == mislabelled.final


def test_new_rows_alone_have_twins_of_their_own(clean: Outcome, mislabelled: Outcome) -> None:
    alone = [replace(o, spec=replace(o.spec, rows="new")) for o in (mislabelled, clean)]
    few = replace(alone[1], final=0.38)
    trials = pair([mislabelled, clean, alone[0], few])
    assert [(t.rows, t.clean) for t in trials] == [("release", clean.final), ("new", 0.38)]


def test_a_predictor_may_be_a_plain_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_two(x: torch.Tensor) -> torch.Tensor:
        return torch.eye(4)[torch.full((len(x),), 2)]

    class Two(Countermeasure):
        name = "two"

        def hooks(self, setting: Setting) -> Hooks:
            return Hooks(finish=lambda net, split, train: always_two)

    monkeypatch.setattr("evaluation.verify.parse", lambda text: Two())
    outcome = trained(coloured(40, 1), epochs=1)
    assert np.array_equal(np.sum(outcome.confusion, axis=0), [0, 0, 80, 0])


def test_where_the_loss_asks_for_no_class_nothing_was_right_or_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Featureless(Countermeasure):
        name = "featureless"

        def hooks(self, setting: Setting) -> Hooks:
            return Hooks(loss=lambda net, x, y: net.features(x).square().mean())  # type: ignore[operator]

    monkeypatch.setattr("evaluation.verify.parse", lambda text: Featureless())
    outcome = trained(coloured(40, 1), epochs=1)
    assert outcome.curve[0].train_accuracy is None
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_a_training_that_diverged_has_no_loss_and_can_be_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Diverging(Countermeasure):
        name = "diverging"

        def hooks(self, setting: Setting) -> Hooks:
            return Hooks(loss=lambda net, x, y: net(x).sum() * float("nan"))

    monkeypatch.setattr("evaluation.verify.parse", lambda text: Diverging())
    outcome = trained(coloured(40, 1), epochs=1)
    assert outcome.curve[0].loss is None
    json.dumps(outcome.to_json(), allow_nan=False)


class Owning(Countermeasure):
    """Keeps what it was given."""

    name = "owning"
    clean_images = 8  # type: ignore[assignment]
    given: ClassVar[list[Setting]] = []

    def hooks(self, setting: Setting) -> Hooks:
        self.given.append(setting)
        return Hooks()


def test_clean_images_that_are_owned_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.verify.parse", lambda text: Owning())
    outcome = trained(coloured(40, 1), epochs=1)
    (setting,) = Owning.given
    assert setting.owned is not None
    rows, labels = setting.owned.numbered()
    assert len(rows) == 8
    assert np.bincount(labels).tolist() == [2, 2, 2, 2]
    assert (outcome.test_rows, outcome.owned_rows) == (72, 8)


def test_what_rows_do_not_have_is_told() -> None:
    unlabelled = replace(coloured(40, 1), targets=None)
    with pytest.raises(ValueError, match="none learns from labels, and the release has no labels"):
        trained(unlabelled)
    with pytest.raises(ValueError, match="needs the clean images"):
        trained(coloured(40, 1), countermeasure="mix-percent")


def test_large_images_are_learnt_by_the_recipe_for_them() -> None:
    rates = [spec(victim="vgg16", preset="paper", net_size=size).recipe.lr for size in (32, 224)]
    assert rates == [0.1, 0.01]


def test_a_net_that_is_not_what_is_scored_has_no_curve() -> None:
    outcome = trained(coloured(40, 1), data="protected", countermeasure="simclr", epochs=2)
    assert outcome.curve == ()
    assert (outcome.peak, outcome.peak_epoch) == (outcome.final, 2)
    (made,) = pair([outcome])
    assert (made.drift, made.epochs) == (None, 2)


def test_the_curve_is_scored_on_every_class_where_rows_go_through_them_in_turn() -> None:
    """Every second row would be of every second class."""
    rows = np.arange(4000)
    pixels = np.zeros((4000, 1, 2, 2), np.uint8)
    in_turn = PixelSplit(pixels, rows, rows % 10, 10)
    drawn = for_curve(in_turn, 500)
    assert isinstance(drawn, PixelSplit)
    assert len(drawn) == 1000
    _, labels = drawn.numbered()
    assert np.bincount(labels, minlength=10).min() > 50
