"""The adversary that countermeasures and robust surrogates share."""

from __future__ import annotations

import pytest
import torch
from crossing import Moves
from torch import Tensor, nn

from crafting.adversarial import Ball, L2Ball, LinfBall, adversarial_loss, in_eval_mode, pgd
from crafting.batch import PixelSplit
from crafting.nets import Net, build
from crafting.training import Recipe, cross_entropy, train

BALLS = [LinfBall(8), LinfBall(2.5), L2Ball(1.0)]


@pytest.fixture(scope="module")
def net() -> Net:
    return build("vgg-w16", 3, 16, seed=0)


@pytest.fixture
def learnt(split: PixelSplit) -> Net:
    net = build("vgg-w16", 3, 16, seed=0)
    train(net, split, Recipe(epochs=6, batch_size=12), device=torch.device("cpu"), seed=0)
    return net


def images(split: PixelSplit, count: int = 24) -> tuple[Tensor, Tensor]:
    batch = next(split.batches(count))
    return batch.x, batch.labels()


def lengths(delta: Tensor) -> Tensor:
    return delta.flatten(1).norm(dim=1)


def is_inside(ball: Ball, delta: Tensor) -> bool:
    size = lengths(delta) if isinstance(ball, L2Ball) else delta.abs().mul(255).flatten(1).amax(1)
    return bool((size <= ball.radius * (1 + 1e-4)).all())


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_the_images_are_worse_and_close(ball: Ball, learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)
    before = x.clone()
    worse = pgd(learnt, x, y, ball=ball, steps=5)
    assert cross_entropy(learnt, worse, y) > cross_entropy(learnt, x, y)
    assert is_inside(ball, worse - x)
    assert 0 <= worse.min() <= worse.max() <= 1
    assert torch.equal(x, before)
    assert not worse.requires_grad


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_it_beats_a_random_change_of_that_size(ball: Ball, learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)
    torch.manual_seed(0)
    drawn = ball.along(ball.drawn(x), ball.radius)
    worse = pgd(learnt, x, y, ball=ball, steps=5)
    random = cross_entropy(learnt, (x + drawn).clamp(0, 1), y)
    assert cross_entropy(learnt, worse, y) > 1.01 * random


def test_steps_reach_the_edge(learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)
    x = x * 0.5 + 0.25  # away from black and white, where differences are cut
    worse = pgd(learnt, x, y, ball=L2Ball(1.0), steps=10)
    assert lengths(worse - x).min() > 0.98
    levels = (pgd(learnt, x, y, ball=LinfBall(4), steps=10) - x).abs() * 255
    assert (levels > 3.99).float().mean() > 0.5


def test_a_step_may_be_given(learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)
    torch.manual_seed(0)
    start = (x + LinfBall(8).drawn(x)).clamp(0, 1)
    torch.manual_seed(0)
    worse = pgd(learnt, x, y, ball=LinfBall(8), steps=1, step=0.5)
    assert (worse - start).abs().max() * 255 == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("ball", [LinfBall(6), L2Ball(0.5)], ids=str)
def test_starts_fill_the_ball_evenly(ball: Ball) -> None:
    torch.manual_seed(0)
    drawn = ball.drawn(torch.zeros(4000, 1, 1, 2))
    assert is_inside(ball, drawn)
    assert drawn.mean((0, 1, 2)).abs().max() < 0.05 * drawn.abs().max()
    radius = 6 / 255 if isinstance(ball, LinfBall) else 0.5
    size = drawn.abs().amax((1, 2, 3)) if isinstance(ball, LinfBall) else lengths(drawn)
    assert (size < radius / 2).float().mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("ball", [LinfBall(8), L2Ball(1.0)])
def test_starts_are_where_the_images_are_and_not_waited_for(ball: Ball) -> None:
    x = torch.empty(4, 3, 8, 8, device="meta")
    with Moves() as moves:
        assert ball.drawn(x).device == x.device
    assert moves.seen
    assert moves.waited_for == 0


def test_l2_steps_are_of_one_length_whatever_the_gradient() -> None:
    gradient = torch.rand(3, 3, 4, 4) * torch.tensor([1e-6, 1.0, 1e6]).view(3, 1, 1, 1)
    steps = L2Ball(1.0).along(gradient, 0.2)
    assert lengths(steps) == pytest.approx([0.2] * 3, rel=1e-4)


def test_the_net_is_left_as_it_was(learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)
    learnt.train()
    learnt.zero_grad()
    frozen = next(module for module in learnt.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    before = {name: value.clone() for name, value in learnt.state_dict().items()}
    pgd(learnt, x, y, ball=LinfBall(4), steps=2)
    assert all(parameter.grad is None for parameter in learnt.parameters())
    assert all(torch.equal(before[name], value) for name, value in learnt.state_dict().items())
    assert learnt.training
    assert learnt.head.training
    assert not frozen.training


def test_modes_come_back_after_an_error(net: Net) -> None:
    net.train()
    with pytest.raises(RuntimeError), in_eval_mode(net):
        net(torch.zeros(1, 5, 16, 16))  # no image has 5 channels
    assert net.head.training


def test_another_loss_is_another_way_up(learnt: Net, split: PixelSplit) -> None:
    x, y = images(split)

    def likeness(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return -cross_entropy(net, x, y)

    better = pgd(learnt, x, y, ball=LinfBall(8), steps=5, loss=likeness)
    assert cross_entropy(learnt, better, y) < cross_entropy(learnt, x, y)


def test_the_start_is_drawn_from_torch(net: Net, split: PixelSplit) -> None:
    x, y = images(split)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(pgd(net, x, y, ball=LinfBall(4), steps=1))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_autocast_does_not_coarsen_the_images(net: Net, split: PixelSplit) -> None:
    x, y = images(split)
    with torch.autocast("cpu", torch.bfloat16):
        worse = pgd(net, x, y, ball=LinfBall(4), steps=2)
        loss = adversarial_loss(LinfBall(4), 2)(net, x, y)
    assert worse.dtype == torch.float32
    assert is_inside(LinfBall(4), worse - x)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.head.parameters())
    net.zero_grad()


def test_one_channel_and_two_images_do(net: Net) -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for ball in BALLS:
        worse = pgd(net, x, torch.tensor([0, 1]), ball=ball, steps=2)
        assert worse.shape == x.shape
        assert is_inside(ball, worse - x)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ball_needs_a_size(radius: float) -> None:
    with pytest.raises(ValueError, match="radius above 0"):
        LinfBall(radius)


def test_an_adversary_takes_a_step() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        adversarial_loss(LinfBall(4), 0)
