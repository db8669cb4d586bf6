"""Countermeasures that own a few clean images."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from misled import CPU, RECIPE, coloured, healed, net, scored, setting, tried
from torch import Tensor

from crafting.batch import PixelSplit
from crafting.nets import Net, build, compute_dtype
from crafting.training import Hooks, Recipe, train
from evaluation.countermeasures import parse
from evaluation.countermeasures.dfr import DeepFeatureReweighting
from evaluation.countermeasures.refit_head import features_of, fit_head

WITH_CLEAN_IMAGES = ["refit-head", "dfr", "renamed", "early-stop", "simclr:clean=4"]


@pytest.mark.parametrize("text", ["renamed", "refit-head", "dfr"])
def test_a_few_clean_images_heal_a_net_that_learnt_other_names(
    text: str, misled: tuple[Net, PixelSplit]
) -> None:
    victim, predictor = healed(text, misled)
    assert scored(predictor, coloured(80, 2)) > 0.9
    for name, value in misled[0].body.state_dict().items():
        assert torch.equal(victim.body.state_dict()[name], value)


@pytest.mark.parametrize("text", ["refit-head", "dfr"])
def test_the_last_layer_is_fitted_from_nothing(text: str, misled: tuple[Net, PixelSplit]) -> None:
    spoilt = copy.deepcopy(misled[0])
    torch.nn.init.constant_(spoilt.head.weight, 50.0)
    heads = [healed(text, (victim, misled[1]))[0].head.weight for victim in (misled[0], spoilt)]
    assert torch.equal(*heads)


def test_renaming_permutes_the_logits_and_nothing_else(misled: tuple[Net, PixelSplit]) -> None:
    victim, predictor = healed("renamed", misled)
    x = next(coloured(8, 4).batches(8)).x
    with torch.no_grad():
        assert torch.equal(predictor(x), victim(x)[:, [1, 2, 3, 0]])


def test_the_fitted_head_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    features = generator.normal(3, [0.1, 1, 5, 0], (60, 4)).astype(np.float32)
    labels = (features[:, 1] + generator.normal(0, 1, 60) > 3).astype(int) + (features[:, 2] > 6)
    victim = build("vgg-w16", 3, 16)
    victim.head = torch.nn.Linear(4, 3)
    fit_head(victim, torch.from_numpy(features), torch.from_numpy(labels))
    scaled = StandardScaler().fit_transform(features)
    expected = LogisticRegression(tol=1e-8).fit(scaled, labels).predict_proba(scaled)
    with torch.no_grad():
        found = victim.head(torch.from_numpy(features)).softmax(1).numpy()
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3e38])
def test_to_features_that_are_not_finite_no_layer_is_fitted(number: float) -> None:
    """Nor to those so large that their mean is not."""
    victim = build("vgg-w16", 3, 16)
    before = copy.deepcopy(victim.head.state_dict())
    features = torch.ones(60, 64)
    features[:50, 2] = number
    fit_head(victim, features, torch.arange(60) % 3)
    assert all(torch.equal(before[name], value) for name, value in victim.head.state_dict().items())


def test_deep_feature_reweighting_fits_without_penalty_by_rounds_of_lbfgs() -> None:
    """15 rounds of at most 20 iterations at a rate of 0.5, on standardised features; weights that
    separate the classes would grow for ever."""
    generator = torch.Generator().manual_seed(0)
    features = 2 + 3 * torch.randn(60, 4, generator=generator)
    labels = (features[:, 0] > 2).long()
    victim = build("vgg-w16", 2, 16)
    victim.head = torch.nn.Linear(4, 2)
    DeepFeatureReweighting()._fit(victim, features, labels)
    own = torch.nn.Linear(4, 2)
    torch.nn.init.zeros_(own.weight)
    torch.nn.init.zeros_(own.bias)
    x = (features - features.mean(0)) / features.std(0, correction=0)
    optimiser = torch.optim.LBFGS(own.parameters(), lr=0.5, max_iter=20)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(own(x), labels)
        value.backward()
        return value

    for _ in range(15):
        optimiser.step(loss)
    with torch.no_grad():
        assert torch.allclose(victim.head(features), own(x), rtol=0.02, atol=0.02)


def test_classes_that_nobody_owns_an_image_of_are_still_outputs(
    misled: tuple[Net, PixelSplit],
) -> None:
    victim = copy.deepcopy(misled[0])
    owned = coloured(40, 3)
    owned = owned.take([row for row in range(40) if row % 4 < 2])
    for text in ("refit-head", "dfr", "renamed"):
        hooks = parse(text).hooks(setting(owned))
        predictor = hooks.finish(victim, misled[1], train)  # type: ignore[arg-type]
        assert predictor(next(owned.batches(2)).x).shape == (2, 4)
        assert scored(predictor, owned) == 1


def test_features_are_those_of_evaluation_and_the_net_is_left_as_it_was(
    misled: tuple[Net, PixelSplit],
) -> None:
    victim = copy.deepcopy(misled[0]).train()
    before = copy.deepcopy(victim.state_dict())
    features, labels = features_of(victim, coloured(40, 3), CPU)
    assert victim.training
    assert all(torch.equal(before[name], value) for name, value in victim.state_dict().items())
    is_half = compute_dtype(CPU) == torch.bfloat16  # not on every processor
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, is_half):
        expected = victim.eval().features(next(coloured(40, 3).batches(40)).x)
    assert torch.equal(features, expected)
    assert labels.tolist() == [row % 4 for row in range(40)]


@pytest.mark.parametrize("rows", [200, 201])
def test_early_stopping_keeps_the_best_of_all_epochs(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 3 is best; 201 rows end in a batch of one, which is not trained on."""
    scores = iter([0.4, 0.2, 0.7, 0.7, 0.6])
    monkeypatch.setattr("evaluation.countermeasures.early_stop.accuracy", lambda *_: next(scores))
    recipe = replace(RECIPE, epochs=5)
    hooks = parse("early-stop").hooks(setting(coloured(20, 3)))
    victim, states = net(), []

    def keep(epoch: int, stats: object) -> None:
        states.append(copy.deepcopy(victim.state_dict()))

    train(victim, coloured(rows, 1), recipe, device=CPU, seed=1, hooks=hooks, on_epoch=keep)
    assert list(scores) == []
    for name, value in victim.state_dict().items():
        assert torch.equal(value, states[2][name])


def test_early_stopping_saves_a_net_from_what_spoils_it_later() -> None:
    """A hook outside turns labels around after the fifth epoch."""
    plain = parse("early-stop").hooks(setting(coloured(40, 3)))
    recipe = replace(RECIPE, epochs=8)
    finals = [_spoilt(hooks, recipe) for hooks in (Hooks(), plain)]
    assert finals[0] < 0.2
    assert finals[1] > 0.7


def _spoilt(hooks: Hooks, recipe: Recipe) -> float:
    steps = 0

    def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal steps
        steps += 1
        return hooks.augment(x, y if steps <= 5 * 4 else (y + 1) % 4)

    victim = net()
    made = replace(hooks, augment=augment)
    predictor = train(victim, coloured(200, 1), recipe, device=CPU, seed=1, hooks=made)
    return scored(predictor, coloured(80, 2))


def test_early_stopping_changes_no_training() -> None:
    """Its evaluations draw nothing and leave the running statistics alone."""
    recipe = replace(RECIPE, epochs=2)
    plain = net()
    train(plain, coloured(100, 1), recipe, device=CPU, seed=1)
    curve = iter([0.1, 0.2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.countermeasures.early_stop.accuracy", lambda *_: next(curve))
        victim, _ = tried("early-stop", coloured(100, 1), coloured(20, 3), recipe)
    for name, value in plain.state_dict().items():
        assert torch.equal(victim.state_dict()[name], value)


@pytest.mark.parametrize("text", WITH_CLEAN_IMAGES)
def test_without_clean_images_it_says_what_to_give(text: str) -> None:
    assert parse(text).clean_images > 0
    with pytest.raises(ValueError, match="was given none: give a larger labelled test split"):
        parse(text).hooks(setting())


@pytest.mark.parametrize("text", ["refit-head:images=0", "dfr:images=-1", "renamed:images=0"])
def test_clean_images_are_counted_from_one(text: str) -> None:
    with pytest.raises(ValueError, match="images is a count of at least 1"):
        parse(text)
