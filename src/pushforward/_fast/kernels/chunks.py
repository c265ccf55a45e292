"""Work on many rows without gradients: in chunks that stay in cache, on all cores, with memory used again and again."""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def map_rows(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    rows: Tensor,
    context: Tensor | None,
    shapes: Sequence[tuple[int, ...]],
    *,
    dtype: torch.dtype | None = None,
    hidden: torch.dtype | None = None,
) -> Sequence[Tensor]:
    """fn(rows, context), each of whose results has one row of its shape a row; in chunks if there are no gradients.

    The results are of `dtype`, or of that of the rows when None; `hidden` is as in `by_chunks`.
    """
    spans = spans_of(len(rows), math.prod(rows.shape[1:]), rows.device)
    small = len(spans) <= 1 and hidden is None
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or small:
        return fn(rows, context)
    outputs = [rows.new_empty(len(rows), *shape, dtype=dtype or rows.dtype) for shape in shapes]
    by_chunks(fn, lambda span: (rows[span], None if context is None else context[span]), spans, outputs, hidden)
    return outputs


def spans_of(count: int, numel: int, device: torch.device) -> list[slice]:
    """The chunks of so many rows of `numel` numbers each.

    On a CPU few enough that a layer's activations stay in cache, and enough that products, not the calls of operators,
    take the time (measured, benchmarks/); always a multiple of 16, up to which torch draws normal numbers in one way.
    """
    most, together = (2048, 2**17) if device.type == "cpu" else (2**16, 2**23)
    size = max(16, min(most, together // numel // 16 * 16))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def by_chunks(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    read: Callable[[slice], tuple[Tensor, Tensor | None]],
    spans: Sequence[slice],
    outputs: Sequence[Tensor],
    hidden: torch.dtype | None = None,
) -> None:
    """Writes fn(x, context) of the rows that `read` gives for each span to these rows of the outputs; no gradients.

    On a CPU the chunks are worked on by as many threads as torch would use, each running its operators on its own core:
    small products gain more from that than from being split. Spans are read in their order, one at a time. On other
    devices it is one thread, which never waits for the device.

    Args:
        fn: (x (B, *shape), context) -> tensors with a row a row.
        read: a span -> its x and context.
        spans: which rows make a chunk.
        outputs: one tensor for each that fn returns, for all rows.
        hidden: the number format of the products between hidden layers; None for that of the weights.
    """
    threads_before = torch.get_num_threads()
    threads = min(threads_before, len(spans)) if outputs[0].device.type == "cpu" else 1
    pending, turn = collections.deque(spans), threading.Lock()
    shared: dict[Callable[[], Any], Any] = {}

    def work() -> None:
        with Scratch(shared, hidden):
            while True:
                with turn:
                    if not pending:
                        return
                    span = pending.popleft()
                    x, context = read(span)
                if x.ndim == 2:
                    # One column after the other: halves are then blocks of memory, which elementwise maps read fastest.
                    x = x.t().contiguous().t()
                for output, result in zip(outputs, fn(x, context), strict=True):
                    output[span] = result

    if threads <= 1:
        work()
        return
    # A new thread starts with torch's defaults, not with what its caller has set.
    inference = torch.is_inference_mode_enabled()
    autocast = {"enabled": torch.is_autocast_enabled("cpu"), "dtype": torch.get_autocast_dtype("cpu")}

    def work_in_thread() -> None:
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", **autocast):
                work()
        finally:
            pending.clear()  # after an error, the other threads stop as well

    try:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work_in_thread) for _ in range(threads)]:
                done.result()
    finally:
        torch.set_num_threads(threads_before)  # a worker's own setting also becomes the default of new threads


class Scratch:
    """What the layers of a flow share within one thread, while it works on chunks; entered as a context manager.

    A fresh tensor of some hundred rows costs page faults; buffers that are used again and again stay in cache. What
    follows from the weights alone, as the matrix of an `LULinear`, is made once for all chunks and threads.

    Args:
        shared: what was made once, the same for all threads.
        hidden: the number format of the products between hidden layers; None for that of the weights.
    """

    def __init__(self, shared: dict[Callable[[], Any], Any], hidden: torch.dtype | None = None) -> None:
        self.hidden = hidden
        self._shared = shared
        self._buffers: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}

    def __enter__(self) -> None:
        self._outer = _of_thread.__dict__.get("current")
        _of_thread.current = self

    def __exit__(self, *exc: object) -> None:
        _of_thread.current = self._outer

    def buffer(self, which: int, rows: int, width: int, like: Tensor) -> Tensor:
        """(rows, width) of memory whose content is lost at the next call with the same `which` and width."""
        key = (which, width, like.dtype, like.device)
        held = self._buffers.get(key)
        if held is None or len(held) < rows:
            held = self._buffers[key] = torch.empty(rows, width, dtype=like.dtype, device=like.device)
        return held[:rows]

    def once(self, make: Callable[[], T]) -> T:
        """What the method `make` of a layer gives, made at the first call."""
        if make not in self._shared:
            self._shared[make] = make()
        return self._shared[make]


_of_thread = threading.local()


def scratch() -> Scratch | None:
    """The scratch of this thread, or None outside of `by_chunks`, with gradients, or under compilation."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return None
    return getattr(_of_thread, "current", None)


def once(make: Callable[[], T]) -> T:
    """make(), a method of a layer that depends on its weights alone; within `by_chunks` it is called once."""
    held = scratch()
    return make() if held is None else held.once(make)
