"""Each countermeasure that changes images does to them what its name says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from augmenting import CLASSES, augmented, hooks, random_images
from torch import Tensor

from crafting.batch import PixelSplit
from evaluation.countermeasures import parse

pytestmark = pytest.mark.usefixtures("seeded")

STORED = [
    "gaussian-smoothing",
    "gaussian-smoothing:kernel=3,sigma=0.8",
    "mean-filter",
    "median-filter",
    "jpeg",
    "bit-depth",
]

FRESH = ["cutout", "cutmix:probability=1", "mixup:probability=1", "random-noise", "ueraser-lite"]


def pictures(count: int = 6, channels: int = 3, height: int = 16, width: int = 16) -> PixelSplit:
    """Gradients with some noise: neither flat nor all noise."""
    rng = np.random.default_rng(1)
    slope = np.linspace(40, 200, height)[:, None] + np.linspace(0, 40, width)
    pixels = slope + rng.normal(0, 12, (count, channels, height, width))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return PixelSplit(pixels, 3 * np.arange(count), np.arange(count) % CLASSES, CLASSES)


def stored(text: str, split: PixelSplit) -> np.ndarray:
    """The pixels of the split after an edit of the stored images."""
    made = hooks(text).data(split)
    assert isinstance(made, PixelSplit)
    return made.pixels


@pytest.mark.parametrize("text", STORED)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16), (3, 9, 20), (3, 3, 5)])
def test_stored_images_change_but_not_their_number_or_shape(
    text: str, shape: tuple[int, int, int]
) -> None:
    split = pictures(5, *shape)
    before = split.pixels.copy()
    view = split.take([0, 6, 9])
    made = hooks(text).data(view)
    assert isinstance(made, PixelSplit)
    assert made.pixels.shape == (3, *shape)
    assert made.pixels.dtype == np.uint8
    assert (made.pixels != before[[0, 2, 3]]).reshape(3, -1).any(1).all()
    assert made.rows.tolist() == [0, 6, 9]
    assert made.targets is not None
    assert made.targets.tolist() == [0, 2, 3]
    assert np.array_equal(split.pixels, before)


@pytest.mark.parametrize("text", STORED)
def test_what_is_stored_draws_nothing(text: str) -> None:
    before = torch.get_rng_state()
    assert np.array_equal(stored(text, pictures()), stored(text, pictures()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("text", STORED[:4])
def test_filters_leave_flat_images_and_their_edges_alone(text: str) -> None:
    pixels = np.full((2, 3, 12, 12), 170, dtype=np.uint8)
    assert (stored(text, PixelSplit(pixels, np.arange(2), np.arange(2), CLASSES)) == 170).all()


def _fine_detail(pixels: np.ndarray) -> float:
    """The energy of the highest half of the frequencies along either side."""
    spectrum = np.abs(np.fft.rfft2(pixels.astype(float)))
    return float((spectrum[..., 4:12, 4:] ** 2).sum())


@pytest.mark.parametrize("text", STORED[:4])
def test_filters_lower_high_frequencies(text: str) -> None:
    assert _fine_detail(stored(text, pictures())) < 0.5 * _fine_detail(pictures().pixels)


def test_gaussian_smoothing_is_the_usual_filter() -> None:
    from torchvision.transforms.v2.functional import gaussian_blur

    split = pictures(height=24, width=24)
    for text, kernel, sigma in (("kernel=3,sigma=0.8", 3, 0.8), ("sigma=1.0", 7, 1.0)):
        expected = gaussian_blur(
            torch.from_numpy(split.pixels).float(), [kernel, kernel], [sigma, sigma]
        )
        inner = slice(kernel // 2, -(kernel // 2))  # edges are continued in other ways
        difference = stored(f"gaussian-smoothing:{text}", split) - expected.numpy()
        assert np.abs(difference[..., inner, inner]).max() <= 0.51


def test_a_wide_gaussian_smooths_more_than_a_small_one() -> None:
    small, wide = (
        _fine_detail(stored(text, pictures()))
        for text in ("gaussian-smoothing:kernel=3,sigma=0.8", "gaussian-smoothing:sigma=2")
    )
    assert wide < small


def _neighbourhoods(pixels: np.ndarray) -> np.ndarray:
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))


def test_mean_and_median_are_those_of_the_neighbourhood() -> None:
    around = _neighbourhoods(pictures().pixels)
    mean = stored("mean-filter", pictures()) - around.mean((-2, -1))
    assert np.abs(mean).max() <= 0.51
    assert np.array_equal(stored("median-filter", pictures()), np.median(around, (-2, -1)))


def test_lower_jpeg_quality_changes_more() -> None:
    clean = pictures(height=32, width=32).pixels.astype(int)
    errors = [
        np.abs(stored(f"jpeg:quality={quality}", pictures(height=32, width=32)) - clean).mean()
        for quality in (95, 50, 10)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 40


def test_jpeg_is_what_a_file_gives_back() -> None:
    from io import BytesIO

    from PIL import Image

    split, file = pictures(1, height=32, width=24), BytesIO()
    Image.fromarray(split.pixels[0].transpose(1, 2, 0)).save(file, "JPEG", quality=10)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    assert np.array_equal(stored("jpeg", split)[0], expected)


def test_bit_depth_keeps_the_highest_bits() -> None:
    pixels = pictures().pixels
    assert np.array_equal(stored("bit-depth", pictures()), pixels & 0b11000000)
    assert np.array_equal(stored("bit-depth:bits=5", pictures()), pixels & 0b11111000)


@pytest.mark.parametrize("text", FRESH)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 7])
def test_augmented_images_stay_in_range_and_are_drawn_anew(
    text: str, channels: int, count: int
) -> None:
    x = random_images(count, channels)
    kept = x.clone()
    first, _ = augmented(text, x)
    second, _ = augmented(text, x)
    assert first.shape == x.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, second)
    assert torch.equal(x, kept)
    torch.manual_seed(0)
    assert torch.equal(augmented(text, x)[0], first)


def test_cutout_blackens_one_rectangle_in_a_place_of_each_images_own() -> None:
    x = torch.ones(200, 3, 16, 20)
    cut, labels = augmented("cutout:size=0.5", x)
    holes = cut[:, 0] == 0
    assert torch.equal(cut, (~holes).float()[:, None].expand_as(cut))
    tall, wide = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), tall * wide)
    assert (tall.max(), wide.max()) == (8, 10)
    assert (tall.min(), wide.min()) == (4, 5)  # the centre is inside
    assert len({tuple(hole.flatten().tolist()) for hole in holes}) > 100
    assert holes.any(0).all()
    assert torch.equal(labels, torch.arange(200) % CLASSES)


def test_cutmix_labels_are_the_shares_of_the_area() -> None:
    x = torch.arange(8.0)[:, None, None, None].expand(8, 1, 16, 16) / 8
    shares_seen = set()
    for _ in range(20):
        mixed, y = augmented("cutmix:probability=1", x, torch.arange(8) % CLASSES)
        assert torch.allclose(y.sum(1), torch.ones(8))
        own = (mixed == x).float().mean((1, 2, 3))
        assert torch.allclose(y[torch.arange(8), torch.arange(8) % CLASSES], own)
        assert torch.allclose(y[torch.arange(8), (torch.arange(8) - 1) % CLASSES], 1 - own)
        assert set(mixed.unique().tolist()) <= set(x.unique().tolist())
        shares_seen.add(own[0].item())
    assert len(shares_seen) > 5


def test_mixup_blends_images_and_labels_alike() -> None:
    x, y = random_images(8), torch.arange(8) % CLASSES
    blended, shares = augmented("mixup:probability=1", x, y)
    own = shares[0, 0]
    assert 0 < own < 1
    assert torch.allclose(blended, own * x + (1 - own) * x.roll(1, 0), atol=1e-6)
    expected = own * F.one_hot(y, CLASSES) + (1 - own) * F.one_hot(y.roll(1), CLASSES)
    assert torch.allclose(shares, expected)


@pytest.mark.parametrize("name", ["cutmix", "mixup"])
def test_a_batch_is_mixed_with_the_probability_given(name: str) -> None:
    x = random_images(4)
    soft = [augmented(name, x)[1].dim() == 2 for _ in range(200)]
    assert 70 < sum(soft) < 130
    assert not any(augmented(f"{name}:probability=0", x)[1].dim() == 2 for _ in range(20))


def test_a_large_alpha_mixes_halves() -> None:
    def own(name: str) -> Tensor:
        text = f"{name}:alpha=500,probability=1"
        return torch.stack([augmented(text, random_images(2))[1][0, 0] for _ in range(20)])

    assert ((own("mixup") - 0.5).abs() < 0.1).all()
    assert (own("cutmix") > 0.45).all()
    assert (own("cutmix") < 0.9).all()  # a rectangle in a corner is cut off on two sides


def test_random_noise_has_the_strength_and_kind_asked_for() -> None:
    grey = torch.full((20, 3, 16, 16), 0.5)
    uniform = augmented("random-noise:levels=16", grey)[0] - grey
    gaussian = augmented("random-noise:levels=16,kind=gaussian", grey)[0] - grey
    assert uniform.abs().max() <= 16 / 255 + 1e-6
    assert math.isclose(uniform.std().item(), 16 / 255 / math.sqrt(3), rel_tol=0.05)
    assert math.isclose(gaussian.std().item(), 16 / 255, rel_tol=0.05)
    assert gaussian.abs().max() > 2 * 16 / 255
    assert abs(uniform.mean()) < 0.001
    assert not torch.equal(uniform[0], uniform[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cutout:size=0", "cutout size is a share above 0"),
        ("cutout:size=1.5", "cutout size is a share above 0"),
        ("cutmix:alpha=0", "cutmix alpha is above 0"),
        ("cutmix:probability=2", "cutmix probability is from 0 to 1"),
        ("mixup:alpha=-1", "mixup alpha is above 0"),
        ("mixup:probability=-0.1", "mixup probability is from 0 to 1"),
        ("gaussian-smoothing:sigma=0", "sigma is above 0 pixels"),
        ("gaussian-smoothing:kernel=4", "odd number of pixels from 3, not 4"),
        ("mean-filter:kernel=2", "odd number of pixels from 3, not 2"),
        ("median-filter:kernel=1", "odd number of pixels from 3, not 1"),
        ("random-noise:levels=-1", "levels are from 0 to 255"),
        ("random-noise:kind=salt", "one of gaussian, uniform"),
        ("jpeg:quality=0", "quality is from 1 to 100, not 0"),
        ("bit-depth:bits=8", "bits are from 1 to 7, not 8"),
        ("ueraser-lite:probability=1.1", "ueraser-lite probability is from 0 to 1"),
        ("ueraser-max:draws=0", "draws are at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
