"""Neural tangent kernels of infinitely wide nets, and what training such a net would predict.

A net of random weights becomes a Gaussian process as its layers widen, and its training by gradient
descent becomes regression with a fixed kernel, the tangent kernel (Jacot et al. 2018; Lee et al.
2019). Both kernels are carried from layer to layer for every pair of images: with w the variance of
weights and b that of biases,

    linear       S' = w S + b,                 T' = w T + S'
    activation   S' = E[phi(u) phi(v)],        T' = T E[phi'(u) phi'(v)],   (u, v) ~ N(0, S)

The expectations are known for ReLU (Cho and Saul 2009: arc-cosine kernels) and for the error
function (Williams 1996). A convolution takes the mean over its window first; as places are only
compared with themselves, layers may be convolutions and a flattening, but no pooling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["relu", "erf"]
_COINCIDE = 1e-12
"""Of two images that are the same ReLU's kernel has a kink in the distance; below this share of
their variances they count as the same."""
_NEAR = 1e-5
_SMALL = 1e-4


@dataclass(frozen=True)
class Pairs:
    """What a wide net makes of every pair of A and B images, at one layer, place by place.

    first (A,H,W), second (B,H,W): variances; cross, tangent (A,B,H,W): covariance and tangent
    kernel.
    """

    first: Tensor
    second: Tensor
    cross: Tensor
    tangent: Tensor

    @classmethod
    def of(cls, x: Tensor, other: Tensor) -> Pairs:
        """Of images (A,C,H,W) and (B,C,H,W), before the first layer."""
        cross = torch.einsum("achw,bchw->abhw", x, other) / x.shape[1]
        square = x.square().mean(1), other.square().mean(1)
        return cls(*square, cross, torch.zeros_like(cross))

    def linear(self, weight: float, bias: float) -> Pairs:
        """After weights of this variance, divided by the number of inputs, and biases."""
        cross = weight * self.cross + bias
        first, second = (weight * own + bias for own in (self.first, self.second))
        return Pairs(first, second, cross, weight * self.tangent + cross)

    def windows(self, size: int, stride: int) -> Pairs:
        """The means over windows of size x size pixels, with zeros around the images where they
        need them; what a convolution then multiplies."""
        return Pairs(*(_windows(part, size, stride) for part in self._parts()))

    def flattened(self) -> Pairs:
        """The mean over all places, as a layer that sees all of them multiplies it."""
        return Pairs(*(part.mean((-2, -1), keepdim=True) for part in self._parts()))

    def activated(self, kind: Activation) -> Pairs:
        """After a ReLU or an error function."""
        return self._relu() if kind == "relu" else self._erf()

    def kernel(self) -> Tensor:
        """The tangent kernel (A,B) of a net that ends in one place."""
        return self.tangent[:, :, 0, 0]

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.first, self.second, self.cross, self.tangent

    def _relu(self) -> Pairs:
        product = self.first[:, None] * self.second[None]
        determinant = product - self.cross.square()
        across = determinant.clamp_min(_COINCIDE * product.detach().clamp_min(1e-300)).sqrt()
        share = (math.pi - torch.atan2(across, self.cross)) / (2 * math.pi)
        cross = across / (2 * math.pi) + share * self.cross
        return Pairs(self.first / 2, self.second / 2, cross, self.tangent * share)

    def _erf(self) -> Pairs:
        product = (1 + 2 * self.first)[:, None] * (1 + 2 * self.second)[None]
        cross = torch.asin(2 * self.cross * product.rsqrt()) * (2 / math.pi)
        slope = (product - 4 * self.cross.square()).rsqrt() * (4 / math.pi)
        first, second = (
            torch.asin(2 * own / (1 + 2 * own)) * (2 / math.pi) for own in (self.first, self.second)
        )
        return Pairs(first, second, cross, self.tangent * slope)


@dataclass(frozen=True)
class Wide:
    """An infinitely wide net: `depth` layers with an activation each and a linear readout (`fnn`),
    or two convolutions of 5x5 with stride 2 and that activation, a flattening and three linear
    layers (`cnn`). weight, bias: variances."""

    kind: Literal["fnn", "cnn"]
    activation: Activation
    weight: float
    bias: float
    depth: int = 5

    def kernel(self, x: Tensor, other: Tensor) -> Tensor:
        """The tangent kernel (A,B) float64 of images (A,C,H,W) and (B,C,H,W) in [0,1]."""
        if self.kind == "fnn":
            pairs = Pairs.of(
                *(images.double().flatten(1)[..., None, None] for images in (x, other))
            )
            for _ in range(self.depth):
                pairs = self._linear(pairs).activated(self.activation)
            return self._linear(pairs).kernel()
        pairs = Pairs.of(*(_patches(images.double(), 5, 2) for images in (x, other)))
        pairs = self._linear(pairs).activated(self.activation)
        pairs = self._linear(pairs.windows(5, 2)).activated(self.activation).flattened()
        for _ in range(3):
            pairs = self._linear(pairs)
        return pairs.kernel()

    def _linear(self, pairs: Pairs) -> Pairs:
        return pairs.linear(self.weight, self.bias)


def regularised(kernel: Tensor, share: float) -> Tensor:
    """The kernel (N,N) with `share` of its mean diagonal added to its diagonal."""
    ridge = share * kernel.diagonal().mean()
    return kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)


def trained(kernel: Tensor, targets: Tensor, time: float) -> Tensor:
    """The dual weights (N,K) K^-1 (I - exp(-time K / NK)) Y of a wide net that started at zero and
    was trained on N rows, with this kernel (N,N) and targets Y (N,K), for `time`: gradient flow of
    the squared error, summed, by 2NK. Kernel(x, rows) @ weights is what it says of x."""
    filtered: Tensor = _Filter.apply(kernel, time / targets.numel())
    return filtered @ targets


class _Filter(torch.autograd.Function):
    """K^-1 (I - exp(-rate K)) of a symmetric K, with a derivative that is finite also where two
    eigenvalues agree (Daleckii and Krein's divided differences)."""

    @staticmethod
    def forward(ctx, kernel: Tensor, rate: float) -> Tensor:  # type: ignore[no-untyped-def]
        values, vectors = torch.linalg.eigh(kernel)
        values = values.clamp_min(torch.finfo(values.dtype).tiny)
        ctx.save_for_backward(values, vectors)
        ctx.rate = rate
        filtered: Tensor = (vectors * _filter(values, rate)) @ vectors.T
        return filtered

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        values, vectors = ctx.saved_tensors
        inner = vectors.T @ ((gradient + gradient.T) / 2) @ vectors
        return vectors @ (inner * _divided(values, ctx.rate)) @ vectors.T, None


def _filter(values: Tensor, rate: float) -> Tensor:
    return -torch.expm1(-rate * values) / values


def _slope(values: Tensor, rate: float) -> Tensor:
    """The derivative of `_filter`; by its series where the formula would lose all digits."""
    scaled = rate * values
    exact = (scaled * torch.exp(-scaled) + torch.expm1(-scaled)) / values.square()
    return torch.where(scaled < _SMALL, rate**2 * (scaled / 3 - 0.5), exact)


def _divided(values: Tensor, rate: float) -> Tensor:
    """(N,N): (f(a) - f(b)) / (a - b) for every two eigenvalues; f' between those that are near."""
    gaps = values[:, None] - values
    middles = (values[:, None] + values) / 2
    is_near = gaps.abs() <= _NEAR * middles
    filtered = _filter(values, rate)
    apart = (filtered[:, None] - filtered) / torch.where(is_near, torch.ones_like(gaps), gaps)
    return torch.where(is_near, _slope(middles, rate), apart)


def _windows(values: Tensor, size: int, stride: int) -> Tensor:
    """(...,H,W) to (...,ceil(H/stride),ceil(W/stride))."""
    height, width = values.shape[-2:]
    framed = _framed(values.reshape(-1, 1, height, width), size, stride)
    means = F.avg_pool2d(framed, size, stride)
    return means.reshape(*values.shape[:-2], *means.shape[-2:])


def _patches(x: Tensor, size: int, stride: int) -> Tensor:
    """(A,C,H,W) to (A,C*size*size,h,w): what each window holds, as the channels of its place. The
    products of single pixels, of all pairs of images, would be many times as many numbers."""
    framed = _framed(x, size, stride)
    height, width = ((length - size) // stride + 1 for length in framed.shape[-2:])
    return F.unfold(framed, size, stride=stride).view(len(x), -1, height, width)


def _framed(x: Tensor, size: int, stride: int) -> Tensor:
    """With the zeros around that windows need to be ceil(H/stride) x ceil(W/stride); of an odd
    number one more to the right and below."""
    tall, wide = (max(size - 1 - (length - 1) % stride, 0) for length in x.shape[-2:])
    return F.pad(x, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
