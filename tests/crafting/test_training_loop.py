from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from crossing import Moves
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from crafting.batch import Batch, DeviceSplit, PixelSplit, ShownSplit, Split, read_on
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

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
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


def test_a_warm_cosine_climbs_for_a_tenth_and_ends_at_zero() -> None:
    recipe = Recipe(epochs=1, schedule="warm-cosine")
    assert [recipe.rate(p) for p in (0.05, 0.1, 0.55, 1)] == pytest.approx([0.05, 0.1, 0.05, 0])


def test_adamw_decays_matrices_and_kernels_alone() -> None:
    recipe = named_recipe("vit", "deit-tiny", 1)
    net = build("deit-tiny", 3, 16)
    optimiser = recipe.optimiser_of(net)
    assert isinstance(optimiser, AdamW)
    decay = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    found = {name: decay[id(p)] for name, p in net.named_parameters()}
    assert len(found) == len(decay)
    for name, value in found.items():
        free = name.endswith(("bias", "pos_embed", "cls_token")) or "norm" in name
        assert value == (0 if free else 0.05), name


def test_steps_of_every_group_use_the_schedule(split: PixelSplit) -> None:
    rates: list[set[float]] = []

    def step(net: nn.Module, optimiser: Optimizer) -> None:
        rates.append({group["lr"] for group in optimiser.param_groups})

    recipe = replace(named_recipe("vit", "deit-tiny", 2), batch_size=16)
    _trained(split, recipe, hooks=Hooks(step=step))
    assert all(len(each) == 1 for each in rates)
    expected = [recipe.rate((i + 1) / 6) for i in range(6)]
    assert [max(each) for each in rates] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["sep", "tap", "fast", "vit"])
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


@dataclass(frozen=True)
class Floats:
    """A split's rows as float32 on CPU and nothing else, as sources without an array give them."""

    split: PixelSplit
    num_classes: int = 3

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, size: int, epoch: int | None = None) -> Iterator[Batch]:
        for batch in self.split.batches(size, epoch):
            at = np.searchsorted(self.split.rows, batch.rows.numpy())
            x = torch.from_numpy(self.split.pixels[at].astype(np.float32) / np.float32(255))
            yield Batch(batch.rows, x, batch.y)

    def numbers(self) -> np.ndarray:
        return self.split.numbers()

    def take(self, rows: Sequence[int]) -> Floats:
        return Floats(self.split.take(rows))


def _some(split: PixelSplit) -> PixelSplit:
    """Rows whose numbers are not their places, and not all of them."""
    return replace(split, rows=split.rows * 3 + 1, seed=5).take(range(25, 145, 3))


@pytest.mark.parametrize("most_held", [0, 10**9])
def test_pixels_kept_or_fetched_make_the_same_net(split: PixelSplit, most_held: int) -> None:
    some = _some(split)
    assert len(some) == 40
    expected = _trained(Floats(some))
    assert _same(_trained(some), expected)
    assert _same(_trained(read_on(CPU, some, most_held)), expected)


@pytest.mark.parametrize("most_held", [0, 10**9])
@pytest.mark.parametrize("epoch", [None, 0, 3])
def test_kept_or_fetched_rows_are_those_of_the_split(
    split: PixelSplit, most_held: int, epoch: int | None
) -> None:
    some = _some(split)
    for kept in (read_on(CPU, some, most_held), read_on(CPU, split, most_held).take(range(7))):
        of = some if len(kept) == len(some) else split.take(range(7))
        pairs = list(zip(of.batches(6, epoch), kept.batches(6, epoch), strict=True))
        for wanted, found in pairs:
            assert torch.equal(wanted.rows, found.rows)
            assert torch.equal(wanted.x, found.x)
            assert torch.equal(wanted.labels(), found.labels())
        assert sum(len(batch.rows) for batch, _ in pairs) == len(of) == len(kept)


def test_pixels_cross_as_whole_numbers_and_once_where_they_fit(split: PixelSplit) -> None:
    size = split.pixels.nbytes
    for most_held, per_epoch in ((size, 0), (size - 1, size)):
        with Moves() as moves:
            there = read_on(ELSEWHERE, split, most_held)
            first = sum(count for dtype, count in moves.seen if dtype == torch.uint8)
            for _ in range(2):
                for batch in there.batches(16, 0):
                    assert batch.x.device == batch.labels().device == ELSEWHERE
                    assert batch.x.dtype == torch.float32
        crossed = sum(count for dtype, count in moves.seen if dtype == torch.uint8)
        assert first == size - per_epoch
        assert crossed == first + 2 * per_epoch
        assert {dtype for dtype, _ in moves.seen} == {torch.uint8, torch.int64}


def test_on_cpu_the_array_is_read_as_it_is(split: PixelSplit) -> None:
    assert read_on(CPU, split) is split
    other = Floats(split)
    assert read_on(ELSEWHERE, other) is other
    assert isinstance(read_on(ELSEWHERE, split), DeviceSplit)


def test_what_is_shown_otherwise_is_so_elsewhere(split: PixelSplit) -> None:
    seen: list[torch.device] = []

    def shown(batch: Batch) -> Batch:
        seen.append(batch.x.device)
        return batch

    there = read_on(ELSEWHERE, ShownSplit(split, shown, first_epoch=3))
    rows = [batch.rows.tolist() for batch in there.batches(16, 0)]
    assert rows == [batch.rows.tolist() for batch in split.batches(16, 3)]
    assert set(seen) == {ELSEWHERE}


def test_unlabelled_rows_stay_unlabelled_elsewhere(split: PixelSplit) -> None:
    there = read_on(ELSEWHERE, replace(split, targets=None))
    assert all(batch.y is None for batch in there.batches(16))


def test_crops_are_made_where_the_images_are() -> None:
    with Moves() as moves:
        moved = crop_and_flip(torch.empty(8, 3, 32, 32, device=ELSEWHERE))
    assert (moved.device, moved.shape) == (ELSEWHERE, (8, 3, 32, 32))
    assert moves.seen == [(torch.int64, 8 * 32 * 8)] * 2  # a row and a column number each
    assert moves.waited_for == 0


@pytest.mark.parametrize("most_held", [0, 10**9])
def test_no_step_waits_for_its_copies(split: PixelSplit, most_held: int) -> None:
    there = read_on(ELSEWHERE, split, most_held)
    with Moves() as moves:
        for batch in [*there.batches(16, 0), *split.batches(16, 0)]:
            batch.to(ELSEWHERE)
    assert moves.seen
    assert moves.waited_for == 0
