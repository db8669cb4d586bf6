"""Views of an image, and the loss that brings them together."""

from __future__ import annotations

import math

import pytest
import torch

from crafting.contrastive import Contrast, contrastive_recipe, nt_xent, view
from crafting.nets import build


def test_nt_xent_is_the_papers_formula() -> None:
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = 0.0
    for i in range(6):
        alike = [math.exp(torch.cosine_similarity(z[i], z[k], dim=0) / 0.3) for k in range(6)]
        expected -= math.log(alike[(i + 3) % 6] / (sum(alike) - alike[i])) / 6
    assert nt_xent(z, 0.3).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_of_one_image_is_nothing_but_can_be_descended() -> None:
    z = torch.randn(2, 5, requires_grad=True)
    loss = nt_xent(z, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(2, 5))


def test_the_projection_head_joins_once_and_learns_as_the_body_does() -> None:
    net, contrast = build("vgg-w16", 1, 16), Contrast(0.5)
    optimiser = contrastive_recipe(1).optimiser_of(net)
    before = len(optimiser.param_groups)
    for _ in range(2):
        with torch.random.fork_rng():
            x, y = contrast.augment(torch.rand(4, 3, 16, 16), torch.zeros(4))
            torch.autograd.backward(contrast.loss(net, x, y))
        contrast.step(net, optimiser)
    body, joined = optimiser.param_groups[0], optimiser.param_groups[before:]
    assert [len(group["params"]) for group in joined] == [4]
    assert all(parameter.grad is not None for parameter in joined[0]["params"])
    for name in ("lr", "weight_decay"):
        assert joined[0][name] == body[name] > 0


def test_views_are_drawn_for_every_image() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = torch.rand(3, 16, 12)
        views = view(one.expand(200, -1, -1, -1))
    assert views.shape == (200, 3, 16, 12)
    assert 0 <= views.min() <= views.max() <= 1
    assert len(views.flatten(1).unique(dim=0)) == 200
    grey = (views - views.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6
    assert 0.12 < grey.float().mean() < 0.28


def test_views_change_brightness_contrast_saturation_and_hue_within_bounds() -> None:
    """Of a flat yellow a crop shows nothing else; a fifth has no jitter, four fifths no grey."""
    flat = torch.tensor([0.6, 0.55, 0.3])[:, None, None].expand(3, 4, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = view(flat.expand(500, -1, -1, -1))
    assert views.std((2, 3)).max() < 1e-5
    colours = views.mean((2, 3))
    luma = colours @ torch.tensor([0.299, 0.587, 0.114])
    assert 0.32 < luma.min() < 0.35  # 0.6 of 0.536
    assert 0.72 < luma.max() < 0.76  # 1.4 of it
    kept = (colours - flat[:, 0, 0]).abs().amax(1) < 1e-5
    assert 0.12 < kept.float().mean() < 0.2
    spread = (colours.amax(1) - colours.amin(1)) / luma
    plain = 0.3 / 0.5365
    assert 0.35 * plain < spread[spread > 1e-4].min() < 0.6 * plain
    assert 1.4 * plain < spread.max() < 1.9 * plain
    assert (colours[:, 1] > colours[:, 0] + 0.03).any()  # turned towards green
    assert (colours[:, 0] > 1.3 * colours[:, 1]).any()  # and towards red


def test_hues_turn_as_in_torchvision() -> None:
    from torchvision.transforms.v2.functional import adjust_hue

    from crafting.contrastive import turned

    x = torch.tensor([0.5, 0.45, 0.4])[:, None, None].expand(2, 3, 2, 2)
    found = turned(x, torch.tensor([0.1, -0.1]))
    for image, by in zip(found, (0.1, -0.1), strict=True):
        assert (image - adjust_hue(x[0], by)).abs().max() < 0.05


def test_a_view_of_one_channel_stays_one() -> None:
    assert view(torch.rand(3, 1, 8, 8)).shape == (3, 1, 8, 8)


def test_saturation_moves_colour_against_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brightness and contrast move both alike."""
    monkeypatch.setattr("crafting.contrastive.cropped", lambda x: x)
    monkeypatch.setattr("crafting.contrastive.turned", lambda x, turns: x)
    image = torch.tensor([0.4, 0.35, 0.3])[:, None, None].repeat(1, 4, 4)
    image[:, :2] *= 0.8
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = torch.cat([image[None], view(image.expand(300, -1, -1, -1))])
    colour = views[:, 0, 3, 0] - views[:, 2, 3, 0]
    light = torch.einsum("c,bc->b", torch.tensor([0.299, 0.587, 0.114]), views[..., 3, 0])
    darker = torch.einsum("c,bc->b", torch.tensor([0.299, 0.587, 0.114]), views[..., 0, 0])
    ratios = colour / (light - darker)
    ratios = ratios[1:] / ratios[0]
    ratios = ratios[ratios > 0.01]  # but for grey ones
    assert 0.58 < ratios.min() < 0.65
    assert 1.35 < ratios.max() < 1.42


def test_contrast_keeps_the_mean_and_moves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """With crops and all else out of the way the two halves of a grey image move together."""
    monkeypatch.setattr("crafting.contrastive.cropped", lambda x: x)
    halves = torch.full((100, 1, 4, 4), 0.4)
    halves[:, :, :2] = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = view(halves)
    ratios = (views[:, 0, 0, 0] - views[:, 0, 3, 0]) / views.mean((1, 2, 3)) / (0.1 / 0.45)
    assert 0.6 < ratios.min() < 0.65
    assert 1.35 < ratios.max() < 1.4


def test_crops_show_a_fifth_to_all_of_the_image_at_its_own_proportions() -> None:
    from crafting.contrastive import cropped

    with torch.random.fork_rng():
        torch.manual_seed(0)
        across = torch.linspace(0, 1, 32).expand(32, 32)
        views = cropped(torch.stack([across, across.T]).expand(500, 2, 32, 32))
    wide = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    tall = views[:, 1, -1, 0] - views[:, 1, 0, 0]
    area, ratio = (wide * tall).abs(), (wide / tall).abs()
    assert 0.18 < area.min() < 0.24
    assert area.max() <= 1
    assert area.max() > 0.9
    assert 0.74 < ratio.min() < ratio.max() < 1.35
    assert 0.4 < (wide < 0).float().mean() < 0.6
    assert (tall > 0).all()
