"""What every registered countermeasure promises, at a size that takes moments."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crafting.batch import PixelSplit
from crafting.nets import build
from evaluation.countermeasures import COUNTERMEASURES, Countermeasure, parse
from evaluation.countermeasures.base import Data
from evaluation.trial import TrialSpec
from evaluation.verify import Splits, run

CLASSES, ROWS, SIZE, LARGE = 2, 16, 32, 224
CPU = torch.device("cpu")
SCALED_DOWN: Mapping[str, Any] = {"images": 4, "steps": 2, "draws": 2, "neighbours": 3}
"""Values for whatever fields have these names."""
OWN: Mapping[str, Mapping[str, Any]] = {
    "relabel": {"merge": 1, "parts": 2},  # two classes merged are one, which is refused
}

every_countermeasure = pytest.mark.parametrize("name", list(COUNTERMEASURES))
on_either = pytest.mark.parametrize("data", ["clean", "protected"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nets of the victim's architecture, in files called by the size of their images."""
    folder = tmp_path_factory.mktemp("weights")
    for size in (SIZE, LARGE):
        state = build("vgg-w16", CLASSES, size, seed=9).state_dict()
        tensors = {name: value.contiguous() for name, value in state.items()}
        save_file(tensors, folder / f"{size}.safetensors")
    return folder


def _tiny(name: str, weights: Path, size: int = SIZE) -> Countermeasure:
    kind = COUNTERMEASURES[name]
    known = {field.name for field in fields(kind)}
    values = {key: value for key, value in SCALED_DOWN.items() if key in known}
    if "weights" in known:
        values["weights"] = str(weights / f"{size}.safetensors")
    return kind(**values | dict(OWN.get(name, {})))


@cache
def _splits(channels: int = 3, size: int = SIZE) -> Splits:
    rng = np.random.default_rng(3)

    def rows(count: int) -> PixelSplit:
        pixels = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
        return PixelSplit(pixels, np.arange(count), np.arange(count) % CLASSES, CLASSES)

    clean, test = rows(ROWS), rows(8)
    noise = rng.integers(-8, 9, clean.pixels.shape)
    noisy = np.clip(clean.pixels.astype(int) + noise, 0, 255).astype(np.uint8)
    return Splits(replace(clean, pixels=noisy), test, clean)


def _trained(
    tried: Countermeasure, data: Data, seed: int = 0, channels: int = 3, size: int = SIZE
) -> str:
    """Everything that came of a training but the time it took, as text: a figure that nobody
    measured is not equal to itself otherwise."""
    splits = _splits(channels, size)
    if data == "clean":
        assert splits.twin is not None
        splits = replace(splits, train=splits.twin)
    spec = TrialSpec(
        victim="vgg-w16",
        countermeasure=str(tried),
        seed=seed,
        data=data,
        preset="quick",
        epochs=1,
    )
    told: list[float] = []
    outcome = run(replace(spec, net_size=size), splits, device=CPU, progress=told.append)
    assert told[-1] == 1
    assert len(outcome.curve) == (outcome.recipe.epochs if tried.is_watched else 0)
    assert outcome.train_rows == ROWS
    assert 0 <= outcome.final <= 1
    return json.dumps(replace(outcome, seconds=0.0, spec=replace(spec, seed=0)).to_json())


@every_countermeasure
@on_either
def test_one_seed_gives_one_outcome_and_another_seed_another(
    name: str, data: Data, weights: Path
) -> None:
    tried = _tiny(name, weights)
    first = _trained(tried, data)
    torch.rand(5)  # what others draw from torch does not matter
    assert _trained(tried, data) == first
    assert _trained(tried, data, seed=1) != first


@every_countermeasure
def test_rows_and_global_randomness_are_left_as_they_were(name: str, weights: Path) -> None:
    splits = _splits()
    pixels = [split.pixels.copy() for split in (splits.train, splits.test)]
    torch.manual_seed(5)
    drawn, legacy = torch.get_rng_state(), np.random.get_state()
    _trained(_tiny(name, weights), "protected")
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], legacy[1])
    for split, before in zip((splits.train, splits.test), pixels, strict=True):
        assert np.array_equal(split.pixels, before)


@every_countermeasure
def test_one_channel_works(name: str, weights: Path) -> None:
    _trained(_tiny(name, weights), "protected", channels=1)


@every_countermeasure
def test_one_image_left_in_the_last_batch_works(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation import trial
    from evaluation.victims import victim

    entry = victim("vgg-w16")
    few = replace(entry, recipe_quick=replace(entry.recipe_quick, batch_size=5))
    monkeypatch.setattr(trial, "victim", lambda name: few)
    _trained(_tiny(name, weights), "protected")


@pytest.mark.slow
@every_countermeasure
def test_large_images_work(name: str, weights: Path) -> None:
    _trained(_tiny(name, weights, LARGE), "protected", size=LARGE)


@every_countermeasure
def test_it_is_written_in_one_way(name: str, weights: Path) -> None:
    for tried in (COUNTERMEASURES[name](), _tiny(name, weights)):
        assert parse(str(tried)) == tried
        assert str(parse(str(tried))) == str(tried)


@every_countermeasure
def test_its_cost_is_known(name: str, weights: Path) -> None:
    assert 0 < COUNTERMEASURES[name]().cost < 100
    assert 0 < _tiny(name, weights).cost < 100


@every_countermeasure
def test_it_says_what_it_does_where_it_comes_from_and_what_its_parameters_are(name: str) -> None:
    kind = COUNTERMEASURES[name]
    module = sys.modules[kind.__module__].__doc__ or ""
    own = inspect.cleandoc(kind.__doc__ or "")
    if name != "none":
        assert any(str(year) in module for year in range(1980, 2030)) or "no paper" in module
    first = own.splitlines()[0]
    assert first.endswith(".")
    assert first[0].isupper()
    for field in fields(kind):
        assert f"{field.name}:" in own, f"{name} does not say what {field.name} is"
