"""What is kept of pushes between runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import increments

SHAPE = {"rows": 40, "added": 5, "increments": 2, "seed": 0}


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """Targets and rows of all pushes; one to a target that has the rows already changes nothing."""
    found: list[tuple[Path, int]] = []

    def push(source: str, target: Path, work: Path, rows: int, *rest: Any) -> dict[str, Any]:
        if (target, rows) in found:
            return {"changed": False}
        found.append((target, rows))
        return {"changed": True} | dict.fromkeys(increments._KEPT, rows)

    monkeypatch.setattr(increments, "_push", push)
    return found


def test_a_run_of_another_shape_takes_nothing_over(
    pushed: list[tuple[Path, int]], tmp_path: Path
) -> None:
    told = increments._way("unprotected", "cifar10", tmp_path, SHAPE)
    assert [one["total"] for one in told] == [40, 45, 50]
    assert increments._way("unprotected", "cifar10", tmp_path, SHAPE) == told
    assert len(pushed) == 3
    more = increments._way("unprotected", "cifar10", tmp_path, SHAPE | {"increments": 3})
    assert [one["total"] for one in more] == [40, 45, 50, 55]
    for change in ({"rows": 30}, {"added": 6}, {"seed": 1}):
        increments._way("unprotected", "cifar10", tmp_path, SHAPE | change)
    increments._way("unprotected", "cifar100", tmp_path, SHAPE)
    assert len({target for target, _ in pushed}) == 5


def test_a_push_that_was_not_noted_is_told(pushed: list[tuple[Path, int]], tmp_path: Path) -> None:
    increments._way("unprotected", "cifar10", tmp_path, SHAPE)
    (log,) = tmp_path.glob("*.json")
    log.unlink()
    with pytest.raises(SystemExit, match=r"lacks a release of .*: remove both"):
        increments._way("unprotected", "cifar10", tmp_path, SHAPE)
