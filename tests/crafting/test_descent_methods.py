"""Methods that descend with a surrogate against plain transcriptions of their equations."""

from __future__ import annotations

import copy
import re
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.batch import Batch, PixelSplit, Split
from crafting.budget import L2, parse
from crafting.descent import image_gradient
from crafting.method import Context, State
from crafting.methods import ensemble
from crafting.methods.tensorclog import _shortest
from crafting.moves import move
from crafting.nets import Net, build
from crafting.registry import configure, methods
from crafting.runner import protect
from crafting.surrogate import CENTRES, inside
from crafting.tangent import mean_gradient, norm
from crafting.training import Recipe

EPS = 8 / 255
SMALL: dict[str, Any] = {
    "surrogate_epochs": 2,
    "checkpoints": 1,
    "steps": 4,
    "robust_steps": 1,
    "nets": "vgg-w16,resnet10-w16",
    "seeds": 1,
}
NEW = ["ensemble", "tap-untargeted", "tensorclog", "entf-push", "entf-pull", "hypo"]


def _method(name: str, **changes: Any) -> Any:
    quick = methods()[name].quick
    known = {field.name for field in fields(quick)}
    return replace(quick, **{k: v for k, v in SMALL.items() if k in known} | changes)


@pytest.fixture
def plain_nets(monkeypatch: pytest.MonkeyPatch, in_float32: None) -> None:
    """Nets are crafted with as they were trained: not folded, in float32."""

    def unfolded(net: Net, device: torch.device) -> Net:
        return net.eval().requires_grad_(False)

    for module in ("crafting.surrogate", "crafting.methods.ensemble"):
        monkeypatch.setattr(f"{module}.for_crafting", unfolded)


def _net(state: State, folder: str = "checkpoint-00", name: str = "vgg-w16") -> Net:
    net = build(name, 3, 16)
    net.load_state_dict(inside(state, folder))
    return net.eval().requires_grad_(False)


def _clip(x: Tensor, clean: Tensor) -> Tensor:
    return torch.min(torch.max(x, clean - EPS), clean + EPS).clamp(0, 1)


def _agreement(x: Tensor, y: Tensor) -> float:
    return ((x - y).abs() < 1e-5).float().mean().item()


# What each method descends, transcribed: (net, centres (K,D), labels, images) to losses (B,).


def _away_from_own_class(net: Net, mu: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return net(x).log_softmax(1).gather(1, y[:, None]).squeeze(1)


def _towards_own_class(net: Net, mu: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return -_away_from_own_class(net, mu, y, x)


def _away_from_own_centre(net: Net, mu: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return -F.mse_loss(net.features(x), mu[y], reduction="none").mean(1)


def _towards_the_nearest_other(net: Net, mu: Tensor, y: Tensor, x: Tensor) -> Tensor:
    losses = []
    for seen, own in zip(net.features(x), y.tolist(), strict=True):
        others = [F.mse_loss(seen, mu[k]) for k in range(len(mu)) if k != own]
        losses.append(min(others, key=lambda loss: loss.item()))
    return torch.stack(losses)


STEPPING = {
    "tap-untargeted": ("tap", _away_from_own_class),
    "entf-push": ("entf", _away_from_own_centre),
    "entf-pull": ("entf", _towards_the_nearest_other),
    "hypo": ("hypo", _towards_own_class),
}


@pytest.mark.parametrize("name", STEPPING)
def test_it_takes_signed_steps_through_fresh_moves(
    name: str, split: PixelSplit, ctx: Context, batch: Batch, plain_nets: None
) -> None:
    stream, loss = STEPPING[name]
    method, y = _method(name, step_levels=2.0), batch.labels()
    state = method.fit(split, ctx)
    net, mu = _net(state), state[CENTRES][-1]
    restart = "-0" if stream == "tap" else ""
    x = batch.x
    if name != "hypo":
        x = _clip(x + ctx.noise(batch.rows, f"{stream}-start{restart}", (3, 16, 16)) * EPS, x)
    moves = ctx.noise(batch.rows, f"{stream}-moves{restart}", (4, 3), "uniform")
    for t in range(4):
        x = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(loss(net, mu, y, move(x, moves[:, t])).sum(), x)
        x = _clip(x - 2 / 255 * g.sign(), batch.x)

    assert _agreement(method.crafter(state, ctx)(batch), x) > 0.999


@pytest.mark.parametrize("name", STEPPING)
def test_it_gets_where_it_wants_to(
    name: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method, y = _method(name, surrogate_epochs=4, steps=15), batch.labels()
    state = method.fit(split, ctx)
    net, mu = _net(state), state[CENTRES][-1]
    before, after = (
        STEPPING[name][1](net, mu, y, x) for x in (batch.x, method.crafter(state, ctx)(batch))
    )
    assert (after < before).all()


def test_targeted_and_untargeted_poisons_share_a_state_and_differ(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    tap, untargeted = _method("tap"), _method("tap-untargeted")
    assert tap.fit_key() == untargeted.fit_key()
    assert (tap.target_shift, untargeted.target_shift) == ("y + 1 mod K", "")
    state = tap.fit(split, ctx)
    assert not torch.equal(*(m.crafter(state, ctx)(batch) for m in (tap, untargeted)))
    # A map of targets is nothing to a method that has none.
    mapped = replace(ctx, target_map=(2, 0, 1))
    crafted = [untargeted.crafter(state, where)(batch) for where in (ctx, mapped)]
    assert torch.equal(*crafted)


def test_of_untargeted_restarts_each_image_keeps_the_worst_classified(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method, y = _method("tap-untargeted", steps=1, restarts=4), batch.labels()
    state = method.fit(split, ctx)
    net = method.load_last(state, ctx)
    tries = [method._attempt(net, batch, y, ctx, r) for r in range(4)]
    losses = torch.stack([F.cross_entropy(net(x), y, reduction="none") for x in tries])
    kept = F.cross_entropy(net(method.crafter(state, ctx)(batch)), y, reduction="none")
    assert torch.equal(kept, losses.amax(0))


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_an_ensemble_goes_where_its_nets_go_on_average(
    features: bool, normalise: bool, split: PixelSplit, ctx: Context, batch: Batch, plain_nets: None
) -> None:
    method = _method("ensemble", features=features, normalise=normalise, surrogate_epochs=1)
    state = method.fit(split, ctx)
    target, x = (batch.labels() + 1) % 3, batch.x
    nets = [_net(state, f"net-{k:02d}", name) for k, (name, _) in enumerate(method.members)]
    for _ in range(4):
        total = torch.zeros_like(x)
        for k, net in enumerate(nets):
            at = x.detach().requires_grad_()
            if features:
                missed = net.features(at) - state[f"centres/net-{k:02d}"][target]
                loss = missed.square().mean(1).sum()
            else:
                loss = F.cross_entropy(net(at), target, reduction="sum")
            (g,) = torch.autograd.grad(loss, at)
            total += g / g.abs().mean((1, 2, 3), keepdim=True) if normalise else g
        x = _clip(x - 2 / 255 * (total / len(nets)).sign(), batch.x)

    assert _agreement(method.crafter(state, ctx)(batch), x) > 0.999


def test_an_ensembles_nets_are_trained_independently(
    split: PixelSplit, ctx: Context, in_float32: None
) -> None:
    told: list[tuple[int, int]] = []
    listening = replace(ctx, progress=lambda *at: told.append(at))
    one_epoch = {"surrogate_epochs": 1, "seeds": 2}
    both = _method("ensemble", **one_epoch).fit(split, listening)
    alone = _method("ensemble", nets="resnet10-w16", **one_epoch).fit(split, ctx)
    assert told == [(done, 4) for done in (1, 2, 3, 4)]
    # vgg-w16, resnet10-w16, and both again with another seed
    for theirs, ours in (("01", "00"), ("03", "01")):
        for name, value in inside(alone, f"net-{ours}").items():
            assert torch.equal(value, both[f"net-{theirs}/{name}"])
        assert torch.equal(alone[f"centres/net-{ours}"], both[f"centres/net-{theirs}"])
    assert both["centres/net-00"].shape == (3, 64)
    assert both["centres/net-01"].shape == (3, 128)
    assert not torch.equal(both["net-00/head.weight"], both["net-02/head.weight"])


def test_an_ensembles_nets_meet_the_rows_in_orders_of_their_own(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[list[int]] = []
    own = ensemble.trained

    def noted(name: str, recipe: Recipe, data: Split, *rest: Any, **more: Any) -> list[State]:
        orders.append([int(row) for batch in data.batches(16, 0) for row in batch.rows])
        return own(name, recipe, data, *rest, **more)

    monkeypatch.setattr(ensemble, "trained", noted)
    _method("ensemble", surrogate_epochs=1, seeds=2).fit(split, ctx)
    assert len({tuple(order) for order in orders}) == len(orders) == 4


def test_an_ensemble_trains_on_a_share_for_as_many_steps(split: PixelSplit, ctx: Context) -> None:
    told: list[tuple[int, int]] = []
    share = replace(ctx, fit_share=0.5, progress=lambda *at: told.append(at))
    _method("ensemble", surrogate_epochs=1, nets="vgg-w16").fit(split, share)
    assert told == [(1, 2), (2, 2)]


def test_an_ensemble_says_what_it_trains() -> None:
    method = _method("ensemble", nets="vgg-w16, resnet10-w16", seeds=3, surrogate_epochs=5)
    assert method.surrogates == ("vgg-w16", "resnet10-w16")
    assert (method.fit_epochs, method.passes) == (30, 24)
    assert _method("sep").surrogates == ("vgg-w16",)
    assert methods()["random-noise"].quick.surrogates == ()
    keys = [
        method.fit_key(),
        replace(method, seeds=2).fit_key(),
        replace(method, surrogate_epochs=4).fit_key(),
        replace(method, nets="vgg-w16").fit_key(),
    ]
    assert all(keys.count(key) == 1 for key in keys)
    assert replace(method, steps=3, features=True).fit_key() == keys[0]


@pytest.mark.parametrize(
    ("nets", "advice"),
    [("vgg-w61", "vgg-w16"), ("vgg-w16,vgg-w16", "set seeds"), ("", "no net is called ''")],
)
def test_an_ensemble_of_nets_that_are_none_or_repeat_is_refused(nets: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        configure("ensemble", "quick", settings={"nets": nets})


def _gradient_length(net: Net, x: Tensor, y: Tensor) -> Tensor:
    """|G|, differentiable with respect to x."""
    loss = F.cross_entropy(net(x), y)
    gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    return torch.cat([g.flatten() for g in gradients]).norm()


class _Smooth(Net):
    """A net in float64 without kinks."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten())
        super().__init__(body, nn.Linear(16, 3), net_size=4)
        self.double().eval()

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def test_a_gradient_is_shortened_as_double_backward_and_differences_say(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crafting.tangent.for_crafting", lambda net, device: copy.deepcopy(net))
    net, method = _Smooth(), _method("tensorclog", direction="jvp")
    torch.manual_seed(2)
    x, y = torch.rand(5, 3, 4, 4, dtype=torch.float64), torch.arange(5) % 3
    course = method._slopes(net, ctx)(x, y)
    ours = image_gradient(lambda x: -course(x, y), x) / len(x)

    at = x.clone().requires_grad_()
    (twice,) = torch.autograd.grad(_gradient_length(net, at, y), at)
    assert torch.allclose(ours, twice, rtol=1e-9, atol=1e-12)
    for place in [(0, 0, 0, 0), (1, 2, 3, 1), (4, 1, 2, 2)]:
        ends = []
        for step in (1e-5, -1e-5):
            moved = x.clone()
            moved[place] += step
            ends.append(norm(mean_gradient(net, moved, y)))
        assert ours[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("direction", ["jvp", "difference"])
def test_crafting_shortens_the_gradient(
    direction: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    well = {"surrogate_epochs": 15, "steps": 12, "step_levels": 3.0}
    method, y = _method("tensorclog", direction=direction, **well), batch.labels()
    state = method.fit(split, ctx)
    net = method.load_unfolded(state, ctx)
    crafted = method.crafter(state, ctx)(batch)
    before, after = (_gradient_length(net, x, y).item() for x in (batch.x, crafted))
    assert after < 0.7 * before


def test_a_batch_keeps_its_shortest_gradient(split: PixelSplit, ctx: Context, batch: Batch) -> None:
    method, y = _method("tensorclog", steps=1, restarts=4), batch.labels()
    state = method.fit(split, ctx)
    net = method.load_unfolded(state, ctx)
    slopes = method._slopes(net, ctx)
    tries = [method._attempt(slopes, batch, ctx, r) for r in range(4)]
    lengths = [_gradient_length(net, x, y).item() for x in tries]
    assert len(set(lengths)) == 4
    shortest = tries[lengths.index(min(lengths))]
    assert torch.equal(method.crafter(state, ctx)(batch), shortest)
    assert _shortest(net, y, tries) is _shortest(net, y, tries[::-1]) is shortest


WITHIN_L2 = ["sep", "sep-fa", "sep-fa-vr", "sep-fa-mi", "tap", *NEW]


@pytest.mark.parametrize("name", WITHIN_L2)
def test_within_l2_pixels_stay_in_the_ball_and_the_advice_is_right(
    name: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    with pytest.raises(ValueError, match="step_levels=") as refused:
        _method(name, budget=L2(1.0))
    advised = re.search(r"step_levels=(\d+)", str(refused.value))
    assert advised is not None
    method = configure(name, "quick", parse("l2:1.0"), {"step_levels": advised[1]})
    method = _method(
        name, budget=method.budget, step_levels=float(advised[1]), steps=16, surrogate_epochs=1
    )
    crafter = method.crafter(method.fit(split, ctx), ctx)
    pixels = protect(crafter, method.budget, batch)
    lengths = (pixels.double() / 255 - batch.x.double()).flatten(1).norm(dim=1)
    assert (lengths <= 1).all()
    assert (lengths > 0.5).all()


@pytest.mark.parametrize("name", ["sep", "alignment-online"])
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_the_advice_for_few_steps_can_be_followed(name: str, steps: int) -> None:
    with pytest.raises(ValueError, match="step_levels=") as refused:
        _method(name, budget=L2(1.0), steps=steps, step_levels=1.0)
    advised = re.search(r"step_levels=(\d+)", str(refused.value))
    assert advised is not None
    _method(name, budget=L2(1.0), steps=steps, step_levels=float(advised[1]))


@pytest.mark.parametrize("name", ["sep", "sep-fa", "ensemble", "hypo"])
def test_within_l2_a_step_is_along_each_images_own_normalised_gradient(
    name: str, split: PixelSplit, ctx: Context, plain_nets: None
) -> None:
    method = _method(name, budget=L2(1.0), step_levels=51.0, steps=5)
    state, y = method.fit(split, ctx), torch.arange(6) % 3
    torch.manual_seed(0)
    grey = Batch(torch.arange(6), 0.3 + 0.4 * torch.rand(6, 3, 16, 16), y)
    seen: list[Tensor] = []

    class Noted(L2):
        def step(self, gradient: Tensor, levels: float) -> Tensor:
            seen.append(gradient)
            return super().step(gradient, levels)

    walked = replace(method, budget=Noted(1.0)).crafter(state, ctx)(grey)
    x = grey.x
    for gradient in seen:
        along = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        delta = x - 0.2 * along - grey.x
        x = grey.x + delta * (0.99 / delta.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
    assert len(seen) == 5
    assert torch.allclose(walked, x, atol=1e-5)
    lengths = {round(g.flatten(1).norm(dim=1)[0].item(), 6) for g in seen}
    assert len(lengths) == 5  # the gradients themselves are of any length


def test_a_gradient_is_the_same_in_any_company(split: PixelSplit, ctx: Context) -> None:
    method = _method("ensemble", surrogate_epochs=1)
    crafter = method.crafter(method.fit(split, ctx), ctx)
    together = protect(crafter, method.budget, next(split.batches(48)))
    alone = protect(crafter, method.budget, next(split.take([41]).batches(1)))
    assert torch.equal(alone[0], together[41])
