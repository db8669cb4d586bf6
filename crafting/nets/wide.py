"""Wide residual networks: Zagoruyko & Komodakis 2016, "Wide Residual Networks", BMVC
(arXiv:1605.07146), the net of studies of adversarial training; no library has it.

WRN-d-k has three stages of (d - 4) / 6 blocks, 16k, 32k and 64k channels wide (Table 1). A block
normalises and rectifies before each of its two 3x3 convolutions; where its input has another shape
than its output, the shortcut is a 1x1 convolution of the rectified input.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from crafting.nets.net import is_small

_DEPTH, _WIDENING = 34, 10
_STEM = 16


def wide_resnet34_10(net_size: int) -> nn.Module:
    """WRN-34-10 to 640 features. Images of more than 64 pixels meet a ResNet's stem for them, a
    7x7 convolution of stride 2 and a pooling, which the paper's nets for 32x32 do not have."""
    return wide_resnet(_DEPTH, _WIDENING, is_small(net_size))


def wide_resnet(depth: int, widening: int, small: bool) -> nn.Sequential:
    """WRN-depth-widening to 64 x widening features. ValueError unless depth is 6n + 4."""
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"a wide residual network is 6n + 4 layers deep, which {depth} is not")
    widths = [_STEM, *(_STEM * widening * 2**stage for stage in range(3))]
    stages = [_stage(widths[n], widths[n + 1], blocks, stride=1 if n == 0 else 2) for n in range(3)]
    last = [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*_stem(small), *stages, *last, nn.Flatten())
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def _stem(small: bool) -> list[nn.Module]:
    if small:
        return [nn.Conv2d(3, _STEM, 3, padding=1, bias=False)]
    return [
        nn.Conv2d(3, _STEM, 7, stride=2, padding=3, bias=False),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]


def _stage(before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [_Block(after, after, 1) for _ in range(blocks - 1)]
    return nn.Sequential(_Block(before, after, stride), *rest)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rectified = F.relu(self.bn1(x))
        x = x if self.shortcut is None else self.shortcut(rectified)
        added: Tensor = x + self.conv2(F.relu(self.bn2(self.conv1(rectified))))
        return added
