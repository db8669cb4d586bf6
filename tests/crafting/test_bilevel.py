"""Rounds, in which nets and noise are made together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rounds import brought_down_after, played_by, same, tiny, trainings

from crafting import bilevel
from crafting.batch import PixelSplit
from crafting.bilevel import Turn
from crafting.method import Context
from crafting.noisebank import NoiseBank


def left(ctx: Context) -> dict[str, bytes]:
    """The files that the last round left, by name."""
    assert ctx.scratch is not None
    found = [path for path in ctx.scratch.rglob("*") if path.is_file()]
    return {str(path.relative_to(ctx.scratch)): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", ["em", "em-class", "rem", "deepconfuse"])
def test_a_killed_fit_goes_on_to_the_same_state(
    name: str, split: PixelSplit, ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny(name)
    whole = replace(ctx, scratch=tmp_path / "whole")
    state = method.fit(split, whole)
    broken = replace(ctx, scratch=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        method.fit(split, replace(broken, progress=brought_down_after(2)))
    played = played_by(method, monkeypatch)
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


@pytest.mark.parametrize("name", ["em", "rem", "deepconfuse"])
def test_one_image_is_no_batch(name: str) -> None:
    with pytest.raises(ValueError, match="at least 2 images at a time: set batch_size"):
        tiny(name, batch_size=1)


@pytest.mark.parametrize("name", ["em", "rem", "sem", "min-max-min", "deepconfuse"])
def test_a_share_of_the_rows_is_learnt_from_in_as_many_steps(
    name: str, split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    method = tiny(name, batch_size=24)
    if hasattr(method, "epochs"):
        method = replace(method, epochs=5)  # the rate falls after 2 and 4
    method.fit(split, ctx)
    whole = [rate for each in seen for rate in each.rates]
    seen.clear()
    method.fit(split.take(range(24)), replace(ctx, fit_share=0.5))
    assert [rate for each in seen for rate in each.rates] == whole


@pytest.mark.parametrize("name", ["em", "rem", "deepconfuse"])
def test_every_round_has_an_order_and_randomness_of_its_own(
    name: str, split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    method = tiny(name, round_steps=3) if name == "em" else tiny(name)
    method.fit(split, ctx)
    assert [sorted(each.rows) for each in seen] == [list(range(48))] * 3
    for epoch, each in enumerate(seen):
        assert each.rows == [int(row) for b in split.batches(16, epoch) for row in b.rows]
    assert len({each.seed for each in seen}) == 3


def test_no_batch_is_left_with_a_few_rows(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trainings(monkeypatch)
    tiny("rem", epochs=1).fit(split.take(range(33)), ctx)
    assert [len(batch.rows) for batch in seen[0].batches] == [17, 16]


@pytest.mark.parametrize(
    ("rows", "wanted", "size"),
    [(48, 16, 16), (33, 16, 17), (10, 128, 10), (5000, 125, 125), (15745, 128, 127)],
)
def test_the_last_batch_is_nearly_full(rows: int, wanted: int, size: int) -> None:
    assert bilevel._even_size(rows, wanted) == size
    assert -rows % size <= size / 16


def test_a_surrogate_takes_plain_steps_of_sgd_on_the_very_images(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch, in_float32: None
) -> None:
    """Two of the whole split, without noise yet: momentum 0.9, decay 5e-4, and gradients of 1 at
    most, where em would have 5."""
    monkeypatch.setattr("crafting.methods.error_minimising._LONGEST_GRADIENT", 1.0)
    method = tiny("em", rounds=1, round_steps=2, batch_size=48, steps=0)
    state, (net,) = method.fit(split, ctx), method._built(ctx)
    long = 0
    moved = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for epoch in range(2):
        whole = next(split.batches(48, epoch))
        net.train().zero_grad()
        F.cross_entropy(net(whole.x), whole.labels()).backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        length = torch.cat([g.flatten() for g in gradients.values()]).norm()
        long += int(length > 1.2)
        with torch.no_grad():
            for name, p in net.named_parameters():
                step = gradients[name] / length.clamp_min(1) + 5e-4 * p
                moved[name] = 0.9 * moved[name] + step
                p -= 0.1 * moved[name]
    assert long > 0
    for name, p in net.named_parameters():
        assert torch.allclose(state[f"surrogate-0/{name}"], p, rtol=1e-3, atol=1e-4), name
