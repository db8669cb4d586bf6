"""Neighbours' votes, projections, and the smallest releases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from misled import COLOURS, CPU, RECIPE, coloured, healed, scored, setting, tried
from torch import Tensor

from crafting.batch import PixelSplit
from crafting.nets import Net
from crafting.training import train
from evaluation.countermeasures import parse
from evaluation.countermeasures.knn import _CHUNK, _Vote
from evaluation.countermeasures.ortho_proj import _logistic_weights, projected
from evaluation.trial import Outcome, TrialSpec
from evaluation.verify import Splits, run

ALL = ["refit-head", "dfr", "renamed", "early-stop", "finetune", "simclr", "knn", "ortho-proj"]


def test_neighbours_vote(misled: tuple[Net, PixelSplit]) -> None:
    _, predictor = healed("knn:neighbours=7", misled)
    x = next(coloured(8, 4).batches(8)).x
    votes = predictor(x)
    assert votes.shape == (8, 4)
    assert votes.sum(1).tolist() == [7.0] * 8
    assert scored(predictor, coloured(80, 2, shift=1)) > 0.9


def test_the_nearest_are_found_across_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(2 * _CHUNK + 100, 4, generator=generator)
    asked = torch.randn(5, 4, generator=generator)
    labels = torch.randint(10, (len(bank),), generator=generator)

    class Itself(torch.nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return x

    with torch.autocast("cpu", torch.bfloat16):
        votes = _Vote(Itself(), bank, labels, 30, 10)(asked)  # type: ignore[arg-type]
    cosines = torch.cosine_similarity(asked[:, None], bank[None], dim=2)
    for row, cosine in enumerate(cosines):
        nearest = labels[cosine.argsort(descending=True)[:30]]
        assert votes[row].tolist() == nearest.bincount(minlength=10).tolist()


def test_there_are_no_more_neighbours_than_rows(misled: tuple[Net, PixelSplit]) -> None:
    hooks = parse("knn").hooks(setting())
    predictor = hooks.finish(misled[0], coloured(6, 1), train)  # type: ignore[arg-type]
    assert predictor(torch.rand(2, 3, 16, 16)).sum(1).tolist() == [6.0, 6.0]
    with pytest.raises(ValueError, match="neighbours is a count of at least 1"):
        parse("knn:neighbours=0")


def striped(count: int, seed: int, tint: float = 0) -> PixelSplit:
    """Stripes whose width and direction are the class, and whose place is not: no linear classifier
    tells them apart. A tint is a linear shortcut."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    at = np.arange(16) * 2 * np.pi / np.where(labels < 2, 4, 8)[:, None]
    wave = np.sin(at + generator.uniform(0, 2 * np.pi, (count, 1)))
    lying, standing = np.broadcast_arrays(wave[:, :, None], wave[:, None, :])
    stripes = np.where((labels % 2 == 0)[:, None, None], lying, standing)[:, None]
    pixels = 128 + 50 * stripes + tint * (COLOURS[labels] - 128)[:, :, None, None]
    noisy = pixels + generator.normal(0, 10, (count, 3, 16, 16))
    return PixelSplit(np.clip(noisy, 0, 255).astype(np.uint8), np.arange(count), labels, 4)


def test_projection_removes_a_linear_shortcut() -> None:
    release, test = striped(400, 1, tint=0.5), striped(80, 2)
    recipe = replace(RECIPE, epochs=6)
    finals = [
        scored(tried(text, release, recipe=recipe)[1], test) for text in ("none", "ortho-proj")
    ]
    assert finals[0] < 0.6
    assert finals[1] > 0.9


def test_a_projected_split_keeps_its_mean_and_little_that_is_linear() -> None:
    release = striped(400, 1, tint=0.5)
    left = projected(release, CPU)
    means = [
        np.stack([split.pixels[split.targets == k].mean((0, 2, 3)) for k in range(4)])
        for split in (release, left)
    ]
    assert np.abs(means[1].mean(0) - means[0].mean(0)).max() < 2
    apart = [np.linalg.norm(mean[:3] - mean[:3].mean(0), axis=1) for mean in means]
    assert (apart[1] < 0.2 * apart[0]).all()
    assert np.array_equal(left.numbered(), release.numbered())


def test_large_images_are_projected_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, whose gradients make up a batch's; 1,100 rows are a whole batch and a part."""
    split = striped(1100, 1, tint=0.5)
    whole = projected(split, CPU).pixels.astype(int)
    monkeypatch.setattr("evaluation.countermeasures.ortho_proj._MOST_NUMBERS", 0)
    assert np.abs(projected(split, CPU).pixels - whole).max() <= 1


def test_the_regression_is_plain_gradient_descent_on_batches_of_1024() -> None:
    split = striped(1100, 1)
    layer = torch.nn.Linear(768, 4, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [10, 15])
    for epoch in range(20):
        for batch in split.batches(1024, epoch):
            loss = torch.nn.functional.cross_entropy(layer(batch.x.flatten(1)), batch.labels())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    assert torch.allclose(_logistic_weights(split, CPU), layer.weight, atol=1e-4)


def tiny(channels: int, size: int) -> tuple[PixelSplit, PixelSplit]:
    """Two classes: 16 rows to learn from and 8 clean ones."""
    generator = np.random.default_rng(0)

    def split(count: int) -> PixelSplit:
        labels = np.arange(count) % 2
        pixels = generator.integers(0, 128, (count, channels, size, size))
        pixels = (pixels + 127 * labels[:, None, None, None]).astype(np.uint8)
        return PixelSplit(pixels, np.arange(count), labels, 2)

    return split(16), split(8)


def verified(text: str, weights: str, channels: int, size: int) -> Outcome:
    text = f"finetune:weights={weights}" if text == "finetune" else text
    spec = TrialSpec(
        victim="vgg-w16", countermeasure=text, seed=0, data="protected", preset="quick", epochs=2
    )
    learnt, test = tiny(channels, size)
    splits = Splits(learnt, test)
    return run(replace(spec, net_size=16), splits, device=CPU, progress=lambda share: None)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 40)])
def test_the_smallest_release_is_tried_and_twice_alike(
    text: str, channels: int, size: int, weights: Path
) -> None:
    first, second = (verified(text, str(weights), channels, size) for _ in range(2))
    assert (first.final, first.confusion) == (second.final, second.confusion)
    assert [e.test_accuracy for e in first.curve] == [e.test_accuracy for e in second.curve]
    assert np.sum(first.confusion) == first.test_rows == (4 if parse(text).clean_images else 8)
