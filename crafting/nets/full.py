"""torchvision's and timm's nets, with the stems that small images need.

On images of at most 64 pixels the first two halvings of the resolution are left out, as in every
CIFAR study: a ResNet's first convolution has stride 1, nothing is pooled before the first stage,
and 32x32 pixels end as 4x4 places (8x8 in GoogLeNet, 1x1 in VGG). A vision transformer cuts them
into patches of 4x4. Larger images meet the nets as published for ImageNet.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from crafting.nets.net import is_small

_NARROWEST = 16
_PATCH, _SMALL_PATCH = 16, 4


def resnet18(net_size: int) -> nn.Module:
    return _resnet(_published("resnet18"), net_size)


def resnet50(net_size: int) -> nn.Module:
    return _resnet(_published("resnet50"), net_size)


def senet18(net_size: int) -> nn.Module:
    """ResNet-18 whose blocks weigh their channels (Hu et al. 2018), from timm."""
    import timm

    return _resnet(_by_products(timm.create_model("seresnet18")), net_size)


def _resnet(net: Any, net_size: int) -> nn.Module:
    if is_small(net_size):
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    net.fc = nn.Identity()
    return _module(net)


def vgg16(net_size: int) -> nn.Module:
    """With BatchNorm; small images go from the convolutions straight to the head (512 features)."""
    return _vgg(_published("vgg16_bn"), net_size)


def vgg19(net_size: int) -> nn.Module:
    """As `vgg16`, three convolutions deeper."""
    return _vgg(_published("vgg19_bn"), net_size)


def _vgg(net: Any, net_size: int) -> nn.Module:
    if not is_small(net_size):
        net.classifier[-1] = nn.Identity()
        return _module(net)
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # five poolings of an image below 32 pixels would leave nothing
    return nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def densenet121(net_size: int) -> nn.Module:
    net = _published("densenet121")
    if is_small(net_size):
        net.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.features.pool0 = nn.Identity()
    net.classifier = nn.Identity()
    return _module(net)


def googlenet(net_size: int) -> nn.Module:
    """Without the auxiliary heads; small images lose their resolution at two poolings alone."""
    net = _published("googlenet", aux_logits=False, init_weights=True)
    if is_small(net_size):
        net.conv1.conv = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool1 = net.maxpool2 = nn.Identity()
    net.fc = nn.Identity()
    return _module(net)


def mobilenetv2(net_size: int) -> nn.Module:
    return _mobile(_published("mobilenet_v2"), net_size)


def efficientnet_b1(net_size: int) -> nn.Module:
    return _mobile(_published("efficientnet_b1"), net_size)


def efficientnetv2_s(net_size: int) -> nn.Module:
    return _mobile(_published("efficientnet_v2_s"), net_size)


def _mobile(net: Any, net_size: int) -> nn.Module:
    if is_small(net_size):
        _keep_resolution(net.features[0], net.features[2])
    net.classifier[-1] = nn.Identity()
    return _by_products(net)


def regnetx(net_size: int) -> nn.Module:
    """Of 1.6 billion products for an image of 224 pixels a side."""
    net = _published("regnet_x_1_6gf")
    if is_small(net_size):
        _keep_resolution(net.stem, net.trunk_output.block1)
    net.fc = nn.Identity()
    return _module(net)


def deit_tiny(net_size: int) -> nn.Module:
    """DeiT-Ti without distillation, from timm; images are continued in grey to whole patches."""
    import timm

    patch = _SMALL_PATCH if is_small(net_size) else _PATCH
    missing = -net_size % patch
    net: Any = timm.create_model(
        "deit_tiny_patch16_224", img_size=net_size + missing, patch_size=patch, num_classes=0
    )
    for block in net.blocks:
        # The fused kernel has no second derivatives, and on GPUs other sums every time.
        block.attn.fused_attn = False
    return nn.Sequential(nn.ZeroPad2d((0, missing, 0, missing)), net) if missing else _module(net)


def _published(name: str, **options: bool) -> Any:
    """torchvision's net of this name, untrained. To import torchvision takes as long as to import
    torch, which whatever needs no net is spared."""
    from torchvision.models import get_model

    return get_model(name, weights=None, **options)


def _keep_resolution(*parts: nn.Module) -> None:
    for part in parts:
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)


def _by_products(net: nn.Module) -> nn.Module:
    """`net` with matrix products for the narrow convolutions of its squeeze-and-excitation, which
    see one pixel: torch 2.15 corrupts memory in narrow channels_last convolutions on CPU."""
    for part in list(net.modules()):
        for name, layer in list(part.named_children()):
            if isinstance(layer, nn.Conv2d) and _is_narrow(layer):
                setattr(part, name, _product(layer))
    return net


def _is_narrow(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and min(layer.weight.shape[:2]) < _NARROWEST


def _product(convolution: nn.Conv2d) -> nn.Module:
    """The same map of images of one pixel, with the same weights."""
    inputs, outputs = convolution.in_channels, convolution.out_channels
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(convolution.weight.detach().flatten(1))
    if convolution.bias is not None:
        linear.bias = nn.Parameter(convolution.bias.detach())
    return nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, (outputs, 1, 1)))


def _module(net: nn.Module) -> nn.Module:
    return net
