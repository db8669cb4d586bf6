"""Gradient alignment against plain transcriptions of its equations, differentiated twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from crafting.batch import Batch, PixelSplit
from crafting.budget import Linf
from crafting.descent import Walk, image_gradient
from crafting.method import Context, State
from crafting.methods.alignment import _length
from crafting.moves import move
from crafting.nets import ARCHITECTURES, Folding, Net, build, fold
from crafting.registry import configure, methods
from crafting.runner import protect
from crafting.surrogate import SurrogateMethod, inside
from crafting.tangent import Slope, Surroundings, mean_gradient, norm, reverse_cross_entropy, unit

CPU = torch.device("cpu")
both = pytest.mark.parametrize("name", ["alignment", "alignment-online"])


def _method(name: str, **changes: Any) -> Any:
    tiny = {"surrogate_epochs": 4, "checkpoints": 1, "steps": 8}
    return replace(methods()[name].quick, **(tiny | changes))


@pytest.fixture
def net() -> Net:
    """With BatchNorm that folding has to change everything for."""
    made = build("resnet10-w16", 3, 16, seed=1).eval()
    _stir(made)
    return made


def _stir(net: Net) -> None:
    torch.manual_seed(2)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()


def _random_direction(net: Net) -> State:
    torch.manual_seed(3)
    return unit({name: torch.randn_like(p) for name, p in net.named_parameters()})


def _gradients(net: Net, x: Tensor, y: Tensor) -> list[Tensor]:
    loss = F.cross_entropy(net(x), y)
    return list(torch.autograd.grad(loss, list(net.parameters()), create_graph=True))


def _alignment(net: Net, target: State, x: Tensor, y: Tensor) -> Tensor:
    """A of Eq. 3, differentiable with respect to x."""
    gradients = _gradients(net, x, y)
    product = sum((t * g).sum() for t, g in zip(target.values(), gradients, strict=True))
    length = sum(g.square().sum() for g in gradients) ** 0.5
    return 1 - product / (length * norm(target))


def _agree(ours: Tensor, theirs: Tensor) -> None:
    """The same signs but where a gradient is next to nothing, and nearly the same direction."""
    away = theirs.abs() > 1e-3 * theirs.abs().mean()
    assert away.float().mean() > 0.95
    assert torch.equal(ours.sign()[away], theirs.sign()[away])
    assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9999


def test_the_exact_slope_climbs_as_double_backward_does(
    net: Net, batch: Batch, in_float32: None
) -> None:
    direction, y = _random_direction(net), batch.labels()
    x = batch.x.clone().requires_grad_()
    product = sum(
        (v * g).sum() for v, g in zip(direction.values(), _gradients(net, x, y), strict=True)
    )
    (theirs,) = torch.autograd.grad(product, x)
    ours = Surroundings(net, CPU).slope(direction, "jvp", 0)
    _agree(image_gradient(lambda x: ours(x, y), batch.x), theirs)


def test_a_difference_looks_as_far_as_it_is_told(net: Net, batch: Batch, in_float32: None) -> None:
    direction, y, losses = _random_direction(net), batch.labels(), []
    for distance in (3.0, -3.0):
        moved = copy.deepcopy(net)
        for name, weights in moved.named_parameters():
            weights.data += distance * direction[name]
        losses.append(F.cross_entropy(moved(batch.x), y, reduction="none"))
    seen = Surroundings(net, CPU).slope(direction, "difference", 3.0)(batch.x, y)
    assert torch.allclose(seen, (losses[0] - losses[1]) / 6, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.endswith("-w16")])
def test_folding_by_arithmetic_is_folding(name: str) -> None:
    net = build(name, 3, 16, seed=1).eval()
    _stir(net)
    ours = Folding(net).weights(dict(net.named_parameters()))
    theirs = dict(fold(net.body).named_parameters(prefix="body"))
    assert set(ours) == set(theirs) | {"head.weight", "head.bias"}
    for key, value in theirs.items():
        assert torch.allclose(ours[key], value, rtol=1e-4, atol=1e-6)


def test_a_batch_descends_the_alignment_of_its_whole_gradient(
    split: PixelSplit, ctx: Context, batch: Batch, in_float32: None
) -> None:
    method = _method("alignment", direction="jvp", surrogate="resnet10-w16")
    state = method.fit(split, ctx)
    net, y = method.load_unfolded(state, ctx), batch.labels()
    target = inside(state, "target")
    x = batch.x.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(_alignment(net, target, x, y), x)
    course = method._slopes(net, unit(target), ctx)(batch.x, y)
    _agree(image_gradient(lambda x: -course(x, y), batch.x), theirs)


@both
@pytest.mark.parametrize("direction", ["jvp", "difference"])
def test_crafting_aligns_gradients(
    name: str, direction: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _method(name, direction=direction, steps=12, step_levels=3.0)
    state = method.fit(split, ctx)
    net, target = method.load_unfolded(state, ctx), inside(state, "target")
    crafted = method.crafter(state, ctx)(batch)
    before, after = (_alignment(net, target, x, batch.labels()) for x in (batch.x, crafted))
    assert after < before - 0.05


def test_the_target_is_the_gradient_of_the_reverse_cross_entropy_on_clean_rows(
    split: PixelSplit, ctx: Context, in_float32: None
) -> None:
    method = _method("alignment")
    state = method.fit(split, ctx)
    net, whole = method.load_unfolded(state, ctx), next(split.batches(48))
    own = net(whole.x).double().softmax(1).gather(1, whole.labels()[:, None])
    expected = torch.autograd.grad(-torch.log1p(-own).sum(), list(net.parameters()))
    found = inside(state, "target")
    assert list(found) == [name for name, _ in net.named_parameters()]
    for ours, theirs in zip(found.values(), expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_reverse_cross_entropy_is_exact_and_stays_finite() -> None:
    torch.manual_seed(0)
    logits, y = 6 * torch.randn(200, 5, dtype=torch.float64), torch.arange(200) % 5
    own = logits.softmax(1).gather(1, y[:, None]).squeeze(1)
    assert torch.allclose(reverse_cross_entropy(logits, y), -torch.log1p(-own), rtol=1e-6)
    certain = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = reverse_cross_entropy(certain, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss.sum(), certain)
    assert torch.isfinite(loss).all()
    assert gradient[0, 0] == 1  # a clamped -log(1 - p) would say 0


def test_a_row_online_does_not_depend_on_sixty_three_others(
    toy_split: Callable[..., PixelSplit], context: Callable[..., Context]
) -> None:
    split = toy_split(rows=64)
    ctx = context(split)
    for direction in ("jvp", "difference"):
        method = _method("alignment-online", direction=direction, steps=4, restarts=2)
        crafter = method.crafter(method.fit(split, ctx), ctx)
        together = protect(crafter, method.budget, next(split.batches(64)))
        alone = protect(crafter, method.budget, next(split.take([41]).batches(1)))
        assert torch.equal(alone[0], together[41])


def test_rows_aligned_together_depend_on_each_other(split: PixelSplit, ctx: Context) -> None:
    method = _method("alignment")
    crafter = method.crafter(method.fit(split, ctx), ctx)
    together, apart = (
        torch.cat([protect(crafter, method.budget, b) for b in split.batches(size)])
        for size in (48, 24)
    )
    assert not torch.equal(together, apart)


def test_each_row_online_keeps_its_own_best_restart(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    one, four = (_method("alignment-online", steps=1, restarts=r) for r in (1, 4))
    state = one.fit(split, ctx)
    course = one._slopes(one.load_unfolded(state, ctx), unit(inside(state, "target")), ctx)
    climb, y = course(batch.x, batch.labels()), batch.labels()
    first, best = (climb(m.crafter(state, ctx)(batch), y) for m in (one, four))
    assert (best >= first).all()
    assert (best > first).any()


def test_a_batch_keeps_its_best_restart(split: PixelSplit, ctx: Context, batch: Batch) -> None:
    method = _method("alignment", steps=1, restarts=4)
    state = method.fit(split, ctx)
    net, target = method.load_unfolded(state, ctx), inside(state, "target")
    slopes = method._slopes(net, unit(target), ctx)
    tries = [method._attempt(slopes, batch, ctx, r) for r in range(4)]
    aligned = [_alignment(net, target, x, batch.labels()).item() for x in tries]
    kept = method.crafter(state, ctx)(batch)
    assert len(set(aligned)) == 4
    assert torch.equal(kept, tries[int(np.argmin(aligned))])


def test_a_step_is_adams_on_signs(batch: Batch) -> None:
    method = _method("alignment-online", steps=16, budget=Linf(255), step_levels=2.0)
    signs = torch.randn(16, *batch.x.shape).sign()
    middle = torch.full_like(batch.x, 0.5)
    walk = Walk(middle, method.budget, method.step_levels)
    ours = walk.descend_decaying(middle, lambda x, t: signs[t], 16, method.momentum)
    x = middle.clone()
    adam = Adam([x], lr=2 / 255)
    for t in range(16):
        adam.param_groups[0]["lr"] = 2 / 255 * 0.1 ** sum(t >= at for at in (6, 10, 14))
        x.grad = signs[t]
        adam.step()
    assert torch.allclose(ours, x, atol=1e-6)


@pytest.mark.parametrize("term", ["l2", "tv", "ssim"])
def test_a_regulariser_lowers_what_it_regularises(
    term: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    slowly = {"steps": 24, "step_levels": 1.0}
    plain = _method("alignment-online", **slowly)
    held = replace(plain, **{term: 5.0})
    state = plain.fit(split, ctx)
    without, with_it = (
        _cost(term, m.crafter(state, ctx)(batch), batch.x).mean() for m in (plain, held)
    )
    assert with_it < 0.9 * without


def _cost(term: str, x: Tensor, clean: Tensor) -> Tensor:
    if term == "l2":
        return _length(x, clean)
    if term == "tv":
        delta = x - clean
        return delta.diff(dim=2).abs().mean() + delta.diff(dim=3).abs().mean()
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    likeness = similarity(x, clean, data_range=1.0, reduction="none")
    assert isinstance(likeness, Tensor)
    return 1 - likeness


def test_similarity_takes_images_smaller_than_its_window(split: PixelSplit, ctx: Context) -> None:
    method = _method("alignment-online", ssim=1.0, steps=2)
    crafter = method.crafter(method.fit(split, ctx), replace(ctx, shape=None))
    small = Batch(torch.arange(4), torch.rand(4, 3, 5, 20), torch.tensor([0, 1, 2, 0]))
    assert torch.isfinite(crafter(small)).all()


def test_a_share_is_trained_on_for_as_many_steps(split: PixelSplit, ctx: Context) -> None:
    for method, given in (
        (methods()["sep-fa"].quick, {"fit_share": 0.25}),
        (_method("alignment", fit_share=0.5), {"fit_share": 0.5}),
    ):
        told: list[tuple[int, int]] = []
        told_to = replace(ctx, progress=lambda *at, told=told: told.append(at), **given)
        replace(method, surrogate_epochs=2, checkpoints=2).fit(split, told_to)
        assert told == [(epoch, 8) for epoch in range(1, 9)]


def test_checkpoints_stay_equidistant_on_a_share(
    split: PixelSplit, ctx: Context, in_float32: None
) -> None:
    method = replace(methods()["sep-fa"].quick, surrogate_epochs=2, checkpoints=2)
    assert isinstance(method, SurrogateMethod)
    on_share = method.fit(split, replace(ctx, fit_share=0.5))
    in_full = replace(method, surrogate_epochs=4).fit(split, ctx)
    for name, value in in_full.items():
        assert torch.equal(on_share[name], value)


def test_shares_are_of_seeded_rows(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def noted(net: Net, data: PixelSplit, ctx: Context) -> State:
        seen.append([int(row) for batch in data.batches(48) for row in batch.rows])
        return {}

    monkeypatch.setattr("crafting.methods.alignment.summed_gradient", noted)
    method = _method("alignment", surrogate_epochs=1, fit_share=0.5, gradient_share=0.25)
    for seed in (b"one", b"one", b"two"):
        method.fit(split, replace(ctx, seed=seed))
    replace(method, gradient_share=1.0).fit(split, replace(ctx, seed=b"one"))
    assert [len(rows) for rows in seen] == [6, 6, 6, 24]
    assert seen[0] == seen[1] != seen[2]
    assert set(seen[0]) < set(seen[3])


def test_states_of_other_shares_are_others() -> None:
    keys = [
        str(_method("alignment", **changes).fit_key())
        for changes in ({}, {"fit_share": 0.5}, {"gradient_share": 0.5})
    ]
    assert len(set(keys)) == 3
    assert _method("alignment-online").fit_key() == _method("alignment", steps=3).fit_key()


@pytest.mark.parametrize(("option", "value"), [("fit_share", "0"), ("gradient_share", "1.5")])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is a share above 0 and at most 1"):
        configure("alignment", "quick", settings={option: value})


@pytest.mark.parametrize(("option", "value"), [("difference_step", "0"), ("momentum", "1")])
def test_what_would_divide_by_nothing_is_refused(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"set {option}=0"):
        configure("alignment-online", "quick", settings={option: value})


@pytest.mark.parametrize("term", ["l2", "tv", "ssim"])
def test_a_negative_regulariser_is_refused(term: str) -> None:
    with pytest.raises(ValueError, match=f"{term} is a weight of at least 0"):
        configure("alignment", "quick", settings={term: "-1"})


def test_the_mean_gradient_is_that_of_the_mean_loss(net: Net, batch: Batch) -> None:
    found = mean_gradient(net, batch.x, batch.labels())
    for ours, theirs in zip(found.values(), _gradients(net, batch.x, batch.labels()), strict=True):
        assert torch.allclose(ours, theirs)


def test_the_way_leads_from_noise_through_fresh_moves_by_adams_steps(
    ctx: Context, batch: Batch
) -> None:
    """With a slope that says which moved images and labels it was made for."""
    method, eps = _method("alignment", step_levels=2.0), 8 / 255

    def slopes(seen: Tensor, y: Tensor) -> Slope:
        return lambda x, y: (x * (seen - 0.4) * (2 * y - 1).view(-1, 1, 1, 1)).flatten(1).sum(1)

    ours = method._attempt(slopes, batch, ctx, 1)
    noise = ctx.noise(batch.rows, "alignment-start-1", (3, 16, 16))
    moves = ctx.noise(batch.rows, "alignment-moves-1", (8, 3), "uniform")
    x = torch.min(torch.max(batch.x + noise * eps, batch.x - eps), batch.x + eps).clamp(0, 1)
    mean = torch.zeros_like(x)
    for t in range(8):
        at = x.clone().requires_grad_()
        moved, y = move(at, moves[:, t]), (2 * batch.labels() - 1).view(-1, 1, 1, 1)
        (up,) = torch.autograd.grad((moved * (moved.detach() - 0.4) * y).sum(), at)
        mean = 0.9 * mean - 0.1 * up.sign()
        rate = 2 / 255 * 0.1 ** sum(t >= at for at in (3, 5, 7))
        x = x - rate * mean / (1 - 0.9 ** (t + 1))
        x = torch.min(torch.max(x, batch.x - eps), batch.x + eps).clamp(0, 1)
    assert ((ours - x).abs() < 1e-5).float().mean() > 0.999
