"""Work on many rows in chunks: without gradients memory stays flat in their number, with them it grows slowly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .switch import PLAIN, is_eager

fast: Any = None
if not PLAIN:
    from ._fast.kernels import chunks as fast

# Rows above which gradients are found by recomputation, and rows of a chunk, on a CPU and on other devices. A row's
# graph takes some 50 kB (16 couplings of width 32).
_RECOMPUTED = {True: (2**15, 2**13), False: (2**17, 2**15)}

Rows = tuple[Tensor, Tensor | None]  # x (B, *shape), context (B, K)


def map_rows(
    fn: Callable[[Tensor, Tensor | None], Sequence[Tensor]],
    rows: Tensor,
    context: Tensor | None = None,
    *,
    hidden_dtype: torch.dtype | None = None,
    module: nn.Module | None = None,
) -> Sequence[Tensor]:
    """Applies fn to rows and contexts, in chunks where there are many; each result has one entry per row.

    With gradients, chunks keep no graph: their backward pass evaluates them again (`torch.utils.checkpoint`). The
    gradients are the same, of any order; under a transform of `torch.func` and in forward mode all rows are worked on
    at once.

    Args:
        fn: (x (B, *shape), context (B, ...) or None) -> tensors (B, ...).
        rows: x (N, *shape).
        context: (N, ...), or None.
        hidden_dtype: as of `in_chunks`.
        module: what fn evaluates. With batch normalisation in training mode rows depend on each other: no chunks then.
    """
    if torch.compiler.is_compiling():  # the number of rows may be a symbol
        return fn(rows, context)
    spans = _spans(rows)
    if (len(spans) == 1 and hidden_dtype is None) or mixes_rows(module):
        return fn(rows, context)

    def read(span: slice) -> Rows:
        return rows[span], None if context is None else context[span]

    if torch.is_grad_enabled():
        parts = [checkpoint(fn, *read(span), use_reentrant=False) for span in spans]
        return [torch.cat(part) for part in zip(*parts, strict=True)]
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
        fn: (x (B, *shape), context) -> tensors (B, ...).
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


def _spans(rows: Tensor) -> list[slice]:
    """The chunks of rows (N, *shape), with or without gradients."""
    if not torch.is_grad_enabled():
        return spans_of(len(rows), math.prod(rows.shape[1:]), rows.device)
    most, size = _RECOMPUTED[rows.device.type == "cpu"]
    if len(rows) <= most or not is_eager():
        return [slice(0, len(rows))]
    return [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]


def mixes_rows(module: nn.Module | None) -> bool:
    """Whether a row's output depends on the other rows, as that of batch normalisation does in training mode."""
    if module is None:
        return False
    mixing = (part for part in module.modules() if isinstance(part, _BatchNorm) or getattr(part, "mixes_rows", False))
    return any(part.training for part in mixing)
