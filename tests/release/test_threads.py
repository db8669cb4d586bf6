"""Work ahead: in order, never further than asked, and over when it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from release import threads
from release.threads import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(in_order(lambda n: n * n, range(200), threads=8, ahead=5)) == [
        n * n for n in range(200)
    ]


def test_no_more_items_are_taken_than_asked() -> None:
    taken = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = in_order(abs, items(), threads=2, ahead=7)
    assert next(results) == 0
    assert len(taken) == 7
    assert next(results) == 1
    assert len(taken) == 8
    results.close()  # type: ignore[attr-defined]


def test_few_large_items_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MOST_BYTES", 100)
    taken: list[int] = []
    sizes = iter([10, 10, 90, 10, 200, 10, 10])
    results = in_order(abs, (taken.append(n) or n for n in sizes), size=lambda size: size)
    assert next(results) == 10
    assert taken == [10, 10, 90], "100 bytes are reached"
    assert list(results) == [10, 90, 10, 200, 10, 10]
    assert sum(taken) == 340


def test_an_error_reaches_the_caller_in_its_turn() -> None:
    results = in_order(lambda n: 1 // (3 - n), range(10), ahead=8)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = in_order(abs, range(1000), threads=4, ahead=10)
    next(results)
    assert threading.active_count() > before
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
