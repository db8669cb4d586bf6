"""torchvision's nets, with the stems that small images need.

On images of at most 64 pixels the first convolution has stride 1 and nothing is pooled before the
first stage, as in every CIFAR study; larger images meet the nets as published for ImageNet.
"""

from __future__ import annotations

from torch import nn
from torchvision import models


def resnet18(small: bool) -> nn.Module:
    net = models.resnet18()
    if small:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return _module(net)


def vgg16(small: bool) -> nn.Module:
    """With BatchNorm; small images go from the convolutions straight to the head (512 features)."""
    net = models.vgg16_bn()
    if not small:
        net.classifier[-1] = nn.Identity()
        return _module(net)
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # five poolings of an image below 32 pixels would leave nothing
    return nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def densenet121(small: bool) -> nn.Module:
    net = models.densenet121()
    if small:
        net.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.features.pool0 = nn.Identity()
    net.classifier = nn.Identity()
    return _module(net)


def _module(net: nn.Module) -> nn.Module:
    return net
