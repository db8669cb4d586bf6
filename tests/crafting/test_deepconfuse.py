"""deepconfuse against its definition: noise of a generator, and the derivative of a pseudo-step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rounds
import torch
import torch.nn.functional as F
from rounds import same
from torch import Tensor, nn
from torch.optim import Adam

from crafting.batch import Batch, PixelSplit
from crafting.bilevel import Turn
from crafting.budget import Linf
from crafting.method import Context
from crafting.methods.deepconfuse import Follower, Generator, disturbed
from crafting.nets import build
from crafting.runner import protect

BOUND, LR = 8 / 255, 0.5


def tiny(**changes: Any) -> Any:
    return rounds.tiny("deepconfuse", **({"rounds": 2} | changes))


@pytest.fixture
def follower() -> Follower:
    """In float64, with a classifier that normalises by the batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.AdaptiveAvgPool2d(2)]
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).double()
        generator = Generator(4, 1, 8).double()
    return Follower(net, generator, Adam(generator.parameters(), 1e-4), BOUND, LR)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    x = torch.rand(6, 3, 8, 8, generator=drawn, dtype=torch.float64)
    return x * 0.8 + 0.1, torch.arange(6) % 3  # the noise never leaves [0,1]


def plainly(follower: Follower, x: Tensor, y: Tensor) -> float:
    """The generator's loss by a pseudo-step that an optimiser takes on a copy of the net."""
    net = copy.deepcopy(follower.net).train()
    optimiser = torch.optim.SGD(net.parameters(), LR)
    with torch.no_grad():
        noisy = x + BOUND * follower.generator(x)
    torch.autograd.backward(F.cross_entropy(net(noisy), y))
    optimiser.step()
    return -F.cross_entropy(net(x), y).item()


def test_the_loss_is_that_after_a_step_of_sgd(
    follower: Follower, images: tuple[Tensor, Tensor]
) -> None:
    before = copy.deepcopy(follower.net.state_dict())
    loss = follower.loss(*images).item()
    assert loss == pytest.approx(plainly(follower, *images), rel=1e-12)
    assert loss != pytest.approx(plainly(follower, *images) * 1.001, rel=1e-6)
    assert same(follower.net.state_dict(), before)  # its BatchNorm has seen nothing, either


def test_the_gradient_goes_through_the_pseudo_step(
    follower: Follower, images: tuple[Tensor, Tensor]
) -> None:
    parameters = list(follower.generator.parameters())
    gradients = torch.autograd.grad(follower.loss(*images), parameters)
    assert sum(float(g.abs().sum()) for g in gradients) > 1e-6
    drawn = torch.Generator().manual_seed(2)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        along = torch.randn(parameter.shape, generator=drawn, dtype=torch.float64)
        ends = []
        for h in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(h * along)
            ends.append(plainly(follower, *images))
            with torch.no_grad():
                parameter.sub_(h * along)
        slope = (ends[0] - ends[1]) / 2e-6
        assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_an_update_of_the_generator_lowers_its_loss(
    follower: Follower, images: tuple[Tensor, Tensor], ctx: Context
) -> None:
    losses = []
    for _ in range(4):
        losses.append(follower.loss(*images).item())
        follower.step(*images, ctx)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_ranks_share_their_gradients(
    follower: Follower,
    images: tuple[Tensor, Tensor],
    ctx: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two ranks that have the same gradient take the step that one alone would."""
    alone = copy.deepcopy(follower.generator)
    Follower(follower.net, alone, Adam(alone.parameters(), 1e-4), BOUND, LR).step(*images, ctx)
    monkeypatch.setattr("crafting.methods.deepconfuse.over_ranks", lambda value, ctx: 2 * value)
    follower.step(*images, replace(ctx, world=2))
    assert same(follower.generator.state_dict(), alone.state_dict())
    gradient = next(follower.generator.parameters()).grad
    expected = next(alone.parameters()).grad
    assert gradient is not None
    assert expected is not None
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("levels", [1, 8])
def test_noise_is_the_bound_times_a_tanh(
    levels: int, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = tiny(budget=Linf(levels), rounds=1)
    state = method.fit(split, ctx)
    state = {k: v * 50 if "last" in k else v for k, v in state.items()}  # far into the tanh
    crafted = method.crafter(state, ctx)(batch)
    noise = (crafted - batch.x) * 255
    assert noise.abs().max() <= levels + 1e-4
    assert noise.abs().max() > 0.9 * levels
    generator = Generator(4, method.generator_depth, 16)
    generator.load_state_dict({k.removeprefix("generator/"): v for k, v in state.items()})
    painted = generator._painted(batch.x).tanh()
    assert torch.allclose(crafted, (batch.x + painted * levels / 255).clamp(0, 1), atol=1e-6)


def test_the_state_is_the_generator_alone(split: PixelSplit, kept: Context) -> None:
    method = tiny()
    state = method.fit(split, kept)
    assert {name.split("/")[0] for name in state} == {"generator"}
    first = replace(method, rounds=0).fit(split, replace(kept, scratch=None))
    assert first.keys() == state.keys()
    assert not any(torch.equal(first[name], state[name]) for name in state if "weight" in name)


def test_adam_goes_on_from_round_to_round(split: PixelSplit, kept: Context) -> None:
    method = tiny(rounds=3, inner_epochs=2)
    method.fit(split, kept)
    adam = torch.load(method.last_round(kept) / "adam.pt", weights_only=True)
    assert {int(each["step"]) for each in adam["state"].values()} == {3 * 2 * 3}  # 3 batches


def test_a_round_trains_a_new_classifier_on_noise_that_stays(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images are those that the round before's generator makes, while the new one moves."""
    method, starts, shown = tiny(inner_epochs=2), [], []
    train = type(method).train

    def noted(self: Any, turn: Turn, k: int, data: Any, hooks: Any, *rest: Any) -> None:
        starts.append(copy.deepcopy(turn.nets[0].state_dict()))
        old = method._generator(turn.before, kept)

        def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            noisy, y = hooks.augment(x, y)
            with torch.no_grad():
                shown.append(torch.equal(noisy, disturbed(old, x, BOUND)))
            return noisy, y

        train(self, turn, k, data, replace(hooks, augment=augment), *rest)

    monkeypatch.setattr(type(method), "train", noted)
    method.fit(split, kept)
    assert len(shown) == 2 * 2 * 3
    assert all(shown)
    name = "head.weight"
    fresh = [
        build("vgg-w16", 3, 16, int(kept.shared(f"deepconfuse-{r}").integers(2**31)))
        for r in (0, 1)
    ]
    for at, net in zip((0, 2), fresh, strict=True):
        assert same(starts[at], net.state_dict())
    assert not torch.equal(starts[1][name], starts[0][name])  # the second epoch goes on


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 9, 31), (3, 40, 17), (3, 5, 5)])
def test_images_of_any_size_get_noise_of_theirs(
    shape: tuple[int, int, int], split: PixelSplit, ctx: Context
) -> None:
    method = tiny(rounds=0)
    x = torch.rand(4, *shape) * 0.8 + 0.1
    batch = Batch(torch.arange(4), x, None)
    crafter = method.crafter(method.fit(split, ctx), ctx)
    noise = (crafter(batch) - x) * 255
    assert noise.abs().max() <= 8 + 1e-4
    assert noise.flatten(1).std(1).min() > 0.01
    assert protect(crafter, method.budget, batch).shape == x.shape


def test_one_channel_gets_the_mean_of_three() -> None:
    generator = Generator(4, 2, 16)
    x = torch.rand(4, 1, 16, 16)
    colour = generator(x.expand(-1, 3, -1, -1))
    assert torch.allclose(generator(x), colour.mean(1, keepdim=True), atol=1e-6)


def test_noise_is_resized_there_and_back() -> None:
    generator = Generator(4, 2, 16)
    x = torch.rand(2, 3, 9, 31)
    small = F.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    expected = F.interpolate(generator(small), (9, 31), mode="bilinear", antialias=True)
    assert torch.allclose(generator(x), expected, atol=1e-5)


@pytest.mark.parametrize("size", [7, 16])
def test_a_generator_paints_at_any_size_of_its_own(size: int) -> None:
    x = torch.rand(2, 3, size, size)
    assert Generator(4, 3, size)(x).shape == x.shape


def test_images_of_several_sizes_can_be_learnt_from(
    toy_split: Callable[..., PixelSplit], context: Callable[..., Context]
) -> None:
    split = toy_split(size=20)
    method = tiny(rounds=1)
    assert method.fit(split, context(split))


@pytest.mark.parametrize("change", [{"generator_width": 0}, {"generator_depth": -1}])
def test_a_generator_needs_channels(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        tiny(**change)


def test_a_classifier_learns_as_pseudo_steps_do(ctx: Context, tmp_path: Path) -> None:
    """At the same rate, without momentum and decay."""
    method = tiny(lr=0.3)
    turn = Turn(1, method._built(ctx), [Adam([torch.zeros(1)])], tmp_path, tmp_path, True)
    method._reset(turn, ctx)
    (net,), (optimiser,) = turn.nets, turn.optimisers
    for _ in range(2):
        before = net.head.weight.detach().clone()
        net.head.weight.grad = torch.ones_like(before)
        optimiser.step()
        assert torch.allclose(net.head.weight, before - 0.3)
