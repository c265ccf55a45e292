"""Work on pieces by all threads at once, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import torch

P = TypeVar("P")
R = TypeVar("R")


def in_order(fn: Callable[[P], R], pieces: Iterable[P], *, device: torch.device | None = None) -> Iterator[R]:
    """fn of each piece, in order; as many at a time as torch has threads, each on its own core.

    Reading, encoding, matrix products and writing so overlap, and no thread waits for another within an operator.
    Few pieces are in memory at a time. A single piece, or a device that is no CPU, is worked on in this thread.

    Example:
        >>> list(in_order(lambda x: x * x, range(4)))
        [0, 1, 4, 9]
    """
    pieces = iter(pieces)
    threads = torch.get_num_threads() if device is None or device.type == "cpu" else 1
    first = list(islice(pieces, 2))
    if threads == 1 or len(first) < 2:
        yield from map(fn, chain(first, pieces))
        return
    waiting: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for piece in chain(first, pieces):
            waiting.append(pool.submit(fn, piece))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's own setting also becomes the default of new threads
