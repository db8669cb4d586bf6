from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.method import Context
from crafting.moves import move
from crafting.registry import methods


def _tap(**changes: Any) -> Any:
    tiny = {"surrogate_epochs": 4, "checkpoints": 2, "steps": 12, "step_levels": 2.0}
    return replace(methods()["tap"].quick, **(tiny | changes))


def _loss(method: Any, state: Any, ctx: Context, batch: Batch, x: Tensor) -> Tensor:
    net = method.load_last(state, ctx)
    with torch.no_grad():
        return F.cross_entropy(net(x), (batch.labels() + 1) % 3, reduction="none")


def test_images_come_to_look_like_the_next_class(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _tap()
    state = method.fit(split, ctx)
    crafted = method.crafter(state, ctx)(batch)
    before = _loss(method, state, ctx, batch, batch.x)
    assert (_loss(method, state, ctx, batch, crafted) < before).all()


def test_each_image_keeps_its_own_best_restart(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    state = _tap().fit(split, ctx)

    def losses(restarts: int) -> Tensor:
        method = _tap(steps=1, restarts=restarts)
        return _loss(method, state, ctx, batch, method.crafter(state, ctx)(batch))

    one, four = losses(1), losses(4)
    assert (four <= one).all()
    assert (four < one).any()


def test_restarts_do_not_repeat_each_other(split: PixelSplit, ctx: Context, batch: Batch) -> None:
    state = _tap().fit(split, ctx)
    for steps in (0, 1):  # where they start, and how they go on
        method = _tap(steps=steps)
        net = method.load_last(state, ctx)
        tries = [method._attempt(net, batch, batch.labels(), ctx, r) for r in range(2)]
        assert not torch.equal(*tries)


def test_moving_by_whole_pixels_shifts_and_mirrors() -> None:
    x = torch.rand(3, 2, 16, 24)
    moves = torch.tensor([[0.0, 0.0, -1.0], [1.0, 0.0, -1.0], [0.0, -1.0, 1.0]])
    moved = move(x, moves)
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[1], F.pad(x[1], (0, 0, 0, 2))[:, 2:])
    assert torch.equal(moved[2], F.pad(x[2], (3, 0))[..., :24].flip(-1))


def test_moving_by_half_a_pixel_blends_neighbours() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 4, 4] = 1
    moved = move(x, torch.tensor([[0.5, 0.0, -1.0]]))
    assert moved[0, 0, 3:5, 4].tolist() == [0.5, 0.5]
    assert moved.sum() == 1
