from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.budget import L2
from crafting.method import Context, State
from crafting.registry import configure, methods
from crafting.runner import protect

CLASSES = 3
Contexts = Callable[..., Context]
Splits = Callable[..., PixelSplit]


def _fitted(name: str, split: PixelSplit, ctx: Context, **changes: Any) -> tuple[Any, State]:
    method = replace(methods()[name].paper, **changes)
    return method, method.fit(split, ctx)


def _grey(rows: int, *shape: int) -> Batch:
    """Images half-way between black and white, so that nothing is clipped, of classes in turn."""
    x = torch.full((rows, *shape), 128 / 255)
    return Batch(torch.arange(rows), x, torch.arange(rows) % CLASSES)


def _noise(name: str, batch: Batch, split: PixelSplit, ctx: Context, **changes: Any) -> Tensor:
    method, state = _fitted(name, split, ctx, **changes)
    return method.crafter(state, ctx)(batch) - batch.x


@pytest.mark.parametrize("kernel", [3, 5])
def test_cuda_is_a_convolution_by_hand(split: PixelSplit, ctx: Context, kernel: int) -> None:
    method, state = _fitted("cuda", split, ctx, kernel=kernel)
    batch = Batch(torch.arange(4), torch.rand(4, 3, 5, 6), torch.tensor([2, 0, 1, 2]))
    crafted = method.crafter(state, ctx)(batch)
    for image, label, got in zip(batch.x, batch.labels(), crafted, strict=True):
        wanted = _convolved_by_hand(image.numpy(), state["kernels/kernels"][label].numpy())
        np.testing.assert_allclose(got.numpy(), wanted / wanted.max(), atol=1e-6)
    assert crafted.flatten(1).amax(1).tolist() == [1.0] * 4


def _convolved_by_hand(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    channels, height, width = image.shape
    half = len(kernel) // 2
    out = np.zeros_like(image)
    for c, i, j in np.ndindex(channels, height, width):
        for p, q in np.ndindex(kernel.shape):
            row, column = i + p - half, j + q - half
            if 0 <= row < height and 0 <= column < width:
                out[c, i, j] += kernel[p, q] * image[c, row, column]
    return out


def test_cuda_kernels_have_a_single_one(split: PixelSplit, ctx: Context) -> None:
    kernels = _fitted("cuda", split, ctx)[1]["kernels/kernels"].flatten(1)
    assert ((kernels == 1).sum(1) == 1).all()
    assert (kernels[kernels != 1] < 0.3).all()
    assert kernels[kernels != 1].max() > 0.2
    assert len({tuple(each.tolist()) for each in kernels}) == CLASSES


def test_cuda_leaves_the_dark_dark(split: PixelSplit, ctx: Context) -> None:
    method, state = _fitted("cuda", split, ctx)
    dark = replace(_grey(4, 3, 8, 8), x=torch.zeros(4, 3, 8, 8))
    assert (protect(method.crafter(state, ctx), method.budget, dark) == 0).all()


def test_lsp_draws_from_the_cloud_of_the_class(split: PixelSplit, ctx: Context) -> None:
    batch = _grey(6, 3, 16, 16)
    state = _fitted("lsp", split, ctx)[1]
    noise = _noise("lsp", batch, split, ctx)
    normals = ctx.noise(batch.rows, "lsp", (48,)).numpy()
    for row, label in enumerate(batch.labels().tolist()):
        centre, transform = (
            state[f"clouds/{part}"][label].numpy() for part in ("centres", "transforms")
        )
        point = np.array([centre[i] + transform[i] @ normals[row] for i in range(48)])
        squares = np.kron(point.reshape(3, 4, 4), np.ones((1, 4, 4)))
        wanted = 1.304 * squares / np.linalg.norm(squares)
        np.testing.assert_allclose(noise[row].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_line_tells_lsp_noise_apart(split: PixelSplit, ctx: Context, channels: int) -> None:
    noise = _noise("lsp", _grey(240, channels, 16, 24), _many(240), _counted(ctx)).flatten(1)
    assert torch.allclose(noise.norm(dim=1), torch.tensor(1.304), atol=1e-4)
    seen, unseen = noise[:150], noise[150:]
    wanted = torch.eye(CLASSES)[torch.arange(240) % CLASSES]
    weights = torch.linalg.pinv(seen.double()) @ wanted[:150].double()
    assert ((unseen.double() @ weights).argmax(1) == wanted[150:].argmax(1)).all()
    assert len({tuple(each) for each in noise.tolist()}) == 240


def _many(rows: int) -> PixelSplit:
    pixels = np.random.default_rng(1).integers(0, 256, (rows, 3, 16, 16), dtype=np.uint8)
    return PixelSplit(pixels, np.arange(rows), np.arange(rows) % CLASSES, CLASSES)


def _counted(ctx: Context) -> Context:
    return replace(ctx, row_key=lambda row: f"image {row}".encode())


def test_lsp_centres_are_different_corners(split: PixelSplit, context: Contexts) -> None:
    # With 4 corners of 2 squares, 4 classes take all of them.
    grey = replace(split, pixels=split.pixels[:, :1], num_classes=4)
    state = _fitted("lsp", grey, context(grey), cells=2)[1]
    assert (state["clouds/centres"].abs() == 10).all()
    one = replace(grey, num_classes=2)
    corners = _fitted("lsp", one, context(one), cells=1)[1]["clouds/centres"]
    assert sorted(corners.flatten().tolist()) == [-10, 10]


def test_ar_is_a_scan_by_hand() -> None:
    from crafting.methods.autoregressive import num_start, signals

    rng = np.random.default_rng(5)
    height, width = 5, 7
    filters = rng.normal(size=(2, 2, 3, 3)) / 3
    filters[..., 2, 2] = 0
    start = rng.normal(size=(2, 2, num_start(height, width)))
    got = signals(torch.from_numpy(filters), torch.from_numpy(start), height, width)
    for n, c in np.ndindex(2, 2):
        wanted = _scanned_by_hand(filters[n, c], start[n, c], height + 4, width + 4)
        np.testing.assert_allclose(got[n, c].numpy(), wanted[4:, 4:], atol=1e-12)


def _scanned_by_hand(b: np.ndarray, start: np.ndarray, height: int, width: int) -> np.ndarray:
    signal = np.zeros((height, width))
    values = iter(start)
    for i, j in np.ndindex(height, width):
        if i < 2 or j < 2:
            signal[i, j] = next(values)
        else:
            signal[i, j] = (b * signal[i - 2 : i + 1, j - 2 : j + 1]).sum()
    assert next(values, None) is None
    return signal


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 20, 35)])
def test_ar_noise_is_nothing_to_its_own_filter_alone(
    split: PixelSplit, ctx: Context, shape: tuple[int, ...]
) -> None:
    batch = replace(_grey(12, *shape), x=torch.full((12, *shape), 0.5, dtype=torch.float64))
    filters = _fitted("ar", split, ctx, candidates=20)[1]["filters/filters"]
    noise = _noise("ar", batch, split, ctx, candidates=20)
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.ones(12, dtype=torch.float64))
    for image, label in zip(noise, batch.labels(), strict=True):
        for k in range(CLASSES):
            residual = _residual(image, filters[k])
            size = image.abs().mean()
            assert residual < 1e-12 * size if k == label else residual > 0.05 * size


def _residual(image: Tensor, filters: Tensor) -> float:
    """Mean distance of pixels from what the filters (C,3,3) make of their neighbours."""
    total = torch.zeros_like(image[:, 2:, 2:])
    for p, q in np.ndindex(3, 3):
        height, width = image.shape[1] - 2, image.shape[2] - 2
        part = image[:, p : p + height, q : q + width]
        total += filters[: len(image), p, q].view(-1, 1, 1) * part
    return float((total - image[:, 2:, 2:]).abs().mean())


def test_ar_filters_sum_to_one_and_do_not_grow(split: PixelSplit, context: Contexts) -> None:
    from crafting.methods.autoregressive import num_start, signals

    large = context(split, shape=(3, 16, 64))
    filters = _fitted("ar", split, large, candidates=20)[1]["filters/filters"]
    assert torch.allclose(filters.sum((2, 3)), torch.ones(CLASSES, 3, dtype=torch.float64))
    assert (filters[..., 2, 2] == 0).all()
    assert (filters < 0).any((2, 3)).all()  # of normal numbers
    start = torch.from_numpy(np.random.default_rng(6).normal(size=(CLASSES, 3, num_start(64, 64))))
    assert (signals(filters, start, 64, 64).square().mean((2, 3)).sqrt() < 2).all()


def test_ar_with_more_candidates_tells_classes_further_apart() -> None:
    from crafting.methods.autoregressive import _different, _steady, matching, num_start, signals

    def least(candidates: int) -> float:
        generator = np.random.default_rng(8)
        filters = _steady(generator, 8 + candidates, (16,)).view(-1, 1, 3, 3)
        filters = filters[_different(generator, filters, 8)]
        start = torch.from_numpy(generator.normal(size=(8, 1, num_start(64, 64))))
        noise = signals(filters, start, 64, 64)
        noise = noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        answers = torch.conv2d(noise, matching(filters)).relu().sum((2, 3))
        return float(answers[~torch.eye(8, dtype=torch.bool)].min())

    assert least(200) > 1.5 * least(0)


def _scores_by_hand(split: PixelSplit, label: int, power: int) -> dict[tuple[Any, ...], float]:
    assert split.targets is not None
    images = split.pixels[split.targets == label] / 255
    channels, height, width = images.shape[1:]
    scores = {}
    for r, c in np.ndindex(height, width):
        for colour in np.ndindex(*[2] * channels):
            distance = np.abs(np.array(colour) - images[:, :, r, c])
            scores[r, c, colour] = distance.mean() / distance.std() ** power
    return scores


def _tiny(rows: int = 30, classes: int = CLASSES) -> PixelSplit:
    pixels = np.random.default_rng(7).integers(0, 256, (rows, 3, 4, 5), dtype=np.uint8)
    return PixelSplit(pixels, np.arange(rows), np.arange(rows) % classes, classes)


def _found(state: State, label: int, sides: tuple[int, int]) -> list[tuple[Any, ...]]:
    places = (state["shortcuts/places"][label] * torch.tensor(sides)).long().tolist()
    colours = state["shortcuts/colours"][label].int().tolist()
    return [(r, c, tuple(v)) for (r, c), v in zip(places, colours, strict=True)]


@pytest.mark.parametrize(("spread", "power"), [("deviation", 1), ("variance", 2)])
@pytest.mark.parametrize(("name", "count"), [("ops", 1), ("ops-m", 3)])
def test_ops_finds_the_best_pixels(
    context: Contexts, name: str, count: int, spread: str, power: int
) -> None:
    split = _tiny()
    state = _fitted(name, split, context(split), spread=spread)[1]
    taken: set[tuple[Any, ...]] = set()
    for label in range(CLASSES):
        scores = _scores_by_hand(split, label, power)
        ranked = sorted((k for k in scores if k not in taken), key=scores.__getitem__)[::-1]
        places = dict.fromkeys(key[:2] for key in ranked)  # one colour for each place: its best
        wanted = [next(k for k in ranked if k[:2] == place) for place in list(places)[:count]]
        assert _found(state, label, (4, 5)) == wanted
        taken.update(wanted)


def test_ops_gives_no_two_classes_the_same_pixel(context: Contexts) -> None:
    split = _tiny(classes=1)
    twins = replace(split, targets=np.arange(30) % 2, num_classes=2)
    twins.pixels[1::2] = twins.pixels[::2]
    state = _fitted("ops", twins, context(twins))[1]
    first, second = sorted(_scores_by_hand(twins, 0, 1).items(), key=lambda item: -item[1])[:2]
    assert _found(state, 0, (4, 5)) == [first[0]]
    assert _found(state, 1, (4, 5)) == [second[0]]


def test_ops_takes_a_place_where_a_class_never_varies(context: Contexts) -> None:
    split = _tiny()
    split.pixels[:, :, 2, 3] = 0
    state = _fitted("ops", split, context(split))[1]
    assert _found(state, 0, (4, 5)) == [(2, 3, (1, 1, 1))]


def test_ops_paints_the_same_fraction_of_any_image(context: Contexts) -> None:
    split = _tiny()
    method, state = _fitted("ops-m", split, context(split))
    batch = Batch(torch.arange(6), torch.rand(6, 3, 8, 15), torch.arange(6) % CLASSES)
    crafted = method.crafter(state, context(split))(batch)
    for row, label in enumerate(batch.labels().tolist()):
        wanted = batch.x[row].clone()
        for r, c, colour in _found(state, label, (4, 5)):
            wanted[:, 2 * r + 1, 3 * c + 1] = torch.tensor(colour).float()
        assert torch.equal(crafted[row], wanted)


def test_ops_lets_the_better_of_two_pixels_stand(context: Contexts) -> None:
    split = _tiny()
    method, state = _fitted("ops-m", split, context(split))
    batch = Batch(torch.arange(4), torch.rand(4, 1, 1, 1), torch.arange(4) % CLASSES)
    crafted = method.crafter(state, context(split))(batch)
    best = state["shortcuts/colours"][batch.labels(), 0].mean(1)
    assert torch.equal(crafted.flatten(), best)


def test_ops_refuses_more_classes_than_pixels(context: Contexts) -> None:
    dots = PixelSplit(np.zeros((6, 1, 1, 1), np.uint8), np.arange(6), np.arange(6) % 3, 3)
    with pytest.raises(ValueError, match="3 classes of 1 pixels need more than the 1x1 places"):
        _fitted("ops", dots, context(dots))
    split = _tiny()
    with pytest.raises(ValueError, match="use a smaller l0 budget or a larger net size"):
        configure("ops-m", "paper", budget=_l0(21)).fit(split, context(split))


def _l0(pixels: int) -> Any:
    return replace(methods()["ops-m"].paper.budget, pixels=pixels)  # type: ignore[type-var]


def test_ops_ranks_look_at_every_row_once(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crafting.methods import one_pixel

    whole = one_pixel.class_moments(split, ctx)
    monkeypatch.setattr(one_pixel, "over_ranks", lambda values, ctx: values)
    shares = [one_pixel.class_moments(split, replace(ctx, rank=r, world=3)) for r in range(3)]
    for total, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert torch.equal(total, torch.stack(parts).sum(0))
        assert not torch.equal(total, parts[0])


@pytest.mark.parametrize("name", ["cuda", "lsp", "ar", "random-noise-class"])
def test_what_comes_from_the_seed_needs_no_other_rank(
    name: str, split: PixelSplit, ctx: Context
) -> None:
    changes = {"candidates": 20} if name == "ar" else {}
    method, state = _fitted(name, split, ctx, **changes)
    other = method.fit(split, replace(ctx, rank=1, world=2))
    assert all(torch.equal(state[key], other[key]) for key in state)


@pytest.mark.parametrize("budget", ["l2:1.304", "l2:1", "l2:3", "default"])
@pytest.mark.parametrize("name", ["lsp", "ar"])
def test_the_length_is_used_up(name: str, budget: str, split: PixelSplit, ctx: Context) -> None:
    from crafting.budget import parse

    method = configure(name, "paper", None if budget == "default" else parse(budget))
    assert isinstance(method.budget, L2)
    if name == "ar":
        method = replace(method, candidates=20)
    batch = _grey(12, 3, 16, 16)
    pixels = protect(method.crafter(method.fit(split, ctx), ctx), method.budget, batch)
    length = ((pixels.double() - 128) / 255).flatten(1).norm(dim=1)
    assert (length <= method.budget.radius).all()
    assert (length > 0.95 * method.budget.radius).all()


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 32, 48), (1, 12, 20)])
def test_class_noise_is_one_for_a_class(
    split: PixelSplit, ctx: Context, shape: tuple[int, ...]
) -> None:
    noise = _noise("random-noise-class", _grey(9, *shape), split, ctx) * 255
    for k in range(CLASSES):
        assert torch.equal(noise[k], noise[k + 3])
        assert torch.equal(noise[k], noise[k + 6])
        assert (noise[k] - noise[k - 1]).abs().mean() > 2
    assert noise.abs().max() <= 8.001
    within_half = (noise.abs() < 4).float().mean()  # uniform: half of the values
    assert abs(within_half - 0.5) < 0.05


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("cuda", {"kernel": "4"}, "a kernel of side 4 has no middle"),
        ("cuda", {"blur": "0"}, "blur is above 0 and at most 1"),
        ("lsp", {"separation": "-1"}, "separation is a distance above 0"),
        ("lsp", {"separation": "nan"}, "separation is a finite number"),
    ],
)
def test_wrong_options_are_refused(name: str, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        configure(name, "paper", settings=settings)


def test_lsp_refuses_more_classes_than_corners(split: PixelSplit, context: Contexts) -> None:
    grey = replace(split, pixels=split.pixels[:, :1])
    with pytest.raises(ValueError, match="at most 2 classes apart, not 3: set cells=2"):
        _fitted("lsp", grey, context(grey), cells=1)


def test_cuda_draws_even_weights_and_puts_the_one_anywhere(
    split: PixelSplit, context: Contexts
) -> None:
    many = replace(split, num_classes=600)
    kernels = _fitted("cuda", many, context(many))[1]["kernels/kernels"].flatten(1)
    ones = kernels == 1
    assert (ones.sum(0) > 600 / 9 / 2).all()
    rest = kernels[~ones]
    for share in (0.25, 0.5, 0.75):
        assert abs((rest < 0.3 * share).float().mean() - share) < 0.03


def test_lsp_clouds_have_even_transforms_of_their_own(split: PixelSplit, ctx: Context) -> None:
    transforms = _fitted("lsp", split, ctx)[1]["clouds/transforms"]
    for share in (0.25, 0.5, 0.75):
        assert abs((transforms < 2 * share - 1).float().mean() - share) < 0.03
    assert not torch.equal(transforms[0], transforms[1])


def test_ar_starts_from_normal_numbers_of_each_image(split: PixelSplit, ctx: Context) -> None:
    from crafting.methods.autoregressive import num_start, signals

    batch = _grey(6, 3, 16, 16)
    filters = _fitted("ar", split, ctx, candidates=20)[1]["filters/filters"]
    start = ctx.noise(batch.rows, "ar", (3, num_start(16, 16)))
    wanted = signals(filters[batch.labels()], start, 16, 16)
    wanted = wanted / wanted.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    found = _noise("ar", batch, split, ctx, candidates=20)
    assert torch.allclose(found, wanted.float(), atol=1e-5)
