"""Losses and gradients of a training on a GPU, recorded once and played back: a step of a flow is thousands of small
kernels, and starting each from Python takes longer than running it.

See "CUDA Graphs" in the notes of PyTorch on CUDA semantics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .fused import Rows

_WARM_UPS = 3  # calls before a recording: libraries choose their kernels and layers set up what they keep


class _Recording(NamedTuple):
    """A graph, the tensors that it reads its rows from, and the one that it writes the losses to."""

    graph: torch.cuda.CUDAGraph
    rows: list[Tensor]
    losses: Tensor


class Recorded:
    """A function of a batch that reads weights and writes gradients at fixed places, recorded for each shape of batch.

    What cannot be recorded, such as a layer that looks at a value on the CPU, is called as it is from then on.

    Args:
        run: a batch on a GPU -> losses (M,), without a graph of autograd. It overwrites the gradients.
    """

    def __init__(self, run: Callable[[Rows], Tensor]) -> None:
        self._run = run
        self._recordings: dict[tuple[torch.Size, ...], _Recording] = {}
        self._calls: dict[tuple[torch.Size, ...], int] = {}
        self._stream = torch.cuda.Stream()
        self.refusal: str | None = None  # why it cannot be recorded

    def __call__(self, batch: Rows) -> Tensor:
        """-> (M,), and overwrites the gradients."""
        given = [t for t in (batch.x, batch.context, batch.weights) if t is not None]
        key = tuple(t.shape for t in given)
        if self.refusal is None and key not in self._recordings and self._calls.get(key, 0) >= _WARM_UPS:
            self._record(key, batch, given)
        if key not in self._recordings:
            return self._warm_up(key, batch)
        recording = self._recordings[key]
        for place, t in zip(recording.rows, given, strict=True):
            place.copy_(t)
        recording.graph.replay()
        return recording.losses.clone()

    def _warm_up(self, key: tuple[torch.Size, ...], batch: Rows) -> Tensor:
        """A call as it is, on the stream of the recording."""
        self._calls[key] = self._calls.get(key, 0) + 1
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            losses = self._run(batch)
        current.wait_stream(self._stream)
        return losses

    def _record(self, key: tuple[torch.Size, ...], batch: Rows, given: list[Tensor]) -> None:
        """Records the shape of a batch."""
        rows = [t.clone() for t in given]
        places = iter(rows)
        x, context, weights = (None if t is None else next(places) for t in (batch.x, batch.context, batch.weights))
        static = type(batch)(x, context, weights)  # type: ignore[call-arg]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                losses = self._run(static)
        except RuntimeError as error:
            self.refusal = str(error)
            torch.cuda.synchronize()
            return
        self._recordings[key] = _Recording(graph, rows, losses)
