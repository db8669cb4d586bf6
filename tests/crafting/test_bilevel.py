"""Error-minimising noise and its robust descendants, each against its definition."""

from __future__ import annotations

import math
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
from crafting.bilevel import BilevelMethod, Turn
from crafting.budget import Linf
from crafting.descent import image_gradient
from crafting.method import Context, State
from crafting.methods import error_minimising
from crafting.methods.min_max_min import MinMaxMin, availability
from crafting.methods.robust_error_minimising import (
    RobustErrorMinimising,
    StableErrorMinimising,
    drawn_from_torch,
    whole_pixels,
)
from crafting.moves import move
from crafting.nets import Net, build, for_crafting
from crafting.noisebank import NoiseBank
from crafting.registry import methods
from crafting.runner import protect

ROBUST = ["rem", "sem", "min-max-min"]


def tiny(name: str, **changes: Any) -> Any:
    quick = methods()[name].quick
    small = {"rounds": 3, "round_steps": 2, "steps": 3, "batch_size": 16, "stop_error": 0.0}
    small |= {"epochs": 3, "draws": 1, "adversary_steps": 1, "training_adversary_steps": 1}
    known = {k: v for k, v in small.items() if hasattr(quick, k)}
    return replace(quick, **(known | changes))


@pytest.fixture
def kept(ctx: Context, tmp_path: Path) -> Context:
    """A context whose rounds stay on disk."""
    return replace(ctx, scratch=tmp_path / "scratch")


@pytest.fixture
def batch(split: PixelSplit) -> Batch:
    return next(split.batches(12))


@pytest.fixture
def net() -> Net:
    return for_crafting(build("vgg-w16", 3, 16, seed=0), torch.device("cpu"))


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


def test_class_noise_is_fitted_to_other_sizes_and_channels(ctx: Context) -> None:
    noise = torch.zeros(3, 3, 16, 16)
    noise[1] = 6 / 255
    noise[2, 0] = 6 / 255
    crafter = tiny("em-class").crafter({"classes/noise": noise}, ctx)
    grey = torch.full((3, 1, 9, 31), 0.5)
    crafted = crafter(Batch(torch.arange(3), grey, torch.arange(3)))
    added = (crafted - grey).mul(255).flatten(1)
    assert torch.allclose(added, torch.tensor([0.0, 6.0, 2.0])[:, None].expand_as(added), atol=1e-3)


# rem, sem, min-max-min


def test_crops_move_by_whole_pixels_to_every_place() -> None:
    x = torch.rand(400, 3, 16, 24)
    torch.manual_seed(0)
    drawn = 2 * torch.rand(400, 3) - 1
    moves = whole_pixels(drawn, x)
    shifts = moves[:, :2] * torch.tensor([2.0, 3.0])
    assert torch.allclose(shifts, shifts.round(), atol=1e-5)
    assert sorted({int(s) for s in shifts[:, 0].round()}) == [-2, -1, 0, 1, 2]
    assert sorted({int(s) for s in shifts[:, 1].round()}) == [-3, -2, -1, 0, 1, 2, 3]
    moved = move(x, moves)
    for k in range(20):
        down, across = (int(s) for s in shifts[k].round())
        crop = F.pad(x[k], (3, 3, 2, 2))[:, 2 + down : 18 + down, 3 + across : 27 + across]
        crop = crop.flip(-1) if drawn[k, 2] > 0 else crop
        assert torch.allclose(moved[k], crop, atol=1e-5)


def test_the_gradient_is_pulled_back_from_where_the_adversary_stands(
    batch: Batch, in_float32: None
) -> None:
    net = for_crafting(build("vgg-w16", 3, 16, seed=0), torch.device("cpu"))
    method: RobustErrorMinimising = tiny("rem", adversary_steps=3)
    x, y = batch.x, batch.labels()
    drawn = torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moves = whole_pixels(drawn, x)
    torch.manual_seed(5)
    found = method.pulled_back(net, x, y, moves, drawn_from_torch(x), "0-0")
    torch.manual_seed(5)
    worst = method.disturbed(net, move(x, moves), y, drawn_from_torch(x), "0-0")
    assert losses(net, worst, y).mean() > losses(net, move(x, moves), y).mean()
    at_worst = image_gradient(lambda x: F.cross_entropy(net(x), y, reduction="none"), worst)
    shifts = (moves[:, :2] * 2).round().int()
    for k in range(12):  # back to where each pixel came from
        back = at_worst[k].flip(-1) if drawn[k, 2] > 0 else at_worst[k]
        down, across = shifts[k].tolist()
        wide = torch.zeros(3, 20, 20)
        wide[:, 2 + down : 18 + down, 2 + across : 18 + across] = back
        assert torch.allclose(found[k], wide[:, 2:18, 2:18], atol=1e-6, rtol=1e-3)


def test_a_step_goes_against_the_sum_over_draws(net: Net, batch: Batch) -> None:
    method = tiny("min-max-min", steps=1, draws=3, step_levels=1.0)
    x, y = batch.x, batch.labels()
    table = {f"moves-0-{j}": torch.rand(12, 3) * 2 - 1 for j in range(3)}
    table["start"] = torch.zeros_like(x)
    made = method.minimised([net], x, y, lambda stream, shape: table[stream])
    moves = [whole_pixels(table[f"moves-0-{j}"], x) for j in range(3)]

    def total(x: Tensor) -> Tensor:
        moved = [move(x, each) for each in moves]
        return sum(F.cross_entropy(net(m), y, reduction="none") for m in moved)  # type: ignore[return-value]

    expected = (x - image_gradient(total, x).sign() / 255).clamp(0, 1)
    assert (made == expected).float().mean() > 0.99  # signs of sums that are nearly 0


def test_sem_draws_evenly_within_the_radius(net: Net) -> None:
    method: StableErrorMinimising = tiny("sem", adversary_levels=3.0)
    x = torch.full((8, 3, 16, 16), 0.5)
    torch.manual_seed(0)
    levels = (method.disturbed(net, x, x, drawn_from_torch(x), "0-0") - x) * 255
    assert levels.abs().max() <= 3.001
    assert levels.abs().max() > 2.95
    assert levels.mean().abs() < 0.1
    assert (levels.abs() < 1.5).float().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ROBUST)
def test_crafted_images_are_learnt_already(
    name: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method: RobustErrorMinimising = tiny(name, epochs=2)
    state = method.fit(split, ctx)
    method = replace(method, steps=6, draws=2)
    crafted = method.budget.project(method.crafter(state, ctx)(batch), batch.x)
    (net,) = method.frozen(state, ctx)
    y = batch.labels()
    assert losses(net, crafted, y).mean() < losses(net, batch.x, y).mean()


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("levels", [0.0, 8.0, math.nan])
def test_an_adversary_as_strong_as_the_noise_is_refused(name: str, levels: float) -> None:
    with pytest.raises(ValueError, match="below 8, such as 4"):
        tiny(name, adversary_levels=levels)


def test_papers_train_with_their_own_figures() -> None:
    paper = methods()["rem"].paper
    assert isinstance(paper, RobustErrorMinimising)
    assert paper.passes == 550
    assert methods()["sem"].paper.passes == 50
    assert methods()["min-max-min"].paper.passes == 50


def test_availability_is_its_formula() -> None:
    """softmax of log([6,3,1]/10) is .6, .3, .1: its differences from 1/3 have squares that sum to
    .46 - 1/3."""
    logits = torch.tensor([[6.0, 3.0, 1.0], [2.0, 2.0, 2.0]]).log()
    square = 0.46 - 1 / 3
    paper, code = availability(logits), availability(logits, "code")
    assert paper.tolist() == pytest.approx([square / 3, 0.0], abs=1e-6)
    assert code.tolist() == pytest.approx([math.sqrt(square), 0.0], abs=1e-5)


def test_the_regulariser_evens_clean_images_out_and_leaves_statistics_alone(
    batch: Batch, net: Net
) -> None:
    plain = build("vgg-w16", 3, 16, seed=0).train()
    statistics = {name: value.clone() for name, value in plain.named_buffers()}
    method: MinMaxMin = tiny("min-max-min", weight=3.0)
    found = method.regulariser(plain, batch.x)
    with torch.no_grad():
        expected = 3 * availability(plain.eval()(batch.x)).mean()
    assert torch.isclose(found.detach(), expected)
    found.backward()  # type: ignore[no-untyped-call]
    assert plain.head.weight.grad is not None
    assert plain.head.weight.grad.any()
    assert all(torch.equal(statistics[n], value) for n, value in plain.named_buffers())


def test_dar_is_part_of_what_the_surrogate_descends(batch: Batch) -> None:
    found = []
    for weight in (0.0, 2.0):
        net = build("vgg-w16", 3, 16, seed=0)
        method: MinMaxMin = tiny("min-max-min", weight=weight, dar="code")
        torch.manual_seed(0)
        found.append(method._training_loss([net], 0)(net.train(), batch.x, batch.labels()))
    with torch.no_grad():  # of a net that has met the protected images
        expected = 2 * availability(net.eval()(batch.x), "code").mean()
    assert torch.isclose(found[1] - found[0], expected, rtol=1e-3)


def test_a_second_surrogate_is_trained_and_asked(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    one: BilevelMethod = tiny("min-max-min", epochs=1)
    two: BilevelMethod = tiny("min-max-min", epochs=1, second_surrogate="resnet10-w16")
    state = two.fit(split, ctx)
    assert [type(net.head) for net in two.frozen(state, ctx)] == [torch.nn.Linear] * 2
    assert {name.split("/")[0] for name in state} == {"surrogate-0", "surrogate-1"}
    assert two.passes == 2 * one.passes
    crafted = two.crafter(state, ctx)(batch)
    assert not torch.equal(crafted, one.crafter(state, ctx)(batch))
    with pytest.raises(ValueError, match="resnet10-w16"):
        tiny("min-max-min", second_surrogate="resnet10-w61")
