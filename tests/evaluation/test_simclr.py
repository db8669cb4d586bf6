"""Contrastive training and its probe."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from misled import CPU, RECIPE, coloured, net, scored, setting, tried

from crafting.training import EpochStats, train
from evaluation.countermeasures import parse


def test_simclr_separates_colours_without_their_labels() -> None:
    split = coloured(400, 1)
    shuffled = replace(split, targets=np.random.default_rng(0).permutation(split.targets))
    recipe = replace(RECIPE, epochs=6)
    _, predictor = tried("simclr:clean=40", shuffled, coloured(40, 3), recipe)
    assert scored(predictor, coloured(80, 2)) > 0.9


def test_simclr_shows_two_views_of_every_image() -> None:
    x, y = next(coloured(6, 1).batches(6)).x, torch.full((6,), -1)
    views, labels = parse("simclr").hooks(setting()).augment(x, y)
    assert labels.tolist() == [-1] * 12
    for one, other, image in zip(views[:6], views[6:], x, strict=True):
        assert not torch.equal(one, other)
        assert not torch.equal(one, image)
        assert not torch.equal(other, image)


def test_simclr_brings_the_views_of_an_image_together() -> None:
    split = replace(coloured(40, 1), targets=None)
    made = parse("simclr:clean=8")
    hooks, losses = made.hooks(setting(coloured(8, 3))), []
    recipe = replace(made.recipe(RECIPE), epochs=8)

    def note(epoch: int, stats: EpochStats) -> None:
        losses.append(stats.loss)

    train(net(), split, recipe, device=CPU, seed=1, hooks=hooks, on_epoch=note)
    assert losses[0] == pytest.approx(math.log(79), abs=0.6)
    assert losses[-1] < losses[0] - 0.3


def test_the_probe_learns_from_the_releases_labels_unless_clean_images_are_given() -> None:
    recipe = replace(RECIPE, epochs=1)
    _, predictor = tried("simclr", coloured(200, 1, shift=1), recipe=recipe)
    assert scored(predictor, coloured(80, 2)) < 0.1
    assert scored(predictor, coloured(80, 2, shift=1)) > 0.9


def test_simclr_changes_the_body_and_its_projection_from_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = torch.nn.Linear(64, 128)
    before = made.weight.clone()
    monkeypatch.setattr("crafting.contrastive.projection_head", lambda features: made)
    victim, _ = tried("simclr", coloured(100, 1), recipe=replace(RECIPE, epochs=1))
    assert not torch.equal(victim.body[0][0].weight, net().body[0][0].weight)  # type: ignore[index]
    assert not torch.equal(made.weight, before)


def test_simclr_needs_labels_from_somewhere() -> None:
    split = replace(coloured(8, 1), targets=None)
    with pytest.raises(ValueError, match="try simclr:clean=1000"):
        tried("simclr", split)
    with pytest.raises(ValueError, match="temperature is above 0"):
        parse("simclr:temperature=0")
    with pytest.raises(ValueError, match="counts of at least 0"):
        parse("simclr:epochs=-1")


def test_simclr_has_batches_of_its_own_and_epochs_where_asked() -> None:
    own = replace(RECIPE, batch_size=512, augment=False)
    assert parse("simclr").recipe(RECIPE) == own
    assert parse("simclr:epochs=9").recipe(RECIPE) == replace(own, epochs=9)
