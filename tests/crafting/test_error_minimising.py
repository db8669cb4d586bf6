"""Error-minimising noise, one for each image or one for each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import losses, tiny, trainings
from torch import Tensor

from crafting.batch import Batch, PixelSplit, Split
from crafting.bilevel import Turn
from crafting.budget import Linf
from crafting.descent import image_gradient
from crafting.method import Context
from crafting.methods import error_minimising
from crafting.nets import Net
from crafting.noisebank import NoiseBank, NoiseWriter
from crafting.runner import protect


def banked(folder: Path, split: PixelSplit, ctx: Context) -> Tensor:
    """The noise (N,C,H,W) of all rows that a round left in its folder."""
    digests = [ctx.row_key(row) for row in range(len(split))]
    noise, known = NoiseBank.open(folder).noise(digests, split.shape)
    assert known.all()
    return noise


def some_noise(folder: Path, split: PixelSplit, ctx: Context) -> Path:
    """The folder, which has a noise of up to 8 levels for every row."""
    folder.mkdir()
    drawn = torch.randint(-8, 9, (48, *split.shape), generator=torch.Generator().manual_seed(3))
    with NoiseWriter(folder) as writer:
        writer.add([ctx.row_key(row) for row in range(48)], drawn.float())
    return folder


@pytest.mark.parametrize(("rows", "number"), [(48, 5), (20, 2)])
def test_a_round_trains_for_m_steps_on_the_next_rows(
    rows: int, number: int, split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 rounds go through 48 rows, 8 at a time and the remainder spread; 2 through 8 of 20."""
    seen = trainings(monkeypatch)
    method = tiny("em", rounds=number, round_steps=2, batch_size=rows // 12 + 1, steps=1)
    method.fit(split.take(range(rows)), ctx)
    sizes = [[len(batch.rows) for batch in each.batches] for each in seen]
    assert all(len(each) == 2 for each in sizes)
    assert max(map(max, sizes)) - min(map(min, sizes)) <= 2
    gone_through = [row for each in seen for row in each.rows]
    assert len(set(gone_through)) == len(gone_through) == (48 if number == 5 else 8)


def test_the_surrogate_learns_from_images_with_the_noise_so_far(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    tiny("em", rounds=1).fit(split, kept)
    noise = banked(tiny("em", rounds=1).last_round(kept), split, kept)
    seen.clear()
    tiny("em", rounds=2).fit(split, replace(kept, scratch=None))  # the same first round
    clean = next(split.batches(48)).x
    for number, added in enumerate((torch.zeros_like(noise), noise)):
        for batch in seen[number].batches:
            expected = (clean[batch.rows] + added[batch.rows]).clamp(0, 1)
            assert torch.equal(batch.x, expected)


def test_noise_is_refreshed_from_where_it_was(
    split: PixelSplit, ctx: Context, net: Net, tmp_path: Path
) -> None:
    method, whole = tiny("em", steps=2), next(split.batches(48))
    before, after = some_noise(tmp_path / "before", split, ctx), tmp_path / "after"
    after.mkdir()
    method._refresh(net, split, Turn(1, [], [], before, after, True), ctx)
    start = (whole.x + banked(before, split, ctx)).clamp(0, 1)
    moved = method._descended(net, whole.x, whole.labels(), start) - whole.x
    assert torch.equal(banked(after, split, ctx), moved.mul(255).round() / 255)


def test_fit_ends_by_what_the_net_says_of_noisy_rows(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, asked = tiny("em", rounds=1), []

    def half_wrong(net: Net, data: Split, device: Any) -> tuple[Tensor, Tensor]:
        whole = next(data.batches(48))
        asked.append(whole.x)
        wrong = torch.arange(48) < 24
        return torch.where(wrong, whole.labels() + 1, whole.labels()), whole.labels()

    monkeypatch.setattr(error_minimising, "predict", half_wrong)
    method.fit(split, kept)
    last = method.last_round(kept)
    assert not (last / "over").exists()
    clean = next(split.batches(48)).x
    assert torch.equal(asked[0], (clean + banked(last, split, kept)).clamp(0, 1))
    for stop, is_over in ((0.5, False), (0.51, True)):
        told: list[tuple[int, int]] = []
        listening = replace(kept, scratch=None, progress=lambda *at, told=told: told.append(at))
        tiny("em", rounds=2, stop_error=stop).fit(split, listening)
        assert len(told) == (1 if is_over else 2)


def test_a_share_of_the_rows_is_looked_at(split: PixelSplit, kept: Context) -> None:
    method, keys = tiny("em", rounds=1, data_share=0.25), []
    for seed in (b"one", b"one", b"two"):
        ctx = replace(kept, seed=seed)
        method.fit(split, ctx)
        keys.append(NoiseBank.open(method.last_round(ctx)).keys.tolist())
    assert [len(each) for each in keys] == [12, 12, 12]
    assert keys[0] == keys[1] != keys[2]


def test_steps_on_the_noise_lower_the_loss_each_time(net: Net, batch: Batch) -> None:
    y = batch.labels()
    means = []
    for steps in range(5):
        method = tiny("em", steps=steps, step_levels=0.2)
        x = method._descended(net, batch.x, y, batch.x)
        means.append(float(losses(net, x, y).mean()))
    assert all(after < before for before, after in pairwise(means))


def test_every_row_is_refreshed(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_minimising, "_BATCH", 9)  # 3 of 48 rows remain
    method = tiny("em", rounds=1)
    method.fit(split, kept)
    bank = NoiseBank.open(method.last_round(kept))
    digests = [kept.row_key(row) for row in range(len(split))]
    noise, known = bank.noise(digests, split.shape)
    assert known.all()
    assert noise.flatten(1).any(1).all()
    levels = noise * 255
    assert levels.abs().max() <= 8
    assert torch.equal(levels, levels.round())


def test_rows_that_fit_saw_get_the_noise_it_left(
    split: PixelSplit, kept: Context, batch: Batch
) -> None:
    method = tiny("em")
    crafter = method.crafter(method.fit(split, kept), kept)
    bank = NoiseBank.open(method.last_round(kept))
    noise, _ = bank.noise([kept.row_key(int(row)) for row in batch.rows], split.shape)
    assert torch.equal(crafter(batch), batch.x + noise)
    pixels = protect(crafter, method.budget, batch)
    assert torch.equal(pixels.float(), ((batch.x + noise) * 255).round())


def test_strangers_among_them_get_what_the_frozen_net_makes(
    split: PixelSplit, kept: Context, batch: Batch
) -> None:
    method = tiny("em")
    state = method.fit(split.take(range(6)), kept)  # the batch has rows 0 to 11
    crafted = method.crafter(state, kept)(batch)
    frozen = method.crafter(state, replace(kept, scratch=None))(batch)
    assert torch.equal(crafted[6:], frozen[6:])
    assert not torch.equal(crafted[:6], frozen[:6])
    (net,) = method.frozen(state, kept)
    y = batch.labels()[6:]
    assert (losses(net, crafted[6:], y) < losses(net, batch.x[6:], y)).all()


def test_a_row_number_alone_is_no_acquaintance(
    split: PixelSplit, kept: Context, batch: Batch
) -> None:
    method = tiny("em")
    state = method.fit(split, kept)
    later = replace(kept, row_key=lambda row: b"of another release %d" % row)
    frozen = method.crafter(state, replace(kept, scratch=None))(batch)
    assert torch.equal(method.crafter(state, later)(batch), frozen)


def test_rows_whose_images_are_larger_than_nets_see_them_get_their_noise_enlarged(
    split: PixelSplit, kept: Context
) -> None:
    method = tiny("em")
    crafter = method.crafter(method.fit(split, kept), kept)
    x = torch.full((4, 3, 20, 24), 0.5)
    crafted = crafter(Batch(torch.arange(4), x, torch.zeros(4, dtype=torch.int64)))
    noise = banked(method.last_round(kept), split, kept)[:4]
    enlarged = F.interpolate(noise, (20, 24), mode="bilinear", align_corners=False)
    assert noise.any()
    assert torch.allclose(crafted - x, enlarged, atol=1e-6)


@pytest.mark.parametrize("name", ["em", "em-class"])
def test_one_sided_noise_only_brightens(
    name: str, split: PixelSplit, kept: Context, batch: Batch
) -> None:
    signed, onesided = tiny(name), tiny(name, onesided=True)
    assert signed.fit_key() == onesided.fit_key()
    state = signed.fit(split, kept)
    both, up = (method.crafter(state, kept)(batch) for method in (signed, onesided))
    assert (both < batch.x).any()
    assert torch.equal(up, torch.maximum(both, batch.x))


def test_noise_that_8_bits_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="linf:127"):
        tiny("em", budget=Linf(128))


@pytest.mark.parametrize("change", [{"stop_error": 1.5}, {"data_share": 0.0}])
def test_shares_are_shares(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        tiny("em", **change)


# em-class


def test_a_class_has_the_mean_of_its_images_steps(
    split: PixelSplit, kept: Context, in_float32: None
) -> None:
    method = tiny("em-class", rounds=1, steps=1, step_levels=1.6)
    noise = method.fit(split, kept)["classes/noise"]
    assert noise.shape == (3, *split.shape)
    (net,) = method._nets(method.last_round(kept), kept)
    batch = next(split.batches(48))
    x, y = batch.x, batch.labels()
    net.eval()
    gradient = image_gradient(lambda x: F.cross_entropy(net(x), y, reduction="none"), x)
    stepped = (x - gradient.sign() * (1.6 / 255)).clamp(0, 1) - x
    expected = torch.stack([stepped[y == k].mean(0) for k in range(3)])
    agree = torch.isclose(noise, expected, atol=1e-6)
    assert agree.float().mean() > 0.99  # folding turns the signs of a few tiny gradients


def test_class_noise_goes_on_from_batch_to_batch(
    split: PixelSplit, ctx: Context, net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class's noise after two batches is what the second makes of that after the first."""
    method = tiny("em-class", steps=1, step_levels=1.6)

    def after(rows: range, before: Path, name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        turn = Turn(1, [], [], before, folder, True)
        method._refresh(net, split.take(rows), turn, ctx)
        return folder

    monkeypatch.setattr(error_minimising, "_BATCH", 24)
    empty = tmp_path / "empty"
    both = after(range(48), empty, "both")
    second = after(range(24, 48), after(range(24), empty, "first"), "second")
    noise, expected = method._noise(both), method._noise(second)
    assert noise is not None
    assert expected is not None
    assert torch.equal(noise, expected)
    assert (noise * 255).abs().max() > 1.7  # more than one step


def test_class_noise_is_learnt_from_a_share_and_the_surrogate_from_all(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, looked_at = trainings(monkeypatch), []
    refreshed = error_minimising.ClassWise._refreshed

    def noted(self: Any, net: Net, batch: Batch, add: Callable[[Batch], Batch]) -> Tensor:
        looked_at.extend(batch.rows.tolist())
        return refreshed(self, net, batch, add)

    monkeypatch.setattr(error_minimising.ClassWise, "_refreshed", noted)
    tiny("em-class", rounds=2, round_steps=2, batch_size=12, data_share=0.25).fit(split, ctx)
    assert len(set(looked_at)) == 12
    assert {row for each in seen for row in each.rows} == set(range(48))


def test_class_noise_stays_in_its_budget_and_serves_strangers(
    split: PixelSplit, ctx: Context, context: Callable[..., Context]
) -> None:
    method = tiny("em-class", rounds=2, step_levels=4.0, budget=Linf(1))
    noise = method.fit(split, ctx)["classes/noise"]
    assert noise.abs().max() == pytest.approx(1 / 255)
    x = torch.full((4, 3, 16, 16), 0.5)
    strangers = Batch(torch.arange(100, 104), x, torch.tensor([0, 1, 2, 1]))
    crafted = method.crafter({"classes/noise": noise}, ctx)(strangers)
    assert torch.equal(crafted, x + noise[strangers.labels()])


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_class_without_rows_is_not_left_as_it_is(
    rounds: int, split: PixelSplit, context: Callable[..., Context]
) -> None:
    method, four = tiny("em-class", rounds=rounds), replace(split, num_classes=4)
    noise = method.fit(four, context(four))["classes/noise"]
    drawn = method._drawn(noise.shape, context(four))
    assert [torch.equal(*each) for each in zip(noise, drawn, strict=True)] == [False] * 3 + [True]
    levels = noise[3] * 255
    assert 7.5 < levels.abs().max() <= 8
    assert (levels.abs() < 4).float().mean() == pytest.approx(0.5, abs=0.06)
    other = method.fit(four, context(four, b"other"))["classes/noise"][3]
    assert not torch.equal(noise[3], other)


def test_class_noise_is_fitted_to_other_sizes_and_channels(ctx: Context) -> None:
    noise = torch.zeros(3, 3, 16, 16)
    noise[1] = 6 / 255
    noise[2, 0] = 6 / 255
    crafter = tiny("em-class").crafter({"classes/noise": noise}, ctx)
    grey = torch.full((3, 1, 9, 31), 0.5)
    crafted = crafter(Batch(torch.arange(3), grey, torch.arange(3)))
    added = (crafted - grey).mul(255).flatten(1)
    assert torch.allclose(added, torch.tensor([0.0, 6.0, 2.0])[:, None].expand_as(added), atol=1e-3)
