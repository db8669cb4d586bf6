from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crafting.nets import Net, build, for_crafting, names, num_parameters
from crafting.nets.resize import resize

CPU = torch.device("cpu")


def _used(net: Net) -> Net:
    """The net with running statistics that are not those it was born with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        net.train()(torch.rand(4, 3, net.net_size, net.net_size, generator=generator))
    return net.eval()


@pytest.mark.parametrize(("height", "width", "size"), [(40, 28, 32), (20, 33, 32), (7, 64, 16)])
def test_resize_is_antialiased_bilinear(height: int, width: int, size: int) -> None:
    x = torch.rand(2, 3, height, width)
    expected = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    assert torch.allclose(resize(x, size), expected, atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_head_reads_features(name: str) -> None:
    net = _used(build(name, 5, net_size=28))
    x = torch.rand(2, 1, 30, 25)
    with torch.no_grad():
        features = net.features(x)
        assert features.shape == (2, net.head.in_features)
        assert torch.allclose(net.head(features), net(x))
        assert net(x).shape == (2, 5)


@pytest.mark.parametrize("name", names())
def test_folding_changes_nothing_but_speed(name: str) -> None:
    net = _used(build(name, 5, net_size=16))
    folded = for_crafting(net, CPU, torch.float32)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(folded.features(x), net.features(x), rtol=1e-4, atol=1e-4)
        assert torch.allclose(folded(x), net(x), rtol=1e-4, atol=1e-4)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (net, folded)]
    assert norms[1] < norms[0] if name == "densenet121" else norms[1] == 0
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", ["vgg-w16", "resnet10-w16", "resnet18"])
def test_larger_images_meet_a_stem_that_shrinks_them(name: str) -> None:
    net = build(name, 3, net_size=96).eval()
    outputs: list[tuple[int, int]] = []
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, i, out: outputs.append(out.shape[-2:]))
    with torch.no_grad():
        assert net(torch.rand(1, 3, 96, 96)).shape == (1, 3)
    assert outputs[2] <= (48, 48)


def test_a_net_in_training_stays_in_training() -> None:
    net = build("vgg-w16", 3, 16).train()
    assert not for_crafting(net, CPU).training
    assert all(module.training for module in net.modules())


def test_bfloat16_keeps_the_answers() -> None:
    net = _used(build("resnet10-w16", 5, net_size=16))
    x = torch.rand(8, 3, 16, 16)
    fast = for_crafting(net, CPU, torch.bfloat16)
    assert next(fast.body.parameters()).dtype == torch.bfloat16
    with torch.no_grad():
        assert fast(x).dtype == torch.float32
        assert torch.allclose(fast(x), net(x), atol=0.02)


def test_weights_depend_on_the_seed_and_nothing_else() -> None:
    first = build("vgg-w16", 3, 16, seed=1)
    torch.rand(7)
    again, other = build("vgg-w16", 3, 16, seed=1), build("vgg-w16", 3, 16, seed=2)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_small_nets_have_the_sizes_they_were_measured_with() -> None:
    sizes = {name: num_parameters(build(name, 10, 32)) for name in ("vgg-w16", "resnet10-w16")}
    assert sizes == {"vgg-w16": 73_178, "resnet10-w16": 308_826}


def test_no_convolution_is_narrow_enough_to_crash() -> None:
    for name in names():
        convolutions = [m for m in build(name, 3, 32).modules() if isinstance(m, nn.Conv2d)]
        assert all(c.in_channels >= 16 or c.in_channels == 3 for c in convolutions)


def test_autocast_leaves_resizing_alone() -> None:
    net = build("vgg-w16", 3, net_size=16).eval()
    x = torch.rand(2, 3, 23, 23)
    plain = net._prepared(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net._prepared(x), plain)


def test_a_misspelt_net_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        build("resent18", 3, 32)
