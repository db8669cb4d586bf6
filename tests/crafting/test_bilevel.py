"""Rounds, in which nets and noise are made together, and error-minimising noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting import bilevel
from crafting.batch import Batch, PixelSplit
from crafting.bilevel import Turn
from crafting.budget import Linf
from crafting.descent import image_gradient
from crafting.method import Context, State
from crafting.methods import error_minimising
from crafting.nets import Net
from crafting.noisebank import NoiseBank
from crafting.registry import methods
from crafting.runner import protect


def tiny(name: str, **changes: Any) -> Any:
    quick = methods()[name].quick
    small = {"rounds": 3, "round_steps": 2, "steps": 3, "batch_size": 16, "stop_error": 0.0}
    small |= {"epochs": 3, "draws": 1, "adversary_steps": 1, "training_adversary_steps": 1}
    known = {k: v for k, v in small.items() if hasattr(quick, k)}
    return replace(quick, **(known | changes))


def losses(net: Net, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(net(x), y, reduction="none")


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def left(ctx: Context) -> dict[str, bytes]:
    """The files that the last round left, by name."""
    assert ctx.scratch is not None
    found = [path for path in ctx.scratch.rglob("*") if path.is_file()]
    return {str(path.relative_to(ctx.scratch)): path.read_bytes() for path in found}


def brought_down(done: int, total: int) -> None:
    if done == 2:
        raise KeyboardInterrupt


# Rounds.


@pytest.mark.parametrize("name", ["em", "em-class", "rem"])
def test_a_killed_fit_goes_on_to_the_same_state(
    name: str, split: PixelSplit, ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny(name)
    whole = replace(ctx, scratch=tmp_path / "whole")
    state = method.fit(split, whole)
    broken = replace(ctx, scratch=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        method.fit(split, replace(broken, progress=brought_down))
    played: list[int] = []
    play = type(method).play

    def noted(self: Any, turn: Turn, data: Any, ctx: Context) -> bool:
        played.append(turn.number)
        return bool(play(self, turn, data, ctx))

    monkeypatch.setattr(type(method), "play", noted)
    assert same(method.fit(split, broken), state)
    assert played == [2]
    assert left(broken) == left(whole)


def test_a_crash_before_a_round_has_its_name_leaves_the_one_before(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny("em")
    state = method.fit(split, replace(kept, scratch=None))
    keep = bilevel._keep

    def crash(turn: Turn, over: bool) -> None:
        keep(turn, over)
        if turn.number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bilevel, "_keep", crash)
        with pytest.raises(KeyboardInterrupt):
            method.fit(split, kept)
    last = method.last_round(kept)
    assert last.name == "round-0001"
    assert (last.parent / "unfinished" / "noise.npz").exists()
    assert len(NoiseBank.open(last)) == len(split)
    assert same(method.fit(split, kept), state)
    assert [path.name for path in last.parent.iterdir()] == ["round-0003"]


def test_a_finished_fit_is_not_played_again(
    split: PixelSplit, kept: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny("em", stop_error=1.0)  # any error but 1 is below that
    told: list[tuple[int, int]] = []
    state = method.fit(split, replace(kept, progress=lambda *at: told.append(at)))
    assert told == [(1, 3)]
    monkeypatch.setattr(type(method), "play", None)
    assert same(method.fit(split, kept), state)


def test_nobody_else_may_look_into_the_rounds(split: PixelSplit, kept: Context) -> None:
    method = tiny("em-class", rounds=1)
    method.fit(split, kept)
    assert method.last_round(kept).parent.stat().st_mode & 0o77 == 0


def test_parts_of_a_mixture_keep_apart(split: PixelSplit, kept: Context) -> None:
    for name in ("em", "em-class", "rem"):
        alone = tiny(name, **_one_round(name)).fit(split, replace(kept, scratch=None))
        assert same(tiny(name, **_one_round(name)).fit(split, kept), alone)


def _one_round(name: str) -> dict[str, int]:
    return {"rounds": 1} if name.startswith("em") else {"epochs": 1}


def test_the_surrogate_and_its_optimiser_go_on(split: PixelSplit, kept: Context) -> None:
    one, two = (tiny("em", rounds=r).fit(split, replace(kept, scratch=None)) for r in (1, 2))
    assert not torch.equal(one["surrogate-0/head.weight"], two["surrogate-0/head.weight"])
    method = tiny("em", rounds=1)
    method.fit(split, kept)
    last = method.last_round(kept)
    left = torch.load(last / "optimiser-0.pt", weights_only=True)["state"]
    (optimiser,) = method._optimisers(method._nets(last, kept), last, kept)
    taken = optimiser.state_dict()["state"]
    assert left.keys() == taken.keys()
    for place, each in left.items():
        assert each["momentum_buffer"].any()
        assert torch.equal(each["momentum_buffer"], taken[place]["momentum_buffer"])


@pytest.mark.parametrize(("rows", "number"), [(48, 5), (20, 2)])
def test_a_round_trains_for_m_steps(
    rows: int, number: int, split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 rounds go through 40 of 48 rows, 8 at a time: an equal part of the 48 each."""
    method = tiny("em", rounds=number, round_steps=2, batch_size=rows // 12 + 1, steps=1)
    seen: list[list[int]] = []
    own = bilevel.train

    def noted(net: Net, data: Any, recipe: Any, **rest: Any) -> Any:
        seen.append([len(batch.rows) for batch in data.batches(recipe.batch_size, 0)])
        return own(net, data, recipe, **rest)

    monkeypatch.setattr(bilevel, "train", noted)
    method.fit(split.take(range(rows)), ctx)
    assert all(len(sizes) == 2 for sizes in seen)
    assert max(map(max, seen)) - min(map(min, seen)) <= 2


def _rates(method: Any, data: Any, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every step that the first surrogate takes in a fit."""
    rates: list[float] = []
    own = type(method).train

    def noted(self: Any, turn: Turn, k: int, data: Any, hooks: Any, *rest: Any) -> None:
        def step(net: Any, optimiser: Any) -> None:
            rates.append(optimiser.param_groups[0]["lr"])

        own(self, turn, k, data, replace(hooks, step=step), *rest)

    with monkeypatch.context() as patched:
        patched.setattr(type(method), "train", noted)
        method.fit(data, ctx)
    return rates


@pytest.mark.parametrize("name", ["em", "rem", "sem", "deepconfuse"])
def test_a_share_of_the_rows_is_learnt_from_in_as_many_steps(
    name: str, split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny(name, batch_size=24, **{"epochs": 5} if name in ("rem", "sem") else {})
    whole = _rates(method, split, ctx, monkeypatch)
    share = replace(ctx, fit_share=0.5)
    assert _rates(method, split.take(range(24)), share, monkeypatch) == whole
    if name == "rem":
        assert whole == pytest.approx([0.1] * 4 + [0.01] * 4 + [0.001] * 2)


# em


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


def test_images_of_another_size_are_strangers(split: PixelSplit, kept: Context) -> None:
    method = tiny("em")
    crafter = method.crafter(method.fit(split, kept), kept)
    x = torch.rand(4, 3, 20, 20)
    assert crafter(Batch(torch.arange(4), x, torch.zeros(4, dtype=torch.int64))).shape == x.shape


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
