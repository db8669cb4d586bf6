"""A net that draws one image: what shapes noise that is the same for many images.

The residual generator of Johnson, Alahi, Fei-Fei ("Perceptual Losses for Real-Time Style Transfer
and Super-Resolution", ECCV 2016), as adversarial generators use it: two halvings, residual blocks,
two doublings, tanh. Normalisation is over the one image that it draws. Borders are zero, not
reflected: the gradient of reflection does not give the same sums twice on a GPU.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HALVINGS = 2
_SMALLEST = 16
"""Pixels a side of what it draws inside; at a quarter of the size something must be left."""


class Generator(nn.Module):
    """From an image of noise (1,3,S,S) to one in [-1,1] of the same size; `width` channels at its
    ends, four times as many in between. Its weights depend on the arguments alone."""

    def __init__(self, width: int, blocks: int, seed: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(_HALVINGS + 1)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                *_convolution(3, width, 7),
                *(layer for pair in pairwise(widths) for layer in _convolution(*pair, 3, stride=2)),
                *(_Residual(widths[-1]) for _ in range(blocks)),
                *(layer for pair in pairwise(widths[::-1]) for layer in _doubling(*pair)),
                nn.Conv2d(width, 3, 7, padding=3),
                nn.Tanh(),
            )

    def forward(self, noise: Tensor) -> Tensor:
        size = noise.shape[-2:]
        short = [max(_SMALLEST, -(-length // 2**_HALVINGS) * 2**_HALVINGS) for length in size]
        padded = F.pad(noise, (0, short[1] - size[1], 0, short[0] - size[0]))
        drawn: Tensor = self.layers(padded)
        return drawn[..., : size[0], : size[1]]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(width, width, 3))
        self.second = nn.Sequential(*_convolution(width, width, 3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.second(self.first(x))
        return x + changed


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(
        inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False
    )
    return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
