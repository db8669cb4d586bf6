"""What a worker checks of every image before it writes it, and how many it makes together."""

from __future__ import annotations

import numpy as np
import pytest

from crafting.budget import L2, Linf
from release import machine
from release.craft import _holds
from release.resolve import _batch_size


def test_one_channel_that_is_stored_three_times_is_as_far_from_its_clean_one() -> None:
    before, after = np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 31, np.uint8)
    stored = np.repeat(after, 3, axis=2)
    assert _holds(L2(1.0), before, after)
    assert _holds(L2(1.0), before, stored)
    assert not _holds(L2(0.9), before, stored)
    stored[0, 0, 1] += 1
    assert not _holds(Linf(40), before, stored), "no longer the same three times"


def test_large_images_are_crafted_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "device", lambda: "cpu")
    assert _batch_size(32, 3 * 32 * 32) == 64
    assert _batch_size(224, 3 * 224 * 224) == 64
    assert _batch_size(224, 3 * 1000 * 800) == 6
    assert _batch_size(224, 3 * 4000 * 3000) == 4
    monkeypatch.setattr(machine, "device", lambda: "cuda")
    assert _batch_size(32, 3 * 32 * 32) == 512
    assert _batch_size(224, 3 * 224 * 224) == 16
