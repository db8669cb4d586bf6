from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from crafting.batch import Batch, PixelSplit
from crafting.budget import Linf
from crafting.kernels import Wide
from crafting.method import Context
from crafting.methods import tangent_kernel
from crafting.methods.tangent_kernel import TangentKernel, _Block
from crafting.registry import methods
from crafting.runner import protect

Split = Callable[..., PixelSplit]
Contexts = Callable[..., Context]


def _ntga(**changes: Any) -> TangentKernel:
    method = replace(methods()["ntga"].paper, validation=12, **changes)
    assert isinstance(method, TangentKernel)
    return method


def _block(method: TangentKernel, split: PixelSplit, ctx: Context) -> tuple[_Block, Batch]:
    state, batch = method.fit(split, ctx), next(split.batches(12))
    images, labels = state["validation/images"], state["validation/labels"]
    return _Block(method, batch.labels(), images, labels, ctx), batch


@pytest.mark.parametrize("kernel", ["cnn", "fnn"])
@pytest.mark.parametrize("full_steps", [True, False])
def test_a_crafted_block_teaches_less_than_the_clean_one(
    split: PixelSplit, ctx: Context, kernel: str, full_steps: bool
) -> None:
    method = _ntga(kernel=kernel, full_steps=full_steps)
    block, batch = _block(method, split, ctx)
    crafted = protect(method.crafter(method.fit(split, ctx), ctx), method.budget, batch)
    noise = (torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).sign()
    random = (batch.x + noise * 8 / 255).clamp(0, 1)
    clean, after = block.loss(batch.x), block.loss(crafted.float() / 255)
    assert after > clean
    assert after - clean > 3 * (block.loss(random) - clean)


@pytest.mark.parametrize(("kind", "activation"), [("cnn", "relu"), ("fnn", "erf"), ("fnn", "relu")])
def test_the_loss_is_that_of_plain_kernel_regression(
    kind: Any, activation: Any, split: PixelSplit, ctx: Context
) -> None:
    """After a very long training the dual weights solve K a = Y."""
    method = _ntga(time=1e9, ridge=1e-2, kernel=kind, activation=activation)
    block, batch = _block(method, split, ctx)
    wide = Wide(kind, activation, 1.76, 0.18)
    kernel = wide.kernel(batch.x, batch.x)
    kernel = kernel + 1e-2 * kernel.diagonal().mean() * torch.eye(12)
    answers = wide.kernel(block.held_out.float() / 255, batch.x) @ torch.linalg.solve(
        kernel, F.one_hot(batch.labels(), 3).double()
    )
    expected = F.cross_entropy(answers, block.held_labels, reduction="sum").item()
    assert block.loss(batch.x) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [16, 12])
def test_the_gradient_is_that_of_the_loss_in_chunks_of_any_size(
    toy_split: Split, context: Contexts, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = toy_split(size=size)
    block, batch = _block(_ntga(), split, context(split))
    whole = block.gradient(batch.x)
    ahead = whole.sign() * 1e-3
    expected = (block.loss(batch.x + ahead) - block.loss(batch.x - ahead)) / 2
    assert (whole * ahead).sum().item() == pytest.approx(expected, rel=0.02)
    monkeypatch.setattr(tangent_kernel, "_CHUNK", 5)
    assert torch.allclose(block.gradient(batch.x), whole, rtol=1e-3, atol=1e-6)


def test_validation_rows_are_the_splits_own_and_at_most_half_of_it(
    split: PixelSplit, ctx: Context
) -> None:
    """`split` is a view of an array that holds further rows, as those of a test split might be."""
    mine = split.take(range(0, 48, 3))
    state = replace(_ntga(), validation=100).fit(mine, ctx)
    assert len(state["validation/images"]) == 8
    known = {pixels.tobytes() for pixels in split.pixels[::3]}
    held = [pixels.numpy().tobytes() for pixels in state["validation/images"]]
    assert set(held) <= known
    assert len(set(held)) == 8
    labels = {split.pixels[row].tobytes(): split.targets[row] for row in range(48)}  # type: ignore[index]
    assert [labels[image] for image in held] == state["validation/labels"].tolist()


def test_validation_rows_of_the_block_itself_do_not_count(split: PixelSplit, ctx: Context) -> None:
    method = _ntga()
    state, batch = method.fit(split, ctx), next(split.batches(12))
    keys = [bytes(key) for key in state["validation/keys"].numpy()]
    inside = np.array([key in {ctx.row_key(int(row)) for row in batch.rows} for key in keys])
    assert 0 < inside.sum() < 12
    first = protect(method.crafter(state, ctx), method.budget, batch)
    changed = state | {"validation/images": state["validation/images"].clone()}
    changed["validation/images"][torch.from_numpy(inside)] = 0
    assert torch.equal(protect(method.crafter(changed, ctx), method.budget, batch), first)
    changed["validation/images"][torch.from_numpy(~inside)] = 0
    assert not torch.equal(protect(method.crafter(changed, ctx), method.budget, batch), first)


def test_full_steps_are_as_long_as_the_budget(split: PixelSplit, ctx: Context) -> None:
    assert _ntga(full_steps=True).step_levels == 8
    assert _ntga(steps=10).step_levels == pytest.approx(0.88)
    method = _ntga(full_steps=True, steps=1, budget=Linf(4))
    batch = next(split.batches(12))
    crafted = method.crafter(method.fit(split, ctx), ctx)(batch)
    inside = (batch.x > 0.05) & (batch.x < 0.95)
    assert torch.allclose((crafted - batch.x).abs()[inside], torch.tensor(4 / 255), atol=1e-6)


@pytest.mark.parametrize("changes", [{"time": 0.0}, {"ridge": -1.0}])
def test_figures_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        _ntga(**changes)


def test_the_wide_net_is_trained_for_as_long_as_asked(split: PixelSplit, ctx: Context) -> None:
    """Of 12 rows in 3 classes, by the exponential of the whole matrix."""
    method = _ntga(time=5.0, ridge=1e-2)
    block, batch = _block(method, split, ctx)
    wide = Wide("cnn", "relu", 1.76, 0.18)
    kernel = wide.kernel(batch.x, batch.x)
    kernel = kernel + 1e-2 * kernel.diagonal().mean() * torch.eye(12)
    learnt = torch.eye(12) - torch.linalg.matrix_exp(-5 * kernel / (12 * 3))
    weights = torch.linalg.solve(kernel, learnt @ F.one_hot(batch.labels(), 3).double())
    answers = wide.kernel(block.held_out.float() / 255, batch.x) @ weights
    expected = F.cross_entropy(answers, block.held_labels, reduction="sum").item()
    assert block.loss(batch.x) == pytest.approx(expected, rel=1e-6)
    longer = replace(block, method=replace(method, time=50.0))
    assert longer.loss(batch.x) != pytest.approx(expected, rel=1e-3)
