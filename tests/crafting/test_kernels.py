"""Tangent kernels against wide finite nets, by hand, and against training."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.kernels import Activation, Pairs, Wide, regularised, trained

WEIGHT, BIAS = 1.76, 0.18


def _images(count: int, size: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator).double()


class _Finite(torch.nn.Module):
    """The same net with layers of a given width, in the same parameterisation."""

    def __init__(self, kind: str, activation: Activation, width: int, seed: int) -> None:
        super().__init__()
        self.kind, self.activation = kind, activation
        generator = torch.Generator().manual_seed(seed)
        shapes = [(width, 3 * 16), (width, width), (1, width)]
        if kind == "cnn":
            shapes = [(width, 3, 5, 5), (width, width, 5, 5), (width, width), (width, width)]
            shapes.append((1, width))
        self.weights = torch.nn.ParameterList(
            [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
        )
        self.biases = torch.nn.ParameterList(
            [torch.randn(s[0], generator=generator, dtype=torch.float64) for s in shapes]
        )

    def forward(self, x: Tensor) -> Tensor:
        act = torch.relu if self.activation == "relu" else torch.erf
        last = len(self.weights) - 1
        x = x.flatten(1) if self.kind == "fnn" else x
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            scaled = weight * math.sqrt(WEIGHT / weight[0].numel())
            shift = bias * math.sqrt(BIAS)
            if weight.dim() == 4:
                x = act(F.conv2d(F.pad(x, (1, 2, 1, 2)), scaled, shift, stride=2))
            else:
                x = F.linear(x.flatten(1), scaled, shift)
                x = act(x) if self.kind == "fnn" and i < last else x
        return x[:, 0]


def _empirical(kind: str, activation: Activation, width: int, nets: int, x: Tensor) -> Tensor:
    """The mean over several wide nets: each alone is off by the readout weights that it drew."""
    kernels = [_tangents(_Finite(kind, activation, width, seed), x) for seed in range(nets)]
    return torch.stack(kernels).mean(0)


def _tangents(net: _Finite, x: Tensor) -> Tensor:
    parameters = list(net.parameters())
    answers = net(x)
    gradients = [torch.autograd.grad(one, parameters, retain_graph=True) for one in answers]
    rows = torch.stack([torch.cat([part.flatten() for part in each]) for each in gradients])
    return rows @ rows.T


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_kernel_of_a_dense_net_is_that_of_very_wide_ones(activation: Activation) -> None:
    x = _images(4)
    found = Wide("fnn", activation, WEIGHT, BIAS, depth=2).kernel(x, x)
    wide = _empirical("fnn", activation, 150, 200, x)
    assert (wide - found).abs().max() < 0.03 * found.diagonal().mean()


def test_the_kernel_of_a_convolutional_net_is_that_of_very_wide_ones() -> None:
    x = _images(4)
    found = Wide("cnn", "relu", WEIGHT, BIAS).kernel(x, x)
    wide = _empirical("cnn", "relu", 40, 200, x)
    assert (wide - found).abs().max() < 0.04 * found.diagonal().mean()


def test_one_layer_by_hand() -> None:
    """Two images of one pixel and one channel, 1 and 0.5, without biases and with weight 2: before
    the activation variances are 2 and 0.5 and the covariance 1, so that the angle is 0."""
    x = torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    found = Wide("fnn", "relu", 2.0, 0.0, depth=1).kernel(x, x)
    # E[relu relu] = 1/2 S, E[relu' relu'] = 1/2: T = 2 (S/2) + 2 (S/2)
    assert torch.allclose(found, 2 * torch.tensor([[2.0, 1.0], [1.0, 0.5]]).double(), atol=1e-5)


def test_one_layer_of_orthogonal_images_by_hand() -> None:
    x = torch.eye(2).view(2, 2, 1, 1)  # S = w/2 on the diagonal, 0 elsewhere
    found = Wide("fnn", "relu", 4.0, 0.0, depth=1).kernel(x, x)
    # S = 2 I; off the diagonal E[relu relu] = 2 / 2 pi and T = 4 / pi, on it 4 + 4
    assert found[0, 1].item() == pytest.approx(4 / math.pi, rel=1e-6)
    assert found[0, 0].item() == pytest.approx(8, rel=1e-5)


def test_expectations_are_those_of_gaussians() -> None:
    covariance = torch.tensor([[1.3, 0.6], [0.6, 0.7]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(400_000, 2, generator=generator).double()
    u, v = (drawn @ torch.linalg.cholesky(covariance).T).T
    pairs = Pairs(*(t.double() for t in _places(1.3, 0.7, 0.6)))
    relu, erf = pairs.activated("relu"), pairs.activated("erf")
    assert relu.cross.item() == pytest.approx((u.relu() * v.relu()).mean().item(), rel=0.01)
    assert relu.tangent.item() == pytest.approx(
        ((u > 0) & (v > 0)).double().mean().item(), rel=0.01
    )
    assert erf.cross.item() == pytest.approx((u.erf() * v.erf()).mean().item(), rel=0.01)
    slopes = (-u.square()).exp() * (-v.square()).exp() * (4 / math.pi)
    assert erf.tangent.item() == pytest.approx(slopes.mean().item(), rel=0.01)
    assert erf.first.item() == pytest.approx(u.erf().square().mean().item(), rel=0.01)
    assert relu.first.item() == pytest.approx(u.relu().square().mean().item(), rel=0.01)


def _places(first: float, second: float, cross: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.full((1, 1, 1), first),
        torch.full((1, 1, 1), second),
        torch.full((1, 1, 1, 1), cross),
        torch.ones(1, 1, 1, 1),
    )


@pytest.mark.parametrize("time", [3.0, 400.0, 1e7])
def test_the_closed_form_is_where_gradient_descent_arrives(time: float) -> None:
    x = _images(6, seed=2)
    kernel = regularised(Wide("fnn", "relu", WEIGHT, BIAS).kernel(x, x), 1e-2)
    targets = torch.eye(3).repeat(2, 1).double()
    says = kernel @ trained(kernel, targets, time)
    if time > 1e6:
        assert torch.allclose(says, targets, atol=1e-4)
        return
    at, steps = torch.zeros_like(targets), 20_000
    for _ in range(steps):
        at = at - time / steps * kernel @ (at - targets) / targets.numel()
    assert torch.allclose(says, at, atol=2e-3)


def test_gradients_are_those_of_differences() -> None:
    x, held, targets = _images(4), _images(3, seed=1), torch.eye(4).double()
    for wide in (Wide("fnn", "erf", WEIGHT, BIAS), Wide("cnn", "relu", WEIGHT, BIAS)):

        def says(at: Tensor, wide: Wide = wide) -> Tensor:
            kernel = regularised(wide.kernel(at, at), 1e-3)
            return (wide.kernel(held, at) @ trained(kernel, targets, 50.0)).square().sum()

        moving = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(says(moving), moving)
        ahead = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double() * 1e-5
        expected = (says(x + ahead) - says(x - ahead)) / 2
        assert (gradient * ahead).sum().item() == pytest.approx(expected.item(), rel=1e-3)


def test_rows_that_agree_have_finite_gradients() -> None:
    x = _images(1).repeat(4, 1, 1, 1).requires_grad_(True)
    wide = Wide("cnn", "relu", WEIGHT, BIAS)
    kernel = regularised(wide.kernel(x, x), 1e-4)
    weights = trained(kernel, torch.eye(4).double(), 64.0)
    (gradient,) = torch.autograd.grad(weights.square().sum(), x)
    assert gradient.isfinite().all()
