"""Work on many rows without gradients: in chunks that stay in cache, on all cores, with memory used again and again."""

from __future__ import annotations

import collections
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def map_rows(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    rows: Tensor,
    context: Tensor | None,
    shapes: Sequence[tuple[int, ...]],
    dtype: torch.dtype | None = None,
) -> Sequence[Tensor]:
    """fn(rows, context), each of whose results has one row of its shape a row; in chunks if there are no gradients.

    The results are of `dtype`, or of that of the rows when None.
    """
    spans = spans_of(len(rows), math.prod(rows.shape[1:]), rows.device)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(spans) <= 1:
        return fn(rows, context)
    outputs = [rows.new_empty(len(rows), *shape, dtype=dtype or rows.dtype) for shape in shapes]
    by_chunks(fn, lambda span: (rows[span], None if context is None else context[span]), spans, outputs)
    return outputs


def spans_of(count: int, numel: int, device: torch.device) -> list[slice]:
    """The chunks of so many rows of `numel` numbers each.

    On a CPU few enough that a layer's activations stay in cache, and enough that products, not the calls of operators,
    take the time (measured, benchmarks/); always a multiple of 16, up to which torch draws normal numbers in one way.
    """
    most, together = (1024, 2**17) if device.type == "cpu" else (2**16, 2**23)
    size = max(16, min(most, together // numel // 16 * 16))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def by_chunks(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    read: Callable[[slice], tuple[Tensor, Tensor | None]],
    spans: Sequence[slice],
    outputs: Sequence[Tensor],
) -> None:
    """Writes fn(x, context) of the rows that `read` gives for each span to these rows of the outputs; no gradients.

    On a CPU the chunks are worked on by as many threads as torch would use, each running its operators on its own core:
    small products gain more from that than from being split. Spans are read in their order, one at a time.
    """
    device = outputs[0].device
    threads = min(torch.get_num_threads() if device.type == "cpu" else 1, len(spans))
    inference = torch.is_inference_mode_enabled()
    autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
    pending, turn = collections.deque(spans), threading.Lock()

    def work() -> None:
        with (
            torch.inference_mode(inference),
            torch.no_grad(),
            torch.autocast(device.type, enabled=autocast[0], dtype=autocast[1]),
            Scratch(),
        ):
            while True:
                with turn:
                    if not pending:
                        return
                    span = pending.popleft()
                    x, context = read(span)
                if x.ndim == 2:
                    # One column after the other: halves are then blocks of memory, which elementwise maps read fastest.
                    x = x.t().contiguous().t()
                try:
                    results = fn(x, context)
                except BaseException:
                    pending.clear()  # so that the other threads stop as well
                    raise
                for output, result in zip(outputs, results, strict=True):
                    output[span] = result

    if threads <= 1:
        work()
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
    finally:
        torch.set_num_threads(threads)  # a worker's own setting also becomes the default of new threads


class Scratch:
    """What the layers of a flow share within one thread, while it works on chunks; entered as a context manager.

    A fresh tensor of some hundred rows costs page faults; buffers that are used again and again stay in cache.
    """

    def __init__(self) -> None:
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


_of_thread = threading.local()


def scratch() -> Scratch | None:
    """The scratch of this thread, or None outside of `by_chunks`, with gradients, or under compilation."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return None
    return getattr(_of_thread, "current", None)
