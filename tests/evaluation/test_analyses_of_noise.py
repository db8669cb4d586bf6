"""Analyses that train nothing, against figures worked out in another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from materials import coloured, ignored, material, noised
from scipy.ndimage import gaussian_filter

from evaluation.analyses import parse


def drawn(labels: np.ndarray, by_class: bool, side: int = 4, seed: int = 0) -> np.ndarray:
    """Noise of -8 or 8 levels (N,3,side,side), drawn for each class or for each row."""
    generator = np.random.default_rng(seed)
    count = labels.max() + 1 if by_class else len(labels)
    noise = generator.choice([-8, 8], (count, 3, side, side))
    return noise[labels] if by_class else noise


def discriminant(vectors: np.ndarray, labels: np.ndarray) -> float:
    """CSD by loops."""
    classes = sorted(set(labels.tolist()))
    centres = {k: vectors[labels == k].mean(0) for k in classes}
    spread = {
        k: np.mean([np.sqrt(np.sum((v - centres[k]) ** 2)) for v in vectors[labels == k]])
        for k in classes
    }
    terms = [
        (spread[i] + spread[j]) / np.sqrt(np.sum((centres[i] - centres[j]) ** 2))
        for i in classes
        for j in classes
        if i != j
    ]
    return float(np.mean(terms))


@pytest.fixture
def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.analyses.pairs._CHUNK", 5)


@pytest.mark.usefixtures("in_small_batches")
def test_csd_is_that_of_a_loop_over_rows_and_classes_without_rows_do_not_count() -> None:
    labels = np.array([0, 1, 3, 3, 1, 0, 0, 1, 3, 3, 3, 1])
    generator = np.random.default_rng(3)
    noise = generator.integers(-8, 9, (12, 3, 4, 4))
    given = noised(noise, labels, 5)
    found = parse("csd").run(given, ignored).figures
    assert found["noise"] == pytest.approx(discriminant(noise.reshape(12, -1), labels))
    shuffled = np.random.default_rng(given.seed).permutation(labels)
    assert found["noise with shuffled labels"] == pytest.approx(
        discriminant(noise.reshape(12, -1), shuffled)
    )


def test_csd_of_clean_images_is_that_of_their_pixels() -> None:
    clean = coloured(40, 1)
    assert clean.targets is not None
    found = parse("csd").run(material(coloured(40, 2), clean), ignored)
    expected = discriminant(clean.pixels.reshape(40, -1).astype(float), clean.targets)
    assert found.figures["clean"] == pytest.approx(expected)
    assert f"clean images: {expected:.2f}" in found.sentence


def test_class_wise_noise_is_perfectly_separable_and_no_noise_is_not_at_all() -> None:
    labels = np.arange(12) % 3
    assert parse("csd").run(noised(drawn(labels, by_class=True), labels, 3), ignored).figures[
        "noise"
    ] == pytest.approx(0, abs=1e-6)
    silent = parse("csd").run(noised(np.zeros((12, 3, 4, 4), int), labels, 3), ignored)
    assert silent.figures["noise"] is None
    assert "no discriminant" in silent.sentence


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, 600)


def separability(noise: np.ndarray, labels: np.ndarray, text: str = "") -> dict[str, Any]:
    name = "linear-separability"
    return parse(f"{name}{text}").run(noised(noise, labels, labels.max() + 1), ignored).figures


def test_class_wise_noise_tells_the_class_of_every_row(labels: np.ndarray) -> None:
    found = separability(drawn(labels, by_class=True), labels, ":outer=5")
    assert [value for name, value in found.items() if "noise" in name] == [1, 1, 1, 1]
    assert max(found["clean linear unseen"], found["clean two-layer unseen"]) < 0.4


def test_random_noise_is_fitted_as_well_as_by_sklearn_and_tells_nothing(
    labels: np.ndarray,
) -> None:
    from sklearn.linear_model import LogisticRegression

    noise = drawn(labels, by_class=False, seed=7)
    found = separability(noise, labels, ":outer=10")
    assert found["noise linear unseen"] < 0.4
    order = np.random.default_rng((0, 600)).permutation(600)
    fitted = order % 5 != 4
    x = (noise.reshape(600, -1)[fitted] + 8) / 16
    peer = LogisticRegression(C=1e6, max_iter=2000).fit(x, labels[fitted])
    assert found["noise linear"] == pytest.approx(peer.score(x, labels[fitted]), abs=0.015)


def test_two_layers_find_what_no_linear_classifier_can() -> None:
    generator = np.random.default_rng(2)
    signs = generator.choice([-1, 1], (200, 2))
    noise = np.zeros((200, 1, 1, 2), int)
    noise[:, 0, 0] = 8 * signs
    found = separability(noise, (signs.prod(1) > 0).astype(np.int64), ":outer=10")
    assert found["noise two-layer"] == found["noise two-layer unseen"] == 1
    assert found["noise linear"] < 0.85


def test_classifiers_are_fitted_to_four_fifths_of_the_rows_scaled_to_one(
    monkeypatch: pytest.MonkeyPatch, labels: np.ndarray
) -> None:
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        "evaluation.analyses.linear_separability.fit", lambda net, x, *_: seen.append(x.numpy())
    )
    noise = drawn(labels, by_class=False)
    noise[0, 0, 0, 0] = 24
    separability(noise, labels, ":rows=500")
    assert [len(x) for x in seen] == [400] * 4
    assert set(np.unique(seen[0] * 32 - 8).tolist()) <= {-8, 8, 24}


def similarity(before: np.ndarray, after: np.ndarray) -> float:
    """SSIM of one channel (Wang et al. 2004), where the whole window lies inside."""
    x, y = before.astype(float), after.astype(float)

    def blurred(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    mx, my = blurred(x), blurred(y)
    vx, vy, vxy = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * mx * my + a) * (2 * vxy + b) / ((mx**2 + my**2 + a) * (vx + vy + b))
    return float(index.mean())


@pytest.mark.usefixtures("in_small_batches")
def test_visibility_is_that_of_a_loop_over_images() -> None:
    clean, protected = coloured(12, 1), coloured(12, 1, turned=1)
    protected.pixels[3] = clean.pixels[3]
    before, after = clean.pixels.astype(int), protected.pixels.astype(int)
    squares = [np.mean((a - b) ** 2) for a, b in zip(after, before, strict=True)]
    found = parse("visibility").run(material(protected, clean), ignored).figures
    ratios = [10 * np.log10(255**2 / s) for s in squares if s > 0]
    assert len(ratios) == 11
    assert found["psnr"] == pytest.approx(np.mean(ratios))
    assert found["max level"] == abs(after - before).max()
    assert found["mean shift"] == pytest.approx((after - before).mean())
    assert found["rms level"] == pytest.approx(np.mean(squares) ** 0.5)
    assert found["changed"] == pytest.approx(11 / 12)
    moved = ((after == 0) | (after == 255)) & (after != before)
    assert 0 < moved.mean() < ((after == 0) | (after == 255)).mean()
    assert found["clipped"] == pytest.approx(moved.mean())
    similar = [
        similarity(b, a)
        for bs, as_ in zip(before, after, strict=True)
        for b, a in zip(bs, as_, strict=True)
    ]
    assert found["ssim"] == pytest.approx(np.mean(similar), abs=5e-4)


def test_an_unchanged_release_is_said_to_be_one() -> None:
    found = parse("visibility").run(material(coloured(4, 1), coloured(4, 1)), ignored)
    assert found.figures["psnr"] is None
    assert "No pixel" in found.sentence
