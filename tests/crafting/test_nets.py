from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import SqueezeExcitation

from crafting.nets import ARCHITECTURES, Net, build, for_crafting, full, names, num_parameters
from crafting.nets import resize as resizing
from crafting.nets.resize import resize
from crafting.nets.wide import wide_resnet

CPU = torch.device("cpu")


def _used(net: Net) -> Net:
    """The net with running statistics that are not those it was born with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        net.train()(torch.rand(4, 3, net.net_size, net.net_size, generator=generator))
    return net.eval()


@pytest.fixture(scope="module", params=names())
def used(request: pytest.FixtureRequest) -> tuple[str, Net]:
    """Every net by name, for 5 classes and images of 18x18."""
    return request.param, _used(build(request.param, 5, net_size=18))


@pytest.mark.parametrize(("height", "width", "size"), [(40, 28, 32), (20, 33, 32), (7, 64, 16)])
def test_resize_is_antialiased_bilinear(height: int, width: int, size: int) -> None:
    x = torch.rand(2, 3, height, width)
    expected = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    assert torch.allclose(resize(x, size), expected, atol=1e-5)


def test_images_resized_for_a_prediction_may_have_gradients_later() -> None:
    with torch.inference_mode():
        resize(torch.rand(1, 3, 9, 11), 13)  # a size that no other test has
    x = torch.rand(1, 3, 9, 11, requires_grad=True)
    (gradient,) = torch.autograd.grad(resize(x, 13).sum(), x)
    assert gradient.isfinite().all()


def test_head_reads_features(used: tuple[str, Net]) -> None:
    name, net = used
    x = torch.rand(2, 1, 20, 15)
    with torch.no_grad():
        features = net.features(x)
        assert features.shape == (2, ARCHITECTURES[name].width(18))
        assert torch.allclose(net.head(features), net(x))
        assert net(x).shape == (2, 5)


def test_folding_changes_nothing_but_speed(used: tuple[str, Net]) -> None:
    name, net = used
    folded = for_crafting(net, CPU, torch.float32)
    x = torch.rand(2, 3, 18, 18)
    with torch.no_grad():
        assert torch.allclose(folded.features(x), net.features(x), rtol=1e-4, atol=1e-4)
        assert torch.allclose(folded(x), net(x), rtol=1e-4, atol=1e-4)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (net, folded)]
    # Some of theirs come before a convolution.
    before = name in ("densenet121", "wide-resnet-34-10")
    assert 0 < norms[1] < norms[0] if before else norms[1] == 0
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(p.requires_grad for p in net.parameters())


def test_no_convolution_is_narrow_enough_to_crash(used: tuple[str, Net]) -> None:
    convolutions = [m for m in used[1].modules() if isinstance(m, nn.Conv2d)]
    assert all(c.in_channels >= 16 or c.in_channels == 3 for c in convolutions)
    assert all(c.out_channels >= 16 for c in convolutions)


def test_products_compute_what_narrow_convolutions_did() -> None:
    torch.manual_seed(0)
    block = SqueezeExcitation(32, 8)
    x = torch.rand(2, 32, 6, 6)
    expected = block(x)
    ours = full._by_products(block)
    assert not any(isinstance(layer, nn.Conv2d) for layer in ours.modules())
    assert torch.allclose(ours(x), expected, atol=1e-6)


def test_wide_net_is_the_one_of_its_paper() -> None:
    net = build("wide-resnet-34-10", 10, 32)
    assert num_parameters(net) == 46_160_474
    convolutions = [m for m in net.body.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 34
    assert len([c for c in convolutions if c.kernel_size == (1, 1)]) == 3  # shortcuts
    assert {c.out_channels for c in convolutions} == {16, 160, 320, 640}
    with pytest.raises(ValueError, match="6n \\+ 4 layers deep, which 33"):
        wide_resnet(33, 1, small=True)


def test_a_wide_block_adds_to_what_it_is_given() -> None:
    block = wide_resnet(16, 1, small=True).get_submodule("1.1")
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(block(x), x)
        nn.init.zeros_(block.get_parameter("conv2.weight"))
        assert torch.equal(block(x), x)


@pytest.mark.parametrize(("size", "patches"), [(16, 16), (30, 64), (64, 256), (80, 25)])
def test_a_transformer_sees_whole_patches_of_every_part(size: int, patches: int) -> None:
    net = build("deit-tiny", 3, size).eval()
    seen: list[torch.Size] = []
    embed = next(m for n, m in net.named_modules() if n.endswith("patch_embed"))
    embed.register_forward_hook(lambda m, i, out: seen.append(out.shape))
    x = torch.rand(1, 3, size, size, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x)
    assert seen == [(1, patches, 192)]
    assert (gradient.abs().sum(1) > 0).all()


def test_a_transformer_has_second_derivatives() -> None:
    net = build("deit-tiny", 3, 16).eval()
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(gradient.square().sum(), x)
    assert (again != 0).any()


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


def test_autocast_leaves_resizing_alone() -> None:
    net = build("vgg-w16", 3, net_size=16).eval()
    x = torch.rand(2, 3, 23, 23)
    plain = net._prepared(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net._prepared(x), plain)


def test_a_misspelt_net_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        build("resent18", 3, 32)


@pytest.mark.parametrize("shape", [(2, 3, 40, 30), (1, 1, 33, 90), (1, 3, 8, 8)])
def test_large_images_are_made_smaller_piece_by_piece(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    whole = resizing.resized(pixels, 8)
    assert whole.dtype == torch.uint8
    expected = resize(pixels.float(), 8).round()
    assert (whole - expected).abs().max() == 0
    monkeypatch.setattr(resizing, "_PIECE", 100)
    assert (resizing.resized(pixels, 8).float() - whole.float()).abs().max() <= 1
