from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from crafting.adversarial import in_eval_mode
from crafting.batch import Batch, PixelSplit
from crafting.contrastive import Contrast, cropped, nt_xent, view
from crafting.method import Context
from crafting.methods import transferable
from crafting.methods.transferable import TransferableNoise, _Learning, discriminant, mixed
from crafting.nets import build
from crafting.registry import methods

Contexts = Callable[..., Context]


def _tue(**changes: Any) -> TransferableNoise:
    tiny = {
        "contrast": 1.0,
        "spread": "learnt",
        "surrogate_epochs": 2,
        "every": 1,
        "steps": 2,
        "batch_size": 24,
    }
    method = replace(methods()["tue"].quick, **(tiny | changes))
    assert isinstance(method, TransferableNoise)
    return method


def _fixed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _points(*places: tuple[float, float]) -> Tensor:
    return torch.tensor(places, dtype=torch.float32).view(-1, 2, 1, 1)


def test_csd_of_points_made_by_hand() -> None:
    """Centres (0,0), (4,0) and (0,3), with spreads 1, 2 and 0: the mean of (1+2)/4, (1+0)/3 and
    (2+0)/5, each twice."""
    points = _points((-1, 0), (1, 0), (4, -2), (4, 2), (0, 3), (0, 3))
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    expected = (3 / 4 + 1 / 3 + 2 / 5) / 3
    assert discriminant(points, y).item() == pytest.approx(expected, rel=1e-5)
    shuffled = torch.tensor([3, 0, 5, 2, 4, 1])
    assert discriminant(points[shuffled], y[shuffled] * 7).item() == pytest.approx(expected)
    assert discriminant(points[:2], y[:2]).item() == 0


def test_csd_is_what_the_analysis_of_releases_measures() -> None:
    from evaluation.analyses.csd import discriminant as measured

    noise, y = torch.randn(30, 3, 4, 4, generator=_fixed(0)), torch.arange(30) % 4
    expected = measured(lambda: iter([(noise.flatten(1), y)]), 4)
    assert discriminant(noise, y).item() == pytest.approx(expected, rel=1e-5)


def test_going_against_csds_gradient_parts_and_gathers_the_classes() -> None:
    points = _points((-1, 0), (1, 0), (4, -2), (4, 2)).requires_grad_(True)
    y = torch.tensor([0, 0, 1, 1])
    (learnt,) = torch.autograd.grad(discriminant(points, y), points)
    means = learnt.view(2, 2, 2).mean(1)
    assert means[0, 0] > 0 > means[1, 0]  # centre 0 is to go left, and centre 1 right
    assert learnt[0, 0] < learnt[1, 0]  # its own two points towards each other
    (held,) = torch.autograd.grad(discriminant(points, y, "held"), points)
    assert torch.allclose(held[0], held[1])
    assert held[0, 0] > 0 > held[2, 0]


def test_csds_gradient_is_finite_where_noises_agree() -> None:
    points = _points((0, 0), (0, 0), (1, 1), (1, 1)).requires_grad_(True)
    y = torch.tensor([0, 0, 1, 1])
    (gradient,) = torch.autograd.grad(discriminant(points, y), points)
    assert gradient.isfinite().all()


def test_a_rows_noise_lies_between_two_prototypes_of_its_class(
    split: PixelSplit, ctx: Context
) -> None:
    prototypes = torch.randn(3, 4, 3, 16, 16, generator=_fixed(0))
    batch = next(split.batches(48))
    noise = mixed(prototypes, batch, ctx)
    shares = []
    for one, y in zip(noise.flatten(1), batch.labels(), strict=True):
        own = prototypes[y].flatten(1)
        weights = torch.linalg.lstsq(own.T, one[:, None]).solution.flatten()
        assert torch.allclose(weights @ own, one, atol=1e-4)
        assert weights.sum().item() == pytest.approx(1, abs=1e-4)
        assert weights.min() > -1e-4
        assert (weights.abs() > 1e-4).sum() <= 2
        shares.append(weights)
    used = torch.stack(shares) > 1e-3
    assert used.any(0).all()  # all four prototypes
    assert 0.4 < torch.stack(shares).amax(1).min() < 0.7  # and shares from all of [0,1]


def test_mixtures_belong_to_the_image_and_the_seed(
    split: PixelSplit, ctx: Context, context: Contexts
) -> None:
    prototypes = torch.randn(3, 4, 3, 16, 16, generator=_fixed(0))
    batch = next(split.batches(12))
    part = Batch(batch.rows[[5, 2]], batch.x[[5, 2]], batch.labels()[[5, 2]])
    whole = mixed(prototypes, batch, ctx)
    assert torch.equal(mixed(prototypes, part, ctx), whole[[5, 2]])
    assert not torch.equal(mixed(prototypes, batch, context(split, b"other")), whole)
    one = mixed(prototypes[:, :1], batch, ctx)
    assert torch.allclose(one, prototypes[batch.labels(), 0], atol=1e-6)


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_noise_comes_to_tell_classes_apart(
    split: PixelSplit, ctx: Context, contrast: float
) -> None:
    method = _tue(contrast=contrast, separability=10.0, steps=6)
    start, batch = _Learning(method, ctx).noise, next(split.batches(48))
    learnt = method.fit(split, ctx)["prototypes/noise"]
    before = discriminant(mixed(start, batch, ctx), batch.labels())
    after = discriminant(mixed(learnt, batch, ctx), batch.labels())
    assert after < 0.5 * before
    assert learnt.abs().max() <= 8 / 255 + 1e-6
    assert (method.crafter({"prototypes/noise": learnt}, ctx)(batch) - batch.x).abs().max() < 0.032


def test_noise_helps_a_net_to_tell_the_views_of_an_image(split: PixelSplit, ctx: Context) -> None:
    """Against the start, with the same views, for a net that does not change."""
    method = _tue(contrast=1.0, separability=0.0, steps=8, step_levels=1.0)
    learning, net = _Learning(method, ctx), build("vgg-w16", 1, 16, seed=1)
    learning.latest = batch = next(split.batches(24))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learning.loss(net.train(), *learning.augment(batch.x, batch.labels()))  # makes its head
        learning.noise = _Learning(method, ctx).noise

        def loss(noise: Tensor) -> float:
            torch.manual_seed(1)
            x = (batch.x + mixed(noise, batch, ctx)).clamp(0, 1)
            with torch.no_grad(), in_eval_mode(net):
                views = [learning.augment(x, batch.labels()) for _ in range(20)]
                return sum(Contrast.loss(learning, net, *each).item() for each in views)

        before = loss(learning.noise)
        learning._improve(net)
        assert loss(learning.noise.detach()) < before


def test_the_net_learns_from_images_with_their_noise(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def noted(learning: _Learning, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return torch.cat([x, x]), torch.cat([y, y])

    monkeypatch.setattr(_Learning, "augment", noted)
    method = _tue(batch_size=48, surrogate_epochs=1)
    start = _Learning(method, ctx).noise
    learnt = method.fit(split, ctx)["prototypes/noise"]
    order = next(split.batches(48, 0))
    expected = (order.x + mixed(start, order, ctx)).clamp(0, 1)
    assert torch.allclose(seen[0], expected, atol=1e-6)  # the noise moves after the net has looked
    assert not torch.equal(learnt, start)


def test_views_differ_and_can_be_differentiated() -> None:
    x = torch.rand(6, 3, 16, 16, generator=_fixed(0)).requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        one, other = view(x), view(x)
    assert not torch.equal(one, other)
    net = build("vgg-w16", 1, 16).eval()
    (gradient,) = torch.autograd.grad(nt_xent(net.features(torch.cat([one, other])), 0.5), x)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_crops_are_those_of_bilinear_sampling() -> None:
    import torch.nn.functional as F

    x = torch.rand(5, 3, 12, 20, generator=_fixed(1))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        found = cropped(x)
        torch.manual_seed(5)
        area = 0.2 + 0.8 * torch.rand(5)
        ratio = torch.exp((2 * torch.rand(5) - 1) * torch.tensor(3 / 4).log())
        wide = (area * ratio * 12 / 20).sqrt().clamp(max=1)
        tall = (area / ratio * 20 / 12).sqrt().clamp(max=1)
        across, down = 2 * torch.rand(2, 5) - 1
        sign = torch.where(torch.rand(5) < 0.5, -1.0, 1.0)
    zero = torch.zeros(5)
    rows = [wide * sign, zero, (1 - wide) * across, zero, tall, (1 - tall) * down]
    maps = torch.stack(rows, 1).view(5, 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    expected = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("every", "share", "turns"), [(1, 1.0, 4), (2, 1.0, 2), (3, 0.5, 2)])
def test_the_noise_has_its_turn_after_so_many_steps_of_the_net(
    every: int,
    share: float,
    turns: int,
    split: PixelSplit,
    ctx: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 epochs of 2 batches, or 4 of them where the split is half of the rows."""
    taken: list[bool] = []
    monkeypatch.setattr(_Learning, "_improve", lambda *given: taken.append(True))
    _tue(every=every).fit(split, replace(ctx, fit_share=share))
    assert len(taken) == turns


def test_statistics_stay_as_they_are_while_the_noise_learns(
    split: PixelSplit, ctx: Context
) -> None:
    learning, net = _Learning(_tue(), ctx), build("vgg-w16", 1, 16, seed=1).train()
    batch = next(split.batches(24))
    with torch.random.fork_rng():
        Contrast.loss(learning, net, *learning.augment(batch.x, batch.labels()))  # makes its head
        learning.latest = batch
        before = {name: value.clone() for name, value in net.named_buffers()}
        learning._improve(net)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())


def test_only_the_noise_of_classes_in_the_batch_moves(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, many = _tue(contrast=0.0), replace(ctx, num_classes=9)
    drawn = many.shared("tue-start").uniform(-1, 1, (9, 4, 3, 16, 16))
    start = torch.from_numpy(drawn).float() * (8 / 255)
    learning = _Learning(method, many)
    assert torch.equal(learning.noise, start)
    moved: list[int] = []
    objective = _Learning._objective

    def noted(own: _Learning, net: Any, noise: Tensor, batch: Batch) -> Tensor:
        moved.append(len(noise))
        return objective(own, net, noise, batch)

    monkeypatch.setattr(_Learning, "_objective", noted)
    whole = next(split.batches(24))
    some = whole.labels() > 0
    learning.latest = Batch(whole.rows[some], whole.x[some], whole.labels()[some])
    learning._improve(None)
    assert moved == [2] * method.steps
    still = [torch.equal(*each) for each in zip(learning.noise, start, strict=True)]
    assert still == [True, False, False, *[True] * 6]


def test_noise_whose_turn_never_comes_is_refused(split: PixelSplit, ctx: Context) -> None:
    method = _tue(surrogate_epochs=3, batch_size=20, every=9)  # 3 epochs of 3 batches
    assert not torch.equal(method.fit(split, ctx)["prototypes/noise"], _Learning(method, ctx).noise)
    with pytest.raises(ValueError, match=r"takes 9 steps on 48 rows.*set every=1"):
        replace(method, every=10).fit(split, ctx)
    # Of 9 rows the last is alone in its batch, and no step is taken on it.
    with pytest.raises(ValueError, match="takes 3 steps on 9 rows"):
        replace(method, batch_size=8, every=4).fit(split.take(range(9)), ctx)


def test_without_contrast_no_net_is_trained(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transferable, "build", None)
    method = _tue(contrast=0.0)
    assert method.fit_epochs == 0
    assert method.fit(split, ctx)["prototypes/noise"].shape == (3, 4, 3, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrast": -1.0}, "weights of 0 or more"),
        ({"contrast": 0.0, "separability": 0.0}, "not both 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"surrogate": "resnet19"}, "did you mean"),
        ({"batch_size": 1}, "at least 2 images"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _tue(**changes)
