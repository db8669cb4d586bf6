"""What every registered method promises, at a size that takes moments."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.budget import L0, L2, Linf, Unbounded
from crafting.method import Context, Method, State
from crafting.methods import tangent_kernel
from crafting.nets import Net
from crafting.registry import configure, methods, registration
from crafting.runner import protect

CLASSES, SIZE, ROWS = 3, 16, 12
SCALED_DOWN: dict[str, Any] = {
    "surrogate_epochs": 2,
    "checkpoints": 2,
    "steps": 3,
    "inner_steps": 2,
    "candidates": 20,
    "nets": "vgg-w16,resnet10-w16",
    "seeds": 1,
    "robust_steps": 1,
    "rounds": 2,
    "round_steps": 2,
    "stop_error": 0.0,
    "epochs": 2,
    "inner_epochs": 1,
    "draws": 1,
    "adversary_steps": 2,
    "training_adversary_steps": 2,
    "validation": 6,
    "every": 1,
    "contrast": 1.0,
    "clusters": 3,
    "generator_epochs": 2,
    "generator_blocks": 1,
}

MIXTURES = ("tap+random-noise", "random-noise+sep-fa-mi")
every_method = pytest.mark.parametrize("name", [*methods(), *MIXTURES])


def _split() -> PixelSplit:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (ROWS, 3, SIZE, SIZE), dtype=np.uint8)
    return PixelSplit(pixels, np.arange(ROWS), np.arange(ROWS) % CLASSES, CLASSES)


SPLIT = _split()


def _row_key(row: int) -> bytes:
    return hashlib.sha256(SPLIT.pixels[row].tobytes()).digest()


def _context(seed: bytes = b"secret", **changes: Any) -> Context:
    device = torch.device("cpu", 0)  # as a rank names it
    ctx = Context(CLASSES, SPLIT.shape, SIZE, device, seed, _row_key)
    return replace(ctx, **changes)


def _tiny(name: str) -> Method:
    options = registration(name).quick.options()
    small = {option: SCALED_DOWN.get(option.split(".")[-1]) for option in options}
    settings = {option: str(value) for option, value in small.items() if value is not None}
    return configure(name, "quick", settings=settings)


@cache
def _state(name: str, seed: bytes = b"secret") -> State:
    return _tiny(name).fit(SPLIT, _context(seed))


def _protected(name: str, size: int = ROWS, seed: bytes = b"secret") -> Tensor:
    method, ctx = _tiny(name), _context(seed)
    crafter = method.crafter(_state(name, seed), ctx)
    return torch.cat([protect(crafter, method.budget, batch) for batch in SPLIT.batches(size)])


@every_method
def test_pixels_keep_their_shape_and_their_budget(name: str) -> None:
    protected, clean = _protected(name), torch.from_numpy(SPLIT.pixels)
    assert protected.shape == clean.shape
    assert protected.dtype == torch.uint8
    delta = (protected.float() - clean.float()) / 255
    assert _tiny(name).budget.holds(delta).all()
    assert (delta != 0).flatten(1).any(1).all()


@every_method
def test_one_seed_gives_one_result_and_another_seed_another(name: str) -> None:
    first = _protected(name)
    _state.cache_clear()
    torch.rand(5)  # what others draw from torch does not matter
    assert torch.equal(_protected(name), first)
    same = torch.equal(_protected(name, seed=b"other"), first)
    assert same != registration(name).quick.keyed


@every_method
def test_scope_sample_does_not_depend_on_company(name: str) -> None:
    if registration(name).quick.scope != "sample":
        pytest.skip("its rows are crafted together")
    together = _protected(name)
    for size in (4, 5, 7):  # 5 and 7 leave 2 and 5 rows at the end
        assert torch.equal(_protected(name, size), together)
    # One row, and rows in another order.
    method, ctx = _tiny(name), _context()
    crafter = method.crafter(_state(name), ctx)
    whole = next(SPLIT.batches(ROWS))
    for rows in ([7], [9, 2, 11, 0]):
        part = Batch(whole.rows[rows], whole.x[rows], whole.labels()[rows])
        assert torch.equal(protect(crafter, method.budget, part), together[rows])


@every_method
def test_state_survives_the_disk(name: str, tmp_path: Path) -> None:
    state = _state(name)
    assert all("/" in key for key in state)
    save_file(state, tmp_path / "state.safetensors")
    method = _tiny(name)
    crafter = method.crafter(load_file(tmp_path / "state.safetensors"), _context())
    again = protect(crafter, method.budget, next(SPLIT.batches(ROWS)))
    assert torch.equal(again, _protected(name))


@every_method
def test_any_size_and_number_of_channels_is_crafted(name: str) -> None:
    method = _tiny(name)
    if method.one_size:
        pytest.skip("it takes images of one size")
    crafter = method.crafter(_state(name), _context(shape=None))
    for shape in ((1, 14, 19), (3, 33, 17)):
        batch = Batch(torch.arange(4), torch.rand(4, *shape), torch.arange(4) % CLASSES)
        pixels = protect(crafter, method.budget, batch)
        assert pixels.shape == batch.x.shape


@every_method
def test_labels_are_asked_for_by_those_that_need_them(name: str) -> None:
    method = _tiny(name)
    crafter = method.crafter(_state(name), _context())
    unlabelled = replace(next(SPLIT.batches(ROWS)), y=None)
    try:
        pixels = protect(crafter, method.budget, unlabelled)
    except AssertionError as refusal:
        if not method.needs_labels or "needs labels" not in str(refusal):
            raise
        return
    assert not method.needs_labels or method.has_fit  # it may be fit alone that asks for them
    assert torch.equal(pixels, _protected(name))


@every_method
def test_passes_are_counted_as_they_happen(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    method, there = _tiny(name), _context(scratch=tmp_path)
    fitted = method.fit(SPLIT, there) if method.keeps_scratch else _state(name)
    seen: list[int] = []
    for passing, way in ((Net, "features"), (tangent_kernel._Block, "gradient")):
        original = getattr(passing, way)

        def counted(through: Any, x: Tensor, original: Any = original) -> Tensor:
            seen.append(len(x))
            made: Tensor = original(through, x)
            return made

        monkeypatch.setattr(passing, way, counted)
    method.crafter(fitted, there)(next(SPLIT.batches(ROWS)))
    assert sum(seen) == method.passes * ROWS
    seen.clear()
    method.crafter(_state(name), _context())(next(SPLIT.batches(ROWS)))
    assert sum(seen) == method.passes_of_new_rows * ROWS


@every_method
def test_passes_of_fit_are_counted_as_they_happen(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    features = Net.features

    def counted(net: Net, x: Tensor) -> Tensor:
        seen.extend([len(x)] * x.requires_grad)
        return features(net, x)

    monkeypatch.setattr(Net, "features", counted)
    method = _tiny(name)
    method.fit(SPLIT, _context(scratch=tmp_path))
    # Adversaries whom surrogates learn to resist look for gradients of images, too.
    robust = (("surrogate_epochs", "robust_steps"), ("epochs", "training_adversary_steps"))
    resisted = sum(
        method.options().get(epochs, 0) * method.options().get(steps, 0) for epochs, steps in robust
    )
    assert sum(seen) == (method.fit_passes + resisted) * ROWS


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_few_rows_are_repeated_each_as_often(count: int) -> None:
    seen: list[list[int]] = []

    def crafter(batch: Batch) -> Tensor:
        seen.append(batch.rows.tolist())
        return batch.x

    (batch,) = SPLIT.take(range(count)).batches(ROWS)
    assert len(protect(crafter, Linf(8), batch)) == count
    (rows,) = seen
    assert rows[:count] == list(range(count))
    assert len({rows.count(row) for row in rows}) == 1
    assert len(rows) >= 4


@every_method
def test_quick_is_quick(name: str) -> None:
    assert registration(name).quick.passes <= 100


@every_method
def test_a_misspelt_option_is_told_the_nearest(name: str) -> None:
    for option in registration(name).quick.options():
        with pytest.raises(ValueError, match=option):
            configure(name, "quick", settings={option[:-1] + "q": "1"})


NOT_FIGURES = ("0", "-1", "nan", "inf")
SENSIBLE = r"(above|than|least) 0|0 or more|a share|a finite number"
MAY_BE_ZERO = {"momentum", "stop_error", "weight", "contrast", "separability", "l2", "tv", "ssim"}


@every_method
def test_a_figure_that_makes_no_sense_is_told_one_that_does(name: str) -> None:
    """Such as steps without length, which would leave every image as it is."""
    for option, value in registration(name).quick.options().items():
        if isinstance(value, float):
            zero_is_fine = option.split(".")[-1] in MAY_BE_ZERO
            for figure in NOT_FIGURES[zero_is_fine:]:
                with pytest.raises(ValueError, match=SENSIBLE):
                    configure(name, "quick", settings={option: figure})


@every_method
def test_a_budget_outside_its_kinds_is_refused(name: str) -> None:
    allowed = registration(name).quick.allowed
    options = registration(name).quick.options()
    for budget in (Linf(4), L2(1.0), L0(1), Unbounded()):
        if isinstance(budget, allowed):
            steps = isinstance(budget, L2) and "step_levels" in options
            long_steps = {"step_levels": "51"} if steps else {}
            assert configure(name, "quick", budget, long_steps).budget == budget
        else:
            with pytest.raises(ValueError, match="does not work within"):
                configure(name, "quick", budget)


@every_method
def test_it_says_where_it_comes_from(name: str) -> None:
    method = registration(name).quick
    text = sys.modules[type(method).__module__].__doc__ or ""
    for part in ("arXiv", "**Departures**", "**Expected**"):
        assert part in text
    assert method.paper
    assert method.bibtex.startswith("@")
    assert method.bibtex.count("{") == method.bibtex.count("}")
