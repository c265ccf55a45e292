"""Work on many rows without gradients, in chunks: memory stays flat in their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .switch import PLAIN

fast: Any = None
if not PLAIN:
    from ._fast.kernels import chunks as fast

Rows = tuple[Tensor, Tensor | None]  # x (B, *shape), context (B, K)


def map_rows(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    rows: Tensor,
    context: Tensor | None = None,
    *,
    hidden_dtype: torch.dtype | None = None,
) -> Sequence[Tensor]:
    """fn(rows, context), whose results have a row a row; in chunks if there are no gradients.

    Arguments as of `in_chunks`.
    """
    spans = spans_of(len(rows), math.prod(rows.shape[1:]), rows.device)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or (len(spans) == 1 and hidden_dtype is None):
        return fn(rows, context)

    def read(span: slice) -> Rows:
        return rows[span], None if context is None else context[span]

    return in_chunks(fn, read, spans, rows.device, hidden_dtype=hidden_dtype)


def in_chunks(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    read: Callable[[slice], Rows],
    spans: Sequence[slice],
    device: torch.device,
    *,
    hidden_dtype: torch.dtype | None = None,
) -> Sequence[Tensor]:
    """The results of fn(x, context), of all chunks one after the other; no gradients.

    Args:
        fn: (x (B, *shape), context) -> tensors with a row a row.
        read: a span -> its x and context; called in their order, one at a time.
        spans: which rows make a chunk, see `spans_of`.
        device: of the rows.
        hidden_dtype: the number format of the products between hidden layers of each `MLP`; None for that of the
            weights. Another one needs the fast path.
    """
    if fast and fast.fast_ok():
        return fast.in_chunks(fn, read, spans, device, hidden_dtype)
    return [torch.cat(parts) for parts in zip(*(fn(*read(span)) for span in spans), strict=True)]


def spans_of(count: int, numel: int, device: torch.device) -> list[slice]:
    """The chunks of so many rows of `numel` numbers each; at least one.

    On a CPU few enough that a layer's activations stay in cache, and enough that products, not the calls of operators,
    take the time (measured, benchmarks/); always a multiple of 16, up to which torch draws normal numbers in one way.
    """
    most, together = (2048, 2**17) if device.type == "cpu" else (2**16, 2**23)
    size = max(16, min(most, together // numel // 16 * 16))
    return [slice(start, min(start + size, count)) for start in range(0, max(count, 1), size)]
