"""Every architecture by name. A net enters by one row of `ARCHITECTURES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from crafting.nets import full, small
from crafting.nets.deploy import Folding, compute_dtype, fold, for_crafting
from crafting.nets.net import Net
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
    "names",
    "num_parameters",
]

SMALL_IMAGE = 64
"""Images up to this side, in pixels, meet a stem that keeps their resolution."""


@dataclass(frozen=True)
class Architecture:
    """How a net is made: `body(small)` maps images to `features` numbers, with a stem for small
    images where `small`; lr is the peak learning rate that trains it well at batches of 125."""

    body: Callable[[bool], nn.Module]
    features: Callable[[bool], int]
    lr: float = 0.1


def _always(width: int) -> Callable[[bool], int]:
    return lambda small: width


ARCHITECTURES: dict[str, Architecture] = {
    "vgg-w16": Architecture(small.vgg, _always(64), lr=0.2),
    "resnet10-w16": Architecture(partial(small.resnet, 1), _always(128)),
    "resnet18-w16": Architecture(partial(small.resnet, 2), _always(128)),
    "resnet18": Architecture(full.resnet18, _always(512)),
    "vgg16": Architecture(full.vgg16, lambda small: 512 if small else 4096),
    "densenet121": Architecture(full.densenet121, _always(1024)),
}


def build(name: str, num_classes: int, net_size: int, seed: int = 0) -> Net:
    """A new net whose weights depend on the arguments alone; images are resized to `net_size`
    pixels a side inside. ValueError names the nearest nets if none has this name."""
    architecture = lookup("net", name, ARCHITECTURES)
    is_small = net_size <= SMALL_IMAGE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = architecture.body(is_small)
        head = nn.Linear(architecture.features(is_small), num_classes)
    return Net(body, head, net_size).to(memory_format=torch.channels_last)


def names() -> list[str]:
    """The nets there are."""
    return sorted(ARCHITECTURES)


def num_parameters(net: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in net.parameters())
