"""Work done ahead in a few threads, given back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_MOST_BYTES = 64 << 20


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int = 4,
    ahead: int = 64,
    size: Callable[[T], int] = lambda item: 0,
) -> Iterator[R]:
    """function(item) for every item, in the order of the items.

    At most `ahead` items are taken before their result is asked for, and no more once those taken
    come to `_MOST_BYTES` by `size`, so that memory stays flat however many and large they are;
    closing the iterator leaves no thread behind.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Future[R], int]] = deque()
    held = 0
    try:
        for item in items:
            waiting.append((pool.submit(function, item), size(item)))
            held += waiting[-1][1]
            while len(waiting) >= ahead or held >= _MOST_BYTES:
                first, freed = waiting.popleft()
                held -= freed
                yield first.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
