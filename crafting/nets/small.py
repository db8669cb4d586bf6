"""Nets for minutes on a CPU: CIFAR shapes of the known families, 16 channels wide at the start.

They are measured at about 5,000 images of 32x32; never narrower, as torch 2.15 corrupts memory in
channels_last convolutions of 8 channels on CPU.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from crafting.nets.net import is_small

WIDTH = 16


def vgg(net_size: int) -> nn.Sequential:
    """Six 3x3 convolutions, 16 to 64 wide, to 64 features; larger images are pooled earlier."""
    from torchvision.models.vgg import make_layers

    first = [16, 16, "M"] if is_small(net_size) else [16, "M", 16, "M"]
    layers = make_layers([*first, 32, 32, "M", 64, 64, "M"], batch_norm=True)
    return nn.Sequential(layers, *_pooled())


def resnet(blocks: int, net_size: int) -> nn.Sequential:
    """Four stages of `blocks` basic blocks, 16 to 128 wide, to 128 features."""
    widths = [WIDTH, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
    stages = [
        _stage(before, after, blocks, stride=1 if i == 0 else 2)
        for i, (before, after) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(_stem(is_small(net_size)), *stages, *_pooled())


def _stem(small: bool) -> nn.Sequential:
    kernel, stride = (3, 1) if small else (7, 2)
    convolution = nn.Conv2d(3, WIDTH, kernel, stride, padding=kernel // 2, bias=False)
    layers = [convolution, nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([] if small else [nn.MaxPool2d(3, 2, padding=1)]))


def _stage(before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(
            nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
        )
    rest = [BasicBlock(after, after) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(before, after, stride, shortcut), *rest)


def _pooled() -> tuple[nn.Module, nn.Module]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
