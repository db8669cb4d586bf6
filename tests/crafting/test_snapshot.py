"""A training that was interrupted ends as if it had not been."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest
import torch

from crafting.adversarial import LinfBall, adversarial_loss
from crafting.batch import PixelSplit
from crafting.nets import Net, build
from crafting.snapshot import Snapshot
from crafting.training import Hooks, Recipe, train

CPU = torch.device("cpu")
SHORT = Recipe(epochs=3, batch_size=16)


class Interrupted(Exception):
    pass


@dataclass
class File:
    """Keeps snapshots as bytes, and interrupts after a number of epochs."""

    interrupts_after: int
    data: bytes | None = None

    def load(self) -> Snapshot | None:
        if self.data is None:
            return None
        kept: Snapshot = torch.load(io.BytesIO(self.data))
        return kept

    def save(self, snapshot: Snapshot) -> None:
        file = io.BytesIO()
        torch.save(snapshot, file)
        self.data = file.getvalue()
        if snapshot["epochs"] == self.interrupts_after:
            raise Interrupted


def _train(split: PixelSplit, recipe: Recipe, hooks: Hooks, keeper: File | None) -> Net:
    net = build("vgg-w16", 3, 16)
    train(net, split, recipe, device=CPU, seed=0, hooks=hooks, keeper=keeper)
    return net


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_an_interrupted_training_ends_as_one_that_was_not(
    split: PixelSplit, optimiser: str, epochs: int
) -> None:
    recipe = replace(SHORT, optimiser=optimiser)  # type: ignore[arg-type]
    hooks = Hooks(loss=adversarial_loss(LinfBall(4.0), steps=1))  # draws from torch
    whole = _train(split, recipe, hooks, None).state_dict()
    file = File(interrupts_after=epochs)
    with pytest.raises(Interrupted):
        _train(split, recipe, hooks, file)
    torch.rand(7)  # what others draw in between does not matter
    resumed = _train(split, recipe, hooks, file).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_finished_training_is_not_done_again(split: PixelSplit) -> None:
    file = File(interrupts_after=0)
    whole = _train(split, SHORT, Hooks(), file).state_dict()
    again = _train(split.take([0, 1, 2, 3]), SHORT, Hooks(), file).state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.items())
