from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from crafting.batch import Batch, PixelSplit, Split
from crafting.nets import Net, build
from crafting.training import (
    EpochStats,
    Hooks,
    Predictor,
    Recipe,
    Train,
    crop_and_flip,
    named_recipe,
    predict,
    train,
)

CPU = torch.device("cpu")
SHORT = Recipe(epochs=2, batch_size=16)


def _net(seed: int = 0) -> Net:
    return build("vgg-w16", 3, 16, seed=seed)


def _trained(split: Split, recipe: Recipe = SHORT, seed: int = 0, **options: object) -> Net:
    net = _net()
    train(net, split, recipe, device=CPU, seed=seed, **options)  # type: ignore[arg-type]
    return net


def _same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_what_can_be_learnt(split: PixelSplit) -> None:
    epochs: list[EpochStats] = []
    net = _net()
    recipe = Recipe(epochs=10, batch_size=12)
    predictor = train(
        net, split, recipe, device=CPU, seed=0, on_epoch=lambda n, stats: epochs.append(stats)
    )
    predicted, labels = predict(predictor, split, CPU, batch_size=7)

    assert (predicted == labels).float().mean() > 0.9
    assert labels.tolist() == split.targets.tolist()  # type: ignore[union-attr]
    assert [stats.epoch for stats in epochs] == list(range(1, 11))
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].accuracy > 0.7
    assert all(stats.images == 48 for stats in epochs)
    assert not net.training


def test_two_trainings_with_one_seed_are_bit_equal(split: PixelSplit) -> None:
    torch.manual_seed(1)
    first = _trained(split)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = _trained(split)
    assert _same(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_and_order_of_rows_both_matter(split: PixelSplit) -> None:
    first = _trained(split)
    assert not _same(first, _trained(split, seed=1))
    assert not _same(first, _trained(replace(split, seed=1)))


def test_a_single_left_over_row_is_not_learnt_from(split: PixelSplit) -> None:
    seen: list[EpochStats] = []
    recipe = Recipe(epochs=1, batch_size=16)
    shorter = split.take(range(33))
    _trained(shorter, recipe, on_epoch=lambda n, stats: seen.append(stats))
    assert seen[0].images == 32


def test_too_few_rows_are_refused(split: PixelSplit) -> None:
    with pytest.raises(ValueError, match="1 rows over 1 processes"):
        _trained(split.take([0]))


def test_every_hook_is_called(split: PixelSplit) -> None:
    called: list[str] = []

    def data(given: Split) -> Split:
        called.append("data")
        return given.take(range(32))

    def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        called.append("augment")
        return x, F.one_hot(y, 3).float()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        called.append("loss")
        assert y.shape == (len(x), 3)
        return F.cross_entropy(net(x), y)

    def step(net: nn.Module, optimiser: Optimizer) -> None:
        called.append("step")
        assert all(p.grad is not None for p in net.parameters())

    def finish(net: Net, given: Split, again: Train) -> Predictor:
        called.append("finish")
        assert len(given) == 32
        return again(_net(seed=5), given)

    recipe = Recipe(epochs=1, batch_size=16)
    net, hooks = _net(), Hooks(data, augment, loss, step, finish)
    predictor = train(net, split, recipe, device=CPU, seed=0, hooks=hooks)

    assert called == ["data", *["augment", "loss", "step"] * 2, "finish"]
    assert predictor is not net
    assert predictor(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_a_loss_without_logits_has_no_accuracy(split: PixelSplit) -> None:
    stats: list[EpochStats] = []
    hooks = Hooks(loss=lambda net, x, y: net.features(x).square().mean())  # type: ignore[operator]
    _trained(split, hooks=hooks, on_epoch=lambda n, s: stats.append(s))
    assert np.isnan(stats[0].accuracy)
    assert stats[0].loss > 0


def test_predict_leaves_a_net_in_training_as_it_was(split: PixelSplit) -> None:
    net = _net().train()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    predict(net, split, CPU)
    assert net.training
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())


def test_crops_are_windows_of_the_image_with_a_black_border() -> None:
    torch.manual_seed(0)
    x = torch.arange(1.0, 16 * 16 + 1).view(1, 1, 16, 16).repeat(64, 2, 1, 1)
    moved = crop_and_flip(x)
    padded = F.pad(x[0], (2, 2, 2, 2))
    windows = padded.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    windows = torch.cat([windows, windows.flip(-1)])
    found = [int((windows == image).flatten(1).all(1).nonzero()[0]) for image in moved]
    assert len(windows) == 50
    assert len(set(found)) > 25  # each image has its own crop


def test_linear_schedule_warms_up_and_ends_low() -> None:
    recipe = Recipe(epochs=20, lr=0.2)
    assert recipe.rate(0.15) == pytest.approx(0.2)
    assert recipe.rate(0.075) == pytest.approx(0.1)
    assert recipe.rate(1) == pytest.approx(0.004)


def test_sep_recipe_drops_after_75_and_90_of_120_epochs() -> None:
    recipe = named_recipe("sep", "resnet18", 120)
    rates = [recipe.rate((epoch + 1) / 120) for epoch in (0, 74, 75, 89, 90, 119)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_ends_at_zero() -> None:
    recipe = Recipe(epochs=1, schedule="cosine")
    assert [recipe.rate(p) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.05, 0])


def test_steps_use_the_schedule(split: PixelSplit) -> None:
    rates: list[float] = []

    def step(net: nn.Module, optimiser: Optimizer) -> None:
        rates.append(optimiser.param_groups[0]["lr"])

    _trained(split, hooks=Hooks(step=step))
    assert rates == pytest.approx([SHORT.rate((i + 1) / 6) for i in range(6)])


@pytest.mark.parametrize("name", ["sep", "tap", "fast"])
def test_named_recipes_train(name: str, split: PixelSplit) -> None:
    recipe = replace(named_recipe(name, "vgg-w16", 1), batch_size=16)  # type: ignore[arg-type]
    assert not _same(_net(), _trained(split, recipe))


def test_images_of_several_sizes_share_an_epoch(split: PixelSplit) -> None:
    class Mixed:
        num_classes = 3

        def __len__(self) -> int:
            return 8

        def batches(self, size: int, epoch: int | None = None) -> list[Batch]:
            y = torch.arange(4) % 3
            shapes = (3, 16, 16), (1, 12, 20)
            return [Batch(torch.arange(4), torch.rand(4, *shape), y) for shape in shapes]

        def take(self, rows: object) -> Mixed:
            return self

    check: Callable[[Split], Net] = lambda s: _trained(s)  # noqa: E731
    assert not check(Mixed()).training  # type: ignore[arg-type]
