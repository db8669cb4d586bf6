"""Adversarial training against convolutions, one for each class."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from shades import CPU, PLAIN, accuracy, batch, fresh, setting, shaded
from torch import Tensor

from crafting.nets import Net
from crafting.training import cross_entropy, train
from evaluation.countermeasures import parse
from evaluation.countermeasures.deconv_at import DeconvolutionTraining, deconvolved


def test_deconvolution_is_the_transposed_convolution_of_each_image() -> None:
    x, y = batch(6, classes=3)
    kernels = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(1))
    out = deconvolved(x, kernels, F.one_hot(y).float())
    for image, label, got in zip(x, y, out, strict=True):
        weight = kernels[label].expand(3, 1, 5, 5)
        plain = F.conv_transpose2d(image[None], weight, padding=2, groups=3)[0]
        share = (plain - plain.min()) / (plain.max() - plain.min())
        stretched = image.min() + share * (image.max() - image.min())
        assert torch.allclose(got, stretched, atol=1e-5)


def test_deconvolution_with_the_identity_changes_nothing() -> None:
    x, y = batch()
    x = x * 0.5 + 0.2
    identity = torch.zeros(2, 7, 7)
    identity[:, 3, 3] = 1
    assert torch.allclose(deconvolved(x, identity, F.one_hot(y).float()), x, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 24])
def test_deconvolved_images_stay_images(channels: int, count: int) -> None:
    x, y = batch(count, channels)
    x[0] = 0
    out = deconvolved(x, torch.full((2, 7, 7), -5.0), F.one_hot(y).float())
    assert out.shape == x.shape
    assert torch.allclose(out.amin((1, 2, 3)), x.amin((1, 2, 3)), atol=1e-5)
    assert torch.allclose(out.amax((1, 2, 3)), x.amax((1, 2, 3)), atol=1e-5)
    assert 0 <= out.min() <= out.max() <= 1
    assert out[0].abs().max() == 0


def searched(countermeasure: DeconvolutionTraining, net: Net) -> tuple[list[Tensor], list[float]]:
    """The kernels that the search starts and ends with, and the losses there."""
    first = next(shaded(24, 2).batches(24))
    x, y = first.x, first.labels()
    members = F.one_hot(y).float()
    torch.manual_seed(0)
    start = countermeasure._start(2)
    torch.manual_seed(0)
    end = countermeasure._hardest(net, x, y, members)
    losses = [cross_entropy(net, deconvolved(x, k, members), y).item() for k in (start, end)]
    return [start, end], losses


def test_deconvolution_training_searches_for_hard_kernels_of_each_class() -> None:
    net = fresh()
    train(net, shaded(100, 1), PLAIN, device=CPU, seed=0)
    net.zero_grad()
    (start, end), (easy, hard) = searched(DeconvolutionTraining(), net)
    assert hard > 1.02 * easy
    moved = (end - start).abs().amax((1, 2))
    assert moved.min() > 0
    assert not torch.equal(end[0] - start[0], end[1] - start[1])
    assert start[:, 3, 3].min() > 0.98
    assert all(parameter.grad is None for parameter in net.parameters())


def test_deconvolution_kernels_are_bounded() -> None:
    (_, end), _ = searched(DeconvolutionTraining(eta=1e6, steps=2), fresh().eval())
    assert end.abs().max() == 5


def test_deconvolution_training_learns_with_batchnorm_in_training_mode() -> None:
    net = fresh().train()
    before = copy.deepcopy(net.state_dict())
    loss = parse("deconv-at:steps=2").hooks(setting()).loss(net, *batch())
    loss.backward()
    assert net.training
    counts = {n: v - before[n] for n, v in net.state_dict().items() if n.endswith("tracked")}
    assert {value.item() for value in counts.values()} == {1}  # the attack moves no statistics
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_deconvolution_training_learns() -> None:
    text = "deconv-at:steps=1,eta=0.01"
    assert accuracy(shaded(160, 1), text, shaded(100, 2)) > 0.9
