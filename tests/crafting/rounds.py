"""Fits that play rounds, at a size that takes moments, and what they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting import bilevel
from crafting.batch import Batch, Split
from crafting.method import State
from crafting.nets import Net
from crafting.registry import methods

SMALL: dict[str, Any] = {
    "batch_size": 16,
    "rounds": 3,
    "round_steps": 2,
    "stop_error": 0.0,
    "epochs": 3,
    "steps": 3,
    "draws": 1,
    "adversary_steps": 1,
    "training_adversary_steps": 1,
    "inner_epochs": 1,
    "generator_width": 4,
}


def tiny(name: str, **changes: Any) -> Any:
    quick = methods()[name].quick
    known = {option: value for option, value in SMALL.items() if option in quick.options()}
    return replace(quick, **(known | changes))


def losses(net: Net, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(net(x), y, reduction="none")


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def brought_down_after(rounds: int) -> Callable[[int, int], None]:
    """Progress of a fit that ends for good once it has played so many."""

    def tell(done: int, total: int) -> None:
        if done == rounds:
            raise KeyboardInterrupt

    return tell


def played_by(method: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the rounds that are played from now on."""
    numbers: list[int] = []
    own = type(method).play

    def noted(self: Any, turn: bilevel.Turn, *rest: Any) -> bool:
        numbers.append(turn.number)
        return bool(own(self, turn, *rest))

    monkeypatch.setattr(type(method), "play", noted)
    return numbers


@dataclass(frozen=True)
class Training:
    """What one net was taught with: batches as they were shown, the rate of each step, the seed."""

    batches: list[Batch]
    rates: list[float]
    seed: int

    @property
    def rows(self) -> list[int]:
        return [int(row) for batch in self.batches for row in batch.rows]


def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Those of all nets from now on, once they are over."""
    found: list[Training] = []
    own = bilevel.train

    def noted(net: Net, data: Split, recipe: Any, **rest: Any) -> Any:
        rates: list[float] = []
        step = rest["hooks"].step

        def counted(net: Any, optimiser: Any) -> None:
            rates.append(optimiser.param_groups[0]["lr"])
            step(net, optimiser)

        rest["hooks"] = replace(rest["hooks"], step=counted)
        result = own(net, data, recipe, **rest)
        found.append(Training(list(data.batches(recipe.batch_size, 0)), rates, rest["seed"]))
        return result

    monkeypatch.setattr(bilevel, "train", noted)
    return found
