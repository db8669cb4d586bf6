"""What a worker checks of every image before it writes it, and how many it makes together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run
from PIL import Image

from crafting.budget import L2, Linf
from release import machine
from release.craft import _batches, _is_within, batch_size
from release.resolve import _batch_size


def test_one_channel_that_is_stored_three_times_is_as_far_from_its_clean_one() -> None:
    before, after = np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 31, np.uint8)
    stored = np.repeat(after, 3, axis=2)
    assert _is_within(L2(1.0), before, after)
    assert _is_within(L2(1.0), before, stored)
    assert not _is_within(L2(0.9), before, stored)
    stored[0, 0, 1] += 1
    assert not _is_within(Linf(40), before, stored), "no longer the same three times"


def test_large_images_are_crafted_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    assert (_batch_size(32), _batch_size(224)) == (64, 64)
    monkeypatch.setattr(machine, "device", lambda: "cuda")
    assert (_batch_size(32), _batch_size(224)) == (512, 16)
    assert batch_size(64, 3 * 224 * 224) == 64
    assert batch_size(64, 3 * 1000 * 800) == 6
    assert batch_size(64, 3 * 1300 * 1000) == 4
    assert batch_size(64, 3 * 4000 * 3000) == 1


def test_a_large_image_does_not_set_how_many_small_ones_are_crafted_together() -> None:
    """Each shape goes by its own size; nothing but the shape of an array is looked at."""
    small, medium, large = (
        np.broadcast_to(np.uint8(0), shape)
        for shape in ((32, 32, 3), (1000, 800, 3), (4000, 3000, 3))
    )
    clean = [large, *[small] * 70, *[medium] * 7, large]
    batches = list(_batches(list(range(len(clean))), clean, most=64))
    assert batches == [
        [0],
        [78],
        [*range(1, 65)],
        [*range(65, 71)],
        [*range(71, 77)],
        [77],
    ]


def test_nets_see_images_of_eight_pixels_or_more(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / f"clean/{'ab'[number % 2]}/{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).save(place)
    where = ("--to", tmp_path / "out", "--workdir", tmp_path / "work", "--no-verify")
    planned = run("plan", tmp_path / "clean", *where, "--preset", "quick")
    assert planned.exit_code == 0, planned.stderr
    assert json.loads((tmp_path / "work/plan.json").read_text())["net_size"] == 8
