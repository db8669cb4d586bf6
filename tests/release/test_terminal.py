"""How long things took, for people."""

from __future__ import annotations

import pytest

from release.terminal import duration


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((8.4, "8 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (539.8, "9 min 0 s")),
        *((3599.7, "1 h 0 min"), (12000, "3 h 20 min")),
    ],
)
def test_seconds_are_rounded_before_they_are_split(seconds: float, told: str) -> None:
    assert duration(seconds) == told
