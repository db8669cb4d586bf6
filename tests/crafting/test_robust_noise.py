"""Noise that robust nets get right, and how these nets are made, against their definitions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import losses, tiny, trainings
from torch import Tensor

from crafting.adversarial import LinfBall
from crafting.batch import Batch, PixelSplit
from crafting.bilevel import BilevelMethod
from crafting.budget import Linf
from crafting.descent import image_gradient
from crafting.method import Context
from crafting.methods import min_max_min, robust_error_minimising
from crafting.methods.min_max_min import MinMaxMin, availability
from crafting.methods.robust_error_minimising import (
    RobustErrorMinimising,
    RobustNoise,
    StableErrorMinimising,
    drawn_from_torch,
    whole_pixels,
)
from crafting.moves import move
from crafting.nets import Net, build, for_crafting
from crafting.registry import configure, methods

ROBUST = ["rem", "sem", "min-max-min"]


def test_crops_move_by_whole_pixels_to_every_place() -> None:
    x = torch.rand(400, 3, 16, 24)
    torch.manual_seed(0)
    drawn = 2 * torch.rand(400, 3) - 1
    moves = whole_pixels(drawn, x)
    shifts = moves[:, :2] * torch.tensor([2.0, 3.0])
    assert torch.allclose(shifts, shifts.round(), atol=1e-5)
    assert sorted({int(s) for s in shifts[:, 0].round()}) == [-2, -1, 0, 1, 2]
    assert sorted({int(s) for s in shifts[:, 1].round()}) == [-3, -2, -1, 0, 1, 2, 3]
    moved = move(x, moves)
    for k in range(20):
        down, across = (int(s) for s in shifts[k].round())
        crop = F.pad(x[k], (3, 3, 2, 2))[:, 2 + down : 18 + down, 3 + across : 27 + across]
        crop = crop.flip(-1) if drawn[k, 2] > 0 else crop
        assert torch.allclose(moved[k], crop, atol=1e-5)


def test_the_gradient_is_pulled_back_from_where_the_adversary_stands(
    batch: Batch, in_float32: None
) -> None:
    net = for_crafting(build("vgg-w16", 3, 16, seed=0), torch.device("cpu"))
    method: RobustErrorMinimising = tiny("rem", adversary_steps=3)
    x, y = batch.x, batch.labels()
    drawn = torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moves = whole_pixels(drawn, x)
    torch.manual_seed(5)
    found = method.pulled_back(net, x, y, moves, drawn_from_torch(x), "0-0")
    torch.manual_seed(5)
    worst = method.disturbed(net, move(x, moves), y, drawn_from_torch(x), "0-0")
    assert losses(net, worst, y).mean() > losses(net, move(x, moves), y).mean()
    at_worst = image_gradient(lambda x: F.cross_entropy(net(x), y, reduction="none"), worst)
    shifts = (moves[:, :2] * 2).round().int()
    for k in range(12):  # back to where each pixel came from
        back = at_worst[k].flip(-1) if drawn[k, 2] > 0 else at_worst[k]
        down, across = shifts[k].tolist()
        wide = torch.zeros(3, 20, 20)
        wide[:, 2 + down : 18 + down, 2 + across : 18 + across] = back
        assert torch.allclose(found[k], wide[:, 2:18, 2:18], atol=1e-6, rtol=1e-3)


def test_noise_starts_anywhere_within_the_budget(net: Net, batch: Batch) -> None:
    drawn = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    method = tiny("rem", steps=0, budget=Linf(6))
    made = method.minimised([net], batch.x, batch.labels(), lambda stream, shape: drawn)
    assert torch.allclose(made, (batch.x + drawn * 6 / 255).clamp(0, 1), atol=1e-7)


def test_the_adversary_starts_where_it_is_drawn(
    net: Net, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    method: RobustErrorMinimising = tiny("rem", adversary_levels=3.0, adversary_steps=4)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(robust_error_minimising, "pgd", lambda *at, **rest: asked.update(rest))
    method.disturbed(net, batch.x, batch.labels(), lambda stream, shape: drawn, "0-0")
    assert torch.equal(asked["start"], drawn * (3 / 255))
    assert (asked["ball"], asked["steps"]) == (LinfBall(3.0), 4)


@pytest.mark.parametrize("name", ROBUST)
def test_the_surrogate_learns_from_noisy_images_at_their_worst(
    name: str, net: Net, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 8 levels of noise, whose loss is low, and 2 of an adversary on top, who raises it."""
    still = torch.zeros(12, 3)
    monkeypatch.setattr(robust_error_minimising, "whole_pixels", lambda drawn, x: still)
    method: RobustNoise = tiny(name, steps=4, training_adversary_steps=3)
    noisy, y = [], batch.labels()
    own = type(method).minimised

    def noted(self: Any, *rest: Any) -> Tensor:
        noisy.append(own(self, *rest))
        return noisy[0]

    monkeypatch.setattr(type(method), "minimised", noted)
    worst = method._worst([net], 0, batch.x, y)
    levels = (worst - noisy[0].mul(255).round() / 255) * 255
    assert 1.9 < levels.abs().max() <= 2.001
    assert 7.9 < (noisy[0] - batch.x).mul(255).abs().max() <= 8.001
    assert losses(net, noisy[0], y).mean() < losses(net, worst, y).mean()
    monkeypatch.setattr(type(method), "_worst", lambda *rest: worst)
    monkeypatch.setattr(type(method), "regulariser", lambda self, net, x: x.new_zeros(()))
    loss = method._training_loss([net], 0)(net, batch.x, y)
    assert torch.equal(loss, F.cross_entropy(net(worst), y))


def test_the_surrogate_meets_noise_in_whole_levels(
    net: Net, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust_error_minimising, "pgd", lambda net, x, y, **rest: x)
    monkeypatch.setattr(robust_error_minimising, "move", lambda x, moves: x)
    levels = tiny("rem", step_levels=0.7)._worst([net], 0, batch.x, batch.labels()) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_noisy_images_are_moved_before_their_adversary_comes(
    net: Net, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RobustNoise, "minimised", lambda self, nets, x, y, draw: x)
    monkeypatch.setattr(robust_error_minimising, "pgd", lambda net, x, y, **rest: x)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        shown = tiny("rem")._worst([net], 0, batch.x, batch.labels())
        torch.manual_seed(4)
        moves = whole_pixels(2 * torch.rand(12, 3) - 1, batch.x)
    assert torch.equal(shown, move(batch.x, moves))
    assert not torch.equal(shown, batch.x)


def test_the_rate_falls_after_two_and_four_fifths(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    tiny("sem", epochs=5, batch_size=48).fit(split, ctx)
    rates = [rate for each in seen for rate in each.rates]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_a_step_goes_against_the_sum_over_draws(net: Net, batch: Batch) -> None:
    method = tiny("min-max-min", steps=1, draws=3, step_levels=1.0)
    x, y = batch.x, batch.labels()
    table = {f"moves-0-{j}": torch.rand(12, 3) * 2 - 1 for j in range(3)}
    table["start"] = torch.zeros_like(x)
    made = method.minimised([net], x, y, lambda stream, shape: table[stream])
    moves = [whole_pixels(table[f"moves-0-{j}"], x) for j in range(3)]

    def total(x: Tensor) -> Tensor:
        moved = [move(x, each) for each in moves]
        return sum(F.cross_entropy(net(m), y, reduction="none") for m in moved)  # type: ignore[return-value]

    expected = (x - image_gradient(total, x).sign() / 255).clamp(0, 1)
    assert (made == expected).float().mean() > 0.99  # signs of sums that are nearly 0


def test_sem_draws_evenly_within_the_radius(net: Net) -> None:
    method: StableErrorMinimising = tiny("sem", adversary_levels=3.0)
    x = torch.full((8, 3, 16, 16), 0.5)
    torch.manual_seed(0)
    levels = (method.disturbed(net, x, x, drawn_from_torch(x), "0-0") - x) * 255
    assert levels.abs().max() <= 3.001
    assert levels.abs().max() > 2.95
    assert levels.mean().abs() < 0.1
    assert (levels.abs() < 1.5).float().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ROBUST)
def test_crafted_images_are_learnt_already(
    name: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method: RobustNoise = tiny(name, epochs=2)
    state = method.fit(split, ctx)
    method = replace(method, steps=6, draws=2)
    crafted = method.budget.project(method.crafter(state, ctx)(batch), batch.x)
    (net,) = method.frozen(state, ctx)
    y = batch.labels()
    assert losses(net, crafted, y).mean() < losses(net, batch.x, y).mean()


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("levels", [0.0, 8.0, math.nan])
def test_an_adversary_as_strong_as_the_noise_is_refused(name: str, levels: float) -> None:
    with pytest.raises(ValueError, match="below 8, such as 4"):
        tiny(name, adversary_levels=levels)


@pytest.mark.parametrize("name", ["sem", "min-max-min"])
def test_noise_that_meets_no_adversary_has_no_number_of_its_steps(name: str) -> None:
    with pytest.raises(ValueError, match=r"no option .adversary_steps"):
        configure(name, "quick", settings={"adversary_steps": "3"})


def test_papers_train_with_their_own_figures() -> None:
    paper = methods()["rem"].paper
    assert isinstance(paper, RobustErrorMinimising)
    assert paper.passes == 550
    assert methods()["sem"].paper.passes == 50
    assert methods()["min-max-min"].paper.passes == 50


def test_availability_is_its_formula() -> None:
    """softmax of log([6,3,1]/10) is .6, .3, .1: its differences from 1/3 have squares that sum to
    .46 - 1/3."""
    logits = torch.tensor([[6.0, 3.0, 1.0], [2.0, 2.0, 2.0]]).log()
    square = 0.46 - 1 / 3
    paper, code = availability(logits), availability(logits, "code")
    assert paper.tolist() == pytest.approx([square / 3, 0.0], abs=1e-6)
    assert code.tolist() == pytest.approx([math.sqrt(square), 0.0], abs=1e-5)


def test_the_regulariser_evens_moved_clean_images_out_and_leaves_statistics_alone(
    batch: Batch, net: Net
) -> None:
    plain = build("vgg-w16", 3, 16, seed=0).train()
    statistics = {name: value.clone() for name, value in plain.named_buffers()}
    method: MinMaxMin = tiny("min-max-min", weight=3.0)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        found = method.regulariser(plain, batch.x)
        torch.manual_seed(4)
        moved = move(batch.x, whole_pixels(2 * torch.rand(12, 3) - 1, batch.x))
    with torch.no_grad():
        expected = 3 * availability(plain.eval()(moved)).mean()
    assert not torch.equal(moved, batch.x)
    assert torch.isclose(found.detach(), expected)
    found.backward()  # type: ignore[no-untyped-call]
    assert plain.head.weight.grad is not None
    assert plain.head.weight.grad.any()
    assert all(torch.equal(statistics[n], value) for n, value in plain.named_buffers())


def test_dar_is_part_of_what_the_surrogate_descends(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(min_max_min, "move", lambda x, moves: x)
    found = []
    for weight in (0.0, 2.0):
        net = build("vgg-w16", 3, 16, seed=0)
        method: MinMaxMin = tiny("min-max-min", weight=weight, dar="code")
        torch.manual_seed(0)
        found.append(method._training_loss([net], 0)(net.train(), batch.x, batch.labels()))
    with torch.no_grad():  # of a net that has met the protected images
        expected = 2 * availability(net.eval()(batch.x), "code").mean()
    assert torch.isclose(found[1] - found[0], expected, rtol=1e-3)


def test_a_second_surrogate_is_trained_and_asked(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    one: BilevelMethod = tiny("min-max-min", epochs=1)
    two: BilevelMethod = tiny("min-max-min", epochs=1, second_surrogate="resnet10-w16")
    state = two.fit(split, ctx)
    assert [type(net.head) for net in two.frozen(state, ctx)] == [torch.nn.Linear] * 2
    assert {name.split("/")[0] for name in state} == {"surrogate-0", "surrogate-1"}
    assert two.passes == 2 * one.passes
    crafted = two.crafter(state, ctx)(batch)
    assert not torch.equal(crafted, one.crafter(state, ctx)(batch))
    with pytest.raises(ValueError, match="resnet10-w16"):
        tiny("min-max-min", second_surrogate="resnet10-w61")


def test_every_step_draws_its_own_crops_and_adversaries(net: Net, batch: Batch) -> None:
    method, asked = tiny("rem", steps=2, draws=2), []

    def draw(stream: str, shape: tuple[int, ...]) -> Tensor:
        asked.append(stream)
        return torch.zeros(12, *shape)

    method.minimised([net], batch.x, batch.labels(), draw)
    assert len(set(asked)) == len(asked) == 1 + 2 * 2 * 2


def test_each_of_two_surrogates_meets_its_own_adversary_and_evens_its_own_answers(
    net: Net, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [build(name, 3, 16, seed=0) for name in ("vgg-w16", "resnet10-w16")]
    met: list[int] = []

    def noted(net: Net, x: Tensor, y: Tensor, **rest: Any) -> Tensor:
        met.append(net.head.in_features)
        return x

    monkeypatch.setattr(robust_error_minimising, "pgd", noted)
    method: MinMaxMin = tiny("min-max-min", steps=1)
    found = [method._training_loss(nets, k)(net, batch.x, batch.labels()) for k in range(2)]
    assert met == [each.head.in_features for each in nets]
    for loss, own, other in zip(found, nets, reversed(nets), strict=True):
        loss.backward()
        assert own.head.weight.grad is not None
        assert other.head.weight.grad is None
        own.zero_grad()
