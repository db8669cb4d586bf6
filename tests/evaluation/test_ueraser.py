"""UEraser: fractal noise, shuffled channels, TrivialAugment, and the worst of several draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from augmenting import CLASSES, augmented, hooks, random_images
from torch import Tensor, nn

from evaluation.countermeasures.ueraser import (
    _SPACES,
    OPERATIONS,
    Space,
    drawn,
    plasma,
    plasma_brightness,
    plasma_contrast,
    shuffled_channels,
    trivially_augmented,
)

pytestmark = pytest.mark.usefixtures("seeded")


def test_plasma_is_another_for_every_image_and_in_range() -> None:
    made = plasma(torch.Size([50, 3, 33, 20]))
    assert made.shape == (50, 3, 33, 20)
    assert made.min() >= 0
    assert made.max() <= 1
    assert abs(made.mean() - 0.5) < 0.05
    assert len(made[:, 0, 3, 3].unique()) == 50
    assert not torch.equal(made[:, 0], made[:, 1])


def test_plasma_is_smoother_than_noise_and_goes_on_in_detail() -> None:
    made = plasma(torch.Size([50, 3, 33, 33]))
    steps = made.diff(dim=3)
    assert 0.01 < steps.std() < 0.5 * made.std() * math.sqrt(2)
    middle = steps.abs().mean((0, 1, 2))
    assert middle.max() < 2 * middle.min()  # no seams where grids were joined


def test_plasma_is_as_rough_and_as_strong_as_in_the_authors_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Roughness 0.3 to 0.7, to a higher power with each refinement; intensity 0.5 to 1."""
    from evaluation.countermeasures import ueraser

    scales, refined = [], ueraser._refined

    def noted(grid: Tensor, scale: Tensor) -> Tensor:
        scales.append(scale.flatten())
        return refined(grid, scale)

    monkeypatch.setattr(ueraser, "_refined", noted)
    plasma(torch.Size([300, 1, 9, 9]))
    assert 0.3 <= scales[0].min() < 0.32
    assert 0.68 < scales[0].max() <= 0.7
    assert torch.allclose(scales[1], scales[0] ** 2)
    monkeypatch.setattr(ueraser, "plasma", torch.ones)
    black = torch.zeros(300, 1, 2, 2)
    brighter = plasma_brightness(black)[:, 0, 0, 0]
    assert 0.5 <= brighter.min() < 0.52
    assert 0.98 < brighter.max() <= 1
    assert torch.allclose(plasma_contrast(black + 0.6), torch.tensor(0.9))


def test_the_points_that_plasma_adds_are_means_where_nothing_is_drawn() -> None:
    from evaluation.countermeasures.ueraser import _refined

    corners = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    grid = _refined(corners, torch.zeros(1, 1, 1, 1))
    assert torch.allclose(grid, torch.tensor([[0, 0.5, 1], [0.5, 0.5, 0.5], [1, 0.5, 0]]))
    ramp = torch.arange(25.0).view(1, 1, 5, 5)
    finer = _refined(ramp, torch.zeros(1, 1, 1, 1))
    assert torch.allclose(finer[0, 0, ::2, ::2], ramp)
    inner = torch.arange(9) / 2 + 5 * torch.arange(9)[:, None] / 2
    assert torch.allclose(finer[0, 0, 1:-1, 1:-1], inner[1:-1, 1:-1])


def test_plasma_brightness_and_contrast_move_pixels_from_and_around_grey() -> None:
    grey = torch.full((30, 3, 16, 16), 0.5)
    assert torch.equal(plasma_contrast(grey), grey)
    moved = plasma_brightness(grey) - grey
    assert moved.min() < -0.1
    assert moved.max() > 0.1
    bright = plasma_contrast(grey + 0.1)
    assert bright.min() >= 0.5
    assert bright.max() > 0.7


def test_channels_are_shuffled_for_each_image_alone() -> None:
    x = torch.arange(3.0).view(1, 3, 1, 1).expand(60, 3, 4, 4)
    orders = {tuple(image[:, 0, 0].tolist()) for image in shuffled_channels(x)}
    assert len(orders) == 6
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    one = random_images(channels=1)
    assert torch.equal(shuffled_channels(one), one)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 17, 24), (1, 32, 32)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_trivial_augments_operations_are_torchvisions(
    name: str, shape: tuple[int, int, int]
) -> None:
    reference = _torchvision(name)
    pixels = torch.randint(
        256, (31, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    levels = torch.linspace(0, 1, 31)
    for sign in (1.0, -1.0):
        signs = torch.full((31, 1, 1, 1), sign)
        made = OPERATIONS[name](pixels.float(), levels.view(31, 1, 1, 1), signs).clamp(0, 255)
        expected = torch.stack([reference(pixels[k], k, sign) for k in range(31)]).float()
        off = ((made - expected).abs() > 2).float().mean()
        assert off < 0.02  # thresholds and sampling points that fall on a boundary


def _torchvision(name: str) -> Callable[[Tensor, int, float], Tensor]:
    from torchvision.transforms import v2

    policy = v2.TrivialAugmentWide()
    table, signed = policy._AUGMENTATION_SPACE[name]

    def change(image: Tensor, place: int, sign: float) -> Tensor:
        magnitudes = table(31, *image.shape[1:])
        value = 0.0 if magnitudes is None else float(magnitudes[place])
        changed: Tensor = policy._apply_image_or_video_transform(
            image, name, sign * value if signed else value, policy.interpolation, policy._fill
        )
        return changed

    return change


def test_the_operations_are_all_that_torchvision_has() -> None:
    from torchvision.transforms import v2

    assert list(OPERATIONS) == list(v2.TrivialAugmentWide._AUGMENTATION_SPACE)


@pytest.mark.parametrize(("space", "pixels"), [("narrow", 10), ("wide", 32)])
def test_a_space_says_how_far_images_are_shifted_at_most(
    space: Space, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation.countermeasures import ueraser

    monkeypatch.setattr(ueraser, "OPERATIONS", {"TranslateX": OPERATIONS["TranslateX"]})
    x = torch.ones(400, 1, 2, 64)
    black = (trivially_augmented(x, space) == 0).all(2).sum(2)
    assert black.max() == pixels
    assert black.min() == 0


@pytest.mark.parametrize(
    ("name", "furthest"),
    [
        *(("ShearX", 0.3), ("ShearY", 0.3), ("TranslateX", 10), ("TranslateY", 10), ("Rotate", 30)),
        *(("Brightness", 0.9), ("Color", 0.9), ("Contrast", 0.9), ("Sharpness", 0.9)),
        ("Posterize", 4),
    ],
)
def test_a_narrow_space_ends_where_its_paper_says(name: str, furthest: float) -> None:
    """The RA space of TrivialAugment, by torchvision's operations."""
    from torchvision.transforms import v2

    policy = v2.TrivialAugmentWide()
    pixels = torch.randint(
        256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    expected = policy._apply_image_or_video_transform(
        pixels, name, furthest, policy.interpolation, policy._fill
    ).float()
    reach = torch.full((5, 1, 1, 1), _SPACES["narrow"][name])
    made = OPERATIONS[name](pixels.float(), reach, torch.ones(5, 1, 1, 1)).clamp(0, 255)
    assert ((made - expected).abs() > 2).float().mean() < 0.02


def test_trivial_augment_draws_operation_and_magnitude_for_each_image() -> None:
    x = random_images(1).expand(300, -1, -1, -1)
    made = trivially_augmented(x, "wide")
    kinds = {image.numpy().tobytes() for image in made}
    assert len(kinds) > 150
    unchanged = (made * 255 - (x * 255).round()).abs().flatten(1).amax(1) < 0.01
    assert 10 < unchanged.sum() < 90


def test_ueraser_leaves_images_to_trivial_augment_where_nothing_else_is_likely() -> None:
    x = random_images(40)
    torch.manual_seed(7)
    calm = drawn(x, 0.0)
    torch.manual_seed(7)
    torch.rand(3 * 40)
    assert torch.equal(calm, trivially_augmented(x))
    wild = drawn(x, 1.0)
    assert (wild - x).abs().mean() > 1.3 * (calm - x).abs().mean()


class _Scorer(nn.Module):
    """Logits that depend on the images; every batch that it is asked about is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(3 * 16 * 16, CLASSES, generator=torch.Generator().manual_seed(4)) / 10
        )
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return x.flatten(1) @ self.weight


def test_ueraser_max_descends_the_greatest_loss_of_each_image() -> None:
    net, x, y = _Scorer(), random_images(8), torch.arange(8) % CLASSES
    loss = hooks("ueraser-max:draws=4").loss(net, x, y)
    assert len(net.seen) == 4
    assert not torch.equal(net.seen[0], net.seen[1])
    each = torch.stack([F.cross_entropy(net(seen), y, reduction="none") for seen in list(net.seen)])
    assert torch.allclose(loss, each.amax(0).mean())
    assert loss > each.mean(1).max()
    loss.backward()
    assert net.weight.grad is not None
    assert net.weight.grad.abs().sum() > 0


def test_ueraser_lite_is_one_draw_and_max_with_one_draw_is_the_same() -> None:
    net, x, y = _Scorer(), random_images(8), torch.arange(8) % CLASSES
    torch.manual_seed(5)
    lite = F.cross_entropy(net(augmented("ueraser-lite", x, y)[0]), y)
    torch.manual_seed(5)
    assert torch.allclose(hooks("ueraser-max:draws=1").loss(net, x, y), lite)


def test_ueraser_draws_the_same_images_under_autocast() -> None:
    """bfloat16 has 8 bits: images moved in it would not be those that Lite shows."""
    net, x, y = _Scorer(), random_images(8), torch.arange(8) % CLASSES
    torch.manual_seed(5)
    expected = drawn(x, 0.5)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = hooks("ueraser-max:draws=1").loss(net, x, y)
    assert torch.equal(net.seen[0], expected)
    assert loss.dtype == torch.float32
