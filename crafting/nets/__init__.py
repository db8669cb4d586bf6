"""Every architecture by name. A net enters by one row of `ARCHITECTURES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from crafting.nets import full, small
from crafting.nets.deploy import Folding, compute_dtype, fold, for_crafting
from crafting.nets.net import Net, is_small
from crafting.nets.wide import wide_resnet34_10
from crafting.registry import lookup

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Folding",
    "Net",
    "build",
    "compute_dtype",
    "fold",
    "for_crafting",
    "is_small",
    "names",
    "num_parameters",
]


@dataclass(frozen=True)
class Architecture:
    """How a net is made: `body(net_size)` maps images of net_size x net_size pixels to `features`
    numbers, or to `large_features` where those are other ones for large images; lr is the peak
    learning rate with which SGD trains it well at batches of 125."""

    body: Callable[[int], nn.Module]
    features: int
    large_features: int | None = None
    lr: float = 0.1

    def width(self, net_size: int) -> int:
        """How many features there are for images of this side, in pixels."""
        if self.large_features is None or is_small(net_size):
            return self.features
        return self.large_features


ARCHITECTURES: dict[str, Architecture] = {
    "vgg-w16": Architecture(small.vgg, 64, lr=0.2),
    "resnet10-w16": Architecture(partial(small.resnet, 1), 128),
    "resnet18-w16": Architecture(partial(small.resnet, 2), 128),
    "resnet18": Architecture(full.resnet18, 512),
    "resnet50": Architecture(full.resnet50, 2048),
    "wide-resnet-34-10": Architecture(wide_resnet34_10, 640),
    "senet18": Architecture(full.senet18, 512),
    "vgg16": Architecture(full.vgg16, 512, large_features=4096),
    "vgg19": Architecture(full.vgg19, 512, large_features=4096),
    "densenet121": Architecture(full.densenet121, 1024),
    "googlenet": Architecture(full.googlenet, 1024),
    "mobilenetv2": Architecture(full.mobilenetv2, 1280),
    "efficientnet-b1": Architecture(full.efficientnet_b1, 1280),
    "efficientnetv2-s": Architecture(full.efficientnetv2_s, 1280),
    "regnetx-1.6gf": Architecture(full.regnetx, 912),
    "deit-tiny": Architecture(full.deit_tiny, 192, lr=0.01),
}


def build(name: str, num_classes: int, net_size: int, seed: int = 0) -> Net:
    """A new net whose weights depend on the arguments alone; images are resized to `net_size`
    pixels a side inside. ValueError names the nearest nets if none has this name."""
    architecture = lookup("net", name, ARCHITECTURES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = architecture.body(net_size)
        head = nn.Linear(architecture.width(net_size), num_classes)
    return Net(body, head, net_size).to(memory_format=torch.channels_last)


def names() -> list[str]:
    """The nets there are."""
    return sorted(ARCHITECTURES)


def num_parameters(net: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in net.parameters())
