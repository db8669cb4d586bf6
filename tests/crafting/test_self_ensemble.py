"""The methods against plain transcriptions of their equations, in float32 and without folding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.budget import L2
from crafting.method import Context, Method, State
from crafting.nets import Net, build
from crafting.registry import methods
from crafting.surrogate import CENTRES

EPS = 8 / 255
TINY = {"surrogate_epochs": 3, "checkpoints": 3, "steps": 4}


@pytest.fixture(autouse=True)
def plain_nets(monkeypatch: pytest.MonkeyPatch, in_float32: None) -> None:
    def unfolded(net: Net, device: torch.device) -> Net:
        return net.eval().requires_grad_(False)

    monkeypatch.setattr("crafting.surrogate.for_crafting", unfolded)


def _method(name: str, **changes: Any) -> Any:
    return replace(methods()[name].quick, **(TINY | changes))


def _nets(state: State) -> list[Net]:
    nets = []
    for k in range(len(state[CENTRES])):
        prefix = f"checkpoint-{k:02d}/"
        net = build("vgg-w16", 3, 16)
        weights = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        net.load_state_dict(weights)
        nets.append(net.eval())
    return nets


def _feature_gradient(net: Net, x: Tensor, wanted: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = F.mse_loss(net.features(x), wanted, reduction="none").mean(1).sum()
    return torch.autograd.grad(loss, x)[0]


def _class_gradient(net: Net, x: Tensor, wanted: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(net(x), wanted, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


def _clip(x: Tensor, clean: Tensor) -> Tensor:
    return torch.min(torch.max(x, clean - EPS), clean + EPS).clamp(0, 1)


def _algorithm_1(
    nets: list[Net], centres: Tensor, batch: Batch, order: Any, alpha: float, last: bool
) -> Tensor:
    """Chen et al. 2023, Algorithm 1, line by line; `last`: the reference code's inner centres."""
    target = (batch.labels() + 1) % 3
    x = batch.x
    for picks in order:
        g = [_feature_gradient(net, x, centres[k][target]) for k, net in enumerate(nets)]
        g_ens = sum(g) / len(nets)
        g_upd, x_hat = torch.zeros_like(x), x
        for k in picks:
            wanted = centres[-1 if last else k][target]
            g_upd = g_upd + _feature_gradient(nets[k], x_hat, wanted) - (g[k] - g_ens)
            x_hat = _clip(x_hat - alpha * g_upd.sign(), batch.x)
        x = _clip(x - alpha * g_upd.sign(), batch.x)
    return x


@pytest.mark.parametrize("center", ["own", "last"])
def test_variance_reduction_is_algorithm_1(
    center: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _method("sep-fa-vr", inner_steps=5, vr_center=center, normalise=False)
    state = method.fit(split, ctx)
    order = ctx.shared("sep-fa-vr").integers(3, size=(4, 5)).tolist()
    nets, centres = _nets(state), state[CENTRES]

    crafted = method.crafter(state, ctx)(batch)
    expected = _algorithm_1(nets, centres, batch, order, 2 / 255, last=center == "last")
    other = _algorithm_1(nets, centres, batch, order, 2 / 255, last=center != "last")

    # The reused first gradient is g_k - (g_k - g_ens) in the paper: equal up to its last bits.
    assert _agreement(crafted, expected) > 0.999
    assert _agreement(crafted, other) < 0.99


@pytest.mark.parametrize(
    ("name", "checkpoints", "asked"),
    [
        ("sep-mi", 3, "ccccccc"),
        ("sep-fa-mi", 3, "fffffff"),
        ("sep-both-mi", 3, "fcfcfcf"),
        ("sep-both-mi", 2, "fccffcc"),
    ],
)
def test_rotation_with_momentum_is_what_it_says(
    name: str, checkpoints: int, asked: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _method(name, steps=7, step_levels=2.0, checkpoints=checkpoints)
    state = method.fit(split, ctx)
    target = (batch.labels() + 1) % 3
    nets, x, v = _nets(state), batch.x, torch.zeros_like(batch.x)
    for t, loss in enumerate(asked):
        k = t % checkpoints
        if loss == "c":
            g = _class_gradient(nets[k], x, target)
        else:
            g = _feature_gradient(nets[k], x, state[CENTRES][k][target])
        v = 0.8 * v + g / g.abs().mean((1, 2, 3), keepdim=True)
        x = _clip(x - 2 / 255 * v.sign(), batch.x)

    assert _agreement(method.crafter(state, ctx)(batch), x) > 0.999


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", ["sep", "sep-fa"])
def test_ensembles_add_gradients(
    name: str, normalise: bool, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _method(name, normalise=normalise)
    state = method.fit(split, ctx)
    target = (batch.labels() + 1) % 3
    nets, x = _nets(state), batch.x
    for _ in range(4):
        total = torch.zeros_like(x)
        for k, net in enumerate(nets):
            if name == "sep":
                g = _class_gradient(net, x, target)
            else:
                g = _feature_gradient(net, x, state[CENTRES][k][target])
            total += g / g.abs().mean((1, 2, 3), keepdim=True) if normalise else g
        x = _clip(x - 2 / 255 * total.sign(), batch.x)

    assert _agreement(method.crafter(state, ctx)(batch), x) > 0.999


def _agreement(x: Tensor, y: Tensor) -> float:
    return ((x - y).abs() < 1e-5).float().mean().item()


def test_whole_steps_stay_on_whole_grey_levels(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = _method("sep-fa-mi", steps=40)
    crafted = method.crafter(method.fit(split, ctx), ctx)(batch) * 255
    assert (crafted - crafted.round()).abs().max() < 1e-2


def test_the_owner_may_choose_the_targets(split: PixelSplit, ctx: Context, batch: Batch) -> None:
    method = _method("sep-fa")
    state = method.fit(split, ctx)
    default = method.crafter(state, ctx)(batch)
    same = method.crafter(state, replace(ctx, target_map=(1, 2, 0)))(batch)
    other = method.crafter(state, replace(ctx, target_map=(2, 0, 1)))(batch)
    assert torch.equal(default, same)
    assert not torch.equal(default, other)


def test_features_come_nearer_to_the_target_class(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    target = (batch.labels() + 1) % 3
    for name in ("sep-fa", "sep-fa-vr", "sep-fa-mi"):
        method = _method(name)
        state = method.fit(split, ctx)
        crafted = method.crafter(state, ctx)(batch)
        with torch.no_grad():
            before, after = (
                sum(
                    F.mse_loss(net.features(x), state[CENTRES][k][target])
                    for k, net in enumerate(_nets(state))
                )
                for x in (batch.x, crafted)
            )
        assert after < before, name


def test_an_l2_budget_takes_l2_steps(split: PixelSplit, ctx: Context, batch: Batch) -> None:
    method: Method = _method("sep-fa", budget=L2(0.5), step_levels=0.2 * 255)
    crafted = method.crafter(method.fit(split, ctx), ctx)(batch)
    lengths = (crafted - batch.x).flatten(1).norm(dim=1)
    assert (lengths <= 0.5).all()
    assert lengths.mean() > 0.3
    assert ((crafted - batch.x).abs() > 1e-4).float().mean() > 0.5
