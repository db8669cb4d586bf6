"""Anti-Backdoor Learning: what is learnt first is set aside, and unlearnt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from shades import CPU, PLAIN, batch, fresh, rows_of, setting, shaded

from crafting.batch import PixelSplit, Split
from crafting.training import EpochStats, Recipe, cross_entropy, train
from evaluation.countermeasures.abl import AntiBackdoorLearning


def marked(count: int, seed: int) -> PixelSplit:
    """Noise with labels of no rule, but every eighth row has a white corner and is of class 0."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 200, (count, 3, 16, 16)).astype(np.uint8)
    labels = generator.integers(0, 2, count)
    pixels[::8, :, :8, :8] = 255
    labels[::8] = 0
    return PixelSplit(pixels, np.arange(count) + 1000, labels, 2)


class Phases:
    """A training with abl: what its split held in each epoch, and its losses."""

    def __init__(self, abl: AntiBackdoorLearning, split: PixelSplit, epochs: int) -> None:
        self.recipe = abl.recipe(replace(PLAIN, epochs=epochs))
        hooks = abl.hooks(setting(self.recipe))
        self.sizes: list[int] = []
        self.net = fresh()
        data = partial(self._seen, hooks.data)
        self.predictor = train(
            self.net,
            split,
            self.recipe,
            device=CPU,
            seed=0,
            hooks=replace(hooks, data=data),
            on_epoch=self._note,
        )

    def _note(self, epoch: int, stats: EpochStats) -> None:
        self.sizes.append(stats.images)
        self.learnt = copy.deepcopy(self.net.state_dict())

    def _seen(self, data: Callable[[Split], Split], split: Split) -> Split:
        self.split = data(split)
        return self.split


def test_abl_sets_aside_what_was_learnt_first_and_goes_on_without_it() -> None:
    split = marked(160, seed=3)
    phases = Phases(AntiBackdoorLearning(share=0.05, rate=0), split, epochs=15)
    assert phases.sizes == [160] * 2 + [152] * 12
    isolated = rows_of(split) - rows_of(phases.split)
    assert len(isolated) == 8
    assert isolated <= set(range(1000, 1160, 8))


def test_abl_unlearns_what_it_set_aside() -> None:
    split = marked(160, seed=3)
    kept, unlearnt = (
        Phases(AntiBackdoorLearning(share=0.05, rate=rate), split, epochs=4) for rate in (0, 0.05)
    )
    aside = split.take(sorted(rows_of(split) - rows_of(kept.split)))
    first = next(aside.batches(8))
    losses = [cross_entropy(p.net.eval(), first.x, first.labels()).item() for p in (kept, unlearnt)]
    assert losses[1] > 1.05 * losses[0]
    unlearning = unlearnt.net.state_dict()
    changed = {name for name, value in unlearnt.learnt.items() if (value != unlearning[name]).any()}
    assert "body.0.0.weight" in changed
    assert not any("running" in name for name in changed), "no statistics of these rows alone"


def test_abl_floods_the_loss_until_rows_are_isolated() -> None:
    net, (x, y) = fresh().eval(), batch()
    hooks = AntiBackdoorLearning(gamma=2.0).hooks(setting())
    split = hooks.data(shaded(24, 1))
    plain = cross_entropy(net, x, y)
    assert plain < 2
    assert hooks.loss(net, x, y).item() == pytest.approx(4 - plain.item())
    list(split.batches(8, epoch=0))
    assert hooks.loss(net, x, y).item() == pytest.approx(4 - plain.item())
    list(split.batches(8, epoch=1))
    assert hooks.loss(net, x, y).item() == pytest.approx(plain.item())


@pytest.mark.parametrize(("epochs", "learning"), [(75, 70), (20, 19), (120, 112), (1, 2)])
def test_abl_keeps_to_the_epochs_of_the_recipe(epochs: int, learning: int) -> None:
    assert AntiBackdoorLearning().recipe(Recipe(epochs)) == Recipe(learning)
