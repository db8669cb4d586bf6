"""What measuring says of changes that are known exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from evaluation.integrity import Visibility, measure

Images = list[np.ndarray]


def images(count: int, side: int = 16, channels: int = 3, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    return list(generator.integers(20, 230, (count, side, side, channels), dtype=np.uint8))


def noisy(clean: Images, levels: int = 8) -> Images:
    generator = np.random.default_rng(1)
    return [
        (image + generator.choice([-levels, levels], image.shape)).astype(np.uint8)
        for image in clean
    ]


def test_known_changes_give_known_figures() -> None:
    clean = images(3)
    brighter = [clean[0] + np.uint8(4), clean[1] + np.uint8(4), clean[2]]
    found = measure(clean, brighter)
    assert (found.rows, found.changed, found.max_level) == (3, 2, 4)
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / 16))
    assert found.shift == pytest.approx(8 / 3)
    assert found.rms_level == pytest.approx((16 * 2 / 3) ** 0.5)


def test_darker_pixels_do_not_wrap_around() -> None:
    clean = [np.full((16, 16, 1), 3, np.uint8)]
    found = measure(clean, [np.zeros((16, 16, 1), np.uint8)])
    assert (found.max_level, found.shift) == (3, -3)


def test_identical_images_have_no_psnr_and_full_similarity() -> None:
    clean = images(2)
    found = measure(clean, clean)
    assert (found.psnr, found.max_level) == (None, 0)
    assert found.ssim == pytest.approx(1, abs=1e-6)


def test_ssim_is_the_published_one() -> None:
    clean = images(4, side=32)
    protected = noisy(clean)
    before, after = (
        torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float() for x in (clean, protected)
    )
    expected = structural_similarity_index_measure(after, before, data_range=255.0)
    assert measure(clean, protected).ssim == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("side", [1, 5, 10, 11])
def test_images_smaller_than_the_window_are_measured(side: int) -> None:
    clean = images(2, side=side)
    assert 0 < measure(clean, noisy(clean)).ssim < 1


def test_a_single_pixel_is_as_similar_as_a_plain_area_of_it() -> None:
    """Luminance term of Wang et al. 2004, eq. 6: there is no contrast and no structure."""
    before, after = 60.0, 90.0
    stable = (0.01 * 255) ** 2
    expected = (2 * before * after + stable) / (before**2 + after**2 + stable)
    found = measure([np.full((1, 1, 3), before, np.uint8)], [np.full((1, 1, 3), after, np.uint8)])
    assert found.ssim == pytest.approx(expected, abs=1e-4)


def test_parts_merge_to_the_whole_with_any_mix_of_sizes() -> None:
    clean = images(5) + images(3, side=24) + images(2, channels=1)
    protected = noisy(clean)
    parts = measure(clean[:4], protected[:4]).merge(measure(clean[4:], protected[4:]))
    whole = measure(clean, protected)
    assert (parts.rows, parts.max_level, parts.squared_error) == (10, 8, whole.squared_error)
    assert parts.ssim == pytest.approx(whole.ssim)
    assert parts.psnr == pytest.approx(whole.psnr)


def test_figures_survive_json() -> None:
    found = measure(images(2), noisy(images(2)))
    assert Visibility.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_images_of_other_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="image 1 is"):
        measure(images(2), [images(1)[0], images(1, side=8)[0]])


@pytest.mark.parametrize("shape", [(60, 50, 3), (45, 50, 3), (201, 33, 1), (200, 21, 3)])
def test_large_images_are_measured_in_bands_as_they_would_be_whole(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(2)
    clean = list(generator.integers(20, 230, (2, *shape), dtype=np.uint8))
    whole = measure(clean, noisy(clean)).to_json()
    monkeypatch.setattr("evaluation.integrity._BAND_VALUES", 1)
    assert measure(clean, noisy(clean)).to_json() == pytest.approx(whole, rel=1e-6)
