"""Work on many rows without gradients: in chunks that stay in cache, on all cores, with memory used again and again."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import fast_ok as fast_ok

L = TypeVar("L")
T = TypeVar("T")


def in_chunks(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    read: Callable[[slice], tuple[Tensor, Tensor | None]],
    spans: Sequence[slice],
    device: torch.device,
    hidden_dtype: torch.dtype | None,
) -> Sequence[Tensor]:
    """As `chunks.in_chunks`, in threads.

    On a CPU the chunks are worked on by as many threads as torch would use, each running its operators on its own core:
    small products gain more from that than from being split. On other devices it is one thread, which never waits for
    the device.
    """
    pending, turn = collections.deque(spans), threading.Lock()
    shared: dict[object, Any] = {}
    outputs: list[Tensor] = []

    def take() -> tuple[slice, Tensor, Tensor | None] | None:
        with turn:
            if not pending:
                return None
            span = pending.popleft()
            return span, *read(span)

    def write(span: slice, results: Sequence[Tensor]) -> None:
        with turn:
            if not outputs:
                outputs.extend(result.new_empty(spans[-1].stop, *result.shape[1:]) for result in results)
        for output, result in zip(outputs, results, strict=True):
            output[span] = result

    def work() -> None:
        with Scratch(shared, hidden_dtype):
            while (taken := take()) is not None:
                span, x, context = taken
                if x.ndim == 2:
                    # One column after the other: halves are then blocks of memory, which elementwise maps read fastest.
                    x = x.t().contiguous().t()
                write(span, fn(x, context))

    threads = min(torch.get_num_threads(), len(spans)) if device.type == "cpu" else 1
    if threads > 1:
        _in_threads(work, pending.clear, threads)
    else:
        work()
    return outputs


def _in_threads(work: Callable[[], None], stop: Callable[[], None], threads: int) -> None:
    """Calls work() in so many threads; `stop` is called at the end of each, and after an error ends the others."""
    threads_before = torch.get_num_threads()
    # A new thread starts with torch's defaults, not with what its caller has set.
    inference = torch.is_inference_mode_enabled()
    autocast = {"enabled": torch.is_autocast_enabled("cpu"), "dtype": torch.get_autocast_dtype("cpu")}

    def work_in_thread() -> None:
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", **autocast):
                work()
        finally:
            stop()

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
        hidden_dtype: the number format of the products between hidden layers; None for that of the weights.
    """

    def __init__(self, shared: dict[object, Any], hidden_dtype: torch.dtype | None = None) -> None:
        self.hidden_dtype = hidden_dtype
        self._shared = shared
        self._buffers: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}

    def __enter__(self) -> None:
        self._outer = _of_thread.__dict__.get("current")
        _of_thread.current = self

    def __exit__(self, *exc: object) -> None:
        _of_thread.current = self._outer

    def take(self, which: int, rows: int, width: int, like: Tensor) -> Tensor:
        """(rows, width) of memory whose content is lost at the next call with the same `which` and width."""
        key = (which, width, like.dtype, like.device)
        memory = self._buffers.get(key)
        if memory is None or len(memory) < rows:
            memory = self._buffers[key] = torch.empty(rows, width, dtype=like.dtype, device=like.device)
        return memory[:rows]

    def once(self, layer: L, make: Callable[[L], T]) -> T:
        """make(layer), made at the first call."""
        key = (layer, make)
        if key not in self._shared:
            self._shared[key] = make(layer)
        return self._shared[key]


_of_thread = threading.local()


def scratch() -> Scratch | None:
    """The scratch of this thread, or None outside of `in_chunks` or with gradients; ask `fast_ok` first."""
    return None if torch.is_grad_enabled() else getattr(_of_thread, "current", None)


def once(layer: L, make: Callable[[L], T]) -> T:
    """make(layer), which depends on its weights alone; within `in_chunks` it is called once. Ask `fast_ok` first."""
    current = scratch()
    return make(layer) if current is None else current.once(layer, make)
