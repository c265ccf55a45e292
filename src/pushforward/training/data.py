"""The rows a training reads: checked once, split once, shuffled and cut into batches on their device."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..flow import Flow
from .auto import UNLIMITED

MAX_VAL_ROWS = 20_000
MIN_ROWS_TO_SPLIT = 20
DRAWN_VAL_ROWS = 8192
FAR = 1e4  # a column whose mean is this many standard deviations from zero loses detail in float32
FLOAT32_RANGE = (1e-30, 1e30)  # of values whose squares and ratios it holds
LEAST_NOISY = 64  # rows of a batch with noise
PIECE_BATCHES = 64  # batches that are gathered by one indexing

Batch = tuple[Tensor, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Rows:
    """Rows (N, *shape) with context (N, K) and weights (N,) of mean 1, each of the two optional.

    `noise` (*shape) is the standard deviation of what is added to x each time that it is drawn, in units of the data.
    """

    x: Tensor
    context: Tensor | None = None
    weights: Tensor | None = None
    noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        return Rows(*(None if t is None else t[index] for t in (self.x, self.context, self.weights)))  # type: ignore[arg-type]

    def batches(
        self, size: int, generator: torch.Generator, members: int = 1, times: Callable[[], int] = lambda: 1
    ) -> Iterator[Batch]:
        """One pass in random order, in batches of size; a remainder smaller than that waits for another pass.

        Several members each have an order of their own: their batches have a leading axis of members. Before each batch
        it is asked how many times larger that is to be; the last ones of a pass may be smaller.
        """
        whole = len(self) // size * size
        orders = [torch.randperm(len(self), generator=generator)[:whole] for _ in range(members)]
        order = (orders[0] if members == 1 else torch.stack(orders)).to(self.x.device)
        for index in order.split(PIECE_BATCHES * size, -1):
            piece = self[index]
            if self.noise is not None:
                normal = torch.randn(piece.x.shape, generator=generator, dtype=piece.x.dtype).to(piece.x.device)
                piece = replace(piece, x=torch.addcmul(piece.x, normal, self.noise))
            start, end = 0, index.shape[-1]
            while start < end:
                count = min(size * times(), end - start)
                part = [
                    None if t is None else t.narrow(index.ndim - 1, start, count)
                    for t in (piece.x, piece.context, piece.weights)
                ]
                yield cast(Tensor, part[0]), part[1], part[2]
                start += count

    def digest(self) -> str:
        """A short name of the values, which other rows do not share."""
        found = hashlib.sha256()
        for t in (self.x, self.context, self.weights):
            if t is not None:
                found.update(t.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def mean_nll(self, log_prob: Tensor) -> Tensor:
        """Log-densities of the rows (..., N) -> their mean negative, nats per row (...)."""
        return -(log_prob if self.weights is None else log_prob * self.weights).mean(-1)


@dataclass(frozen=True)
class Drawn:
    """Fresh rows for each pass, from a function (n, generator) -> x, (x, context) or (x, context, weights)."""

    draw: Callable[[int, torch.Generator], Any]
    flow: Flow
    size: int
    noise: Tensor | None = None

    def __len__(self) -> int:
        return self.size

    def rows(self, n: int, generator: torch.Generator) -> Rows:
        """Draws and checks n rows."""
        drawn = self.draw(n, generator)
        parts = drawn if isinstance(drawn, tuple) else (drawn,)
        rows = as_rows(self.flow, *parts, name="the drawn x")
        if len(rows) != n:
            raise ValueError(f"the drawing function was asked for {n:,} rows and returned {len(rows):,}")
        return rows

    def batches(
        self, size: int, generator: torch.Generator, members: int = 1, times: Callable[[], int] = lambda: 1
    ) -> Iterator[Batch]:
        """One pass over `len(self)` fresh rows, as of `Rows`."""
        return replace(self.rows(len(self), generator), noise=self.noise).batches(size, generator, members, times)


def as_rows(flow: Flow, x: Any, context: Any = None, weights: Any = None, name: str = "x") -> Rows:
    """Checks rows against the flow and brings them to its dtype and device.

    Raises:
        ValueError: wrong shape, no rows, a value that is not finite (its row and column are named), or bad weights.
    """
    rows, contexts, leading = flow._rows(x, context)
    if len(leading) != 1:
        raise ValueError(f"expected {name} of shape (N, {', '.join(map(str, flow.shape))}), got leading axes {leading}")
    if len(rows) == 0:
        raise ValueError(f"{name} has no rows")
    _check_finite(rows, name, x)
    if contexts is not None:
        _check_finite(contexts, "context", context)
    flow._check_context(contexts)
    if weights is not None:
        weights = checked_weights(flow._tensor(weights, "weights"), len(rows))
    return Rows(rows.contiguous(), contexts, weights)


def split(
    flow: Flow, x: Any, val: Any, context: Any, weights: Any, fraction: float, pass_rows: int, seed: int
) -> tuple[Rows | Drawn, Rows | None, Rows]:
    """-> what to train on, the validation rows or None, and rows to initialise the flow with."""
    generator = torch.Generator().manual_seed(seed)
    if val is not None:
        val = as_rows(flow, *val, name="val") if isinstance(val, tuple) else as_rows(flow, val, name="val")
    if callable(x) and not isinstance(x, Tensor):
        if context is not None or weights is not None:
            raise ValueError("a drawing function takes no context or weights beside it: let it return (x, context)")
        drawn = Drawn(x, flow, len(x) if isinstance(x, Sized) else pass_rows)
        if val is None and fraction > 0:
            val = drawn.rows(DRAWN_VAL_ROWS, generator)
        return drawn, val, drawn.rows(DRAWN_VAL_ROWS, generator)
    rows = as_rows(flow, x, context, weights)
    if len(rows) < 2:
        raise ValueError(f"at least 2 rows are needed to train, got {len(rows)}")
    order = torch.randperm(len(rows), generator=generator).to(rows.x.device)
    if val is None and (held := held_out(len(rows), fraction)):
        val, rows = rows[order[:held]], rows[order[held:]]
        if rows.weights is not None:  # each part has weights of mean 1 again, unless it got zeros alone
            rows, val = (replace(r, weights=normalised(cast(Tensor, r.weights))) for r in (rows, val))
        order = order[: len(rows)]
    start = (
        rows if len(rows) <= 2**16 else rows[torch.randperm(len(rows), generator=generator)[: 2**16].to(order.device)]
    )
    return rows, val, start


def count_rows(x: Any) -> int:
    """How many rows there are to train on, held-out ones included; of fresh ones `UNLIMITED`."""
    if callable(x) and not isinstance(x, Tensor):
        return len(x) if isinstance(x, Sized) else UNLIMITED
    shape = np.shape(x)
    return max(shape[0], 1) if shape else 1


def with_noise(rows: Rows | Drawn, first: Rows, level: float) -> Rows | Drawn:
    """The same rows, to be drawn with noise of `level` times each column's spread, which is measured on `first`.

    Fewer than `LEAST_NOISY` rows are repeated to make a batch of that many, each with noise of its own.
    """
    if level == 0:
        return rows
    if isinstance(rows, Rows) and len(rows) < LEAST_NOISY:
        rows = rows[torch.arange(len(rows), device=rows.x.device).repeat(math.ceil(LEAST_NOISY / len(rows)))]
    x = first.x.double()
    weights = torch.ones(len(x)).to(x) if first.weights is None else first.weights.to(x)
    shares = (weights / weights.sum()).view(-1, *[1] * (x.ndim - 1))
    variance = (shares * (x - (shares * x).sum(0)).square()).sum(0)
    return replace(rows, noise=(level * variance.sqrt()).to(first.x.dtype))


def needs_float64(x: NDArray[np.float64]) -> bool:
    """Whether float32 would lose detail of rows (N, D): a column far from zero for its spread, or beyond its range."""
    with np.errstate(over="ignore"):
        spread, centre = x.std(0), np.abs(x.mean(0))
    varies = spread > 0
    low, high = FLOAT32_RANGE
    return bool((centre > FAR * spread)[varies].any() or (np.abs(x) > high).any() or (spread[varies] < low).any())


def held_out(rows: int, fraction: float) -> int:
    """How many of the rows to validate with: a fraction of them, at most 20,000, and none of fewer than 20."""
    return 0 if fraction == 0 or rows < MIN_ROWS_TO_SPLIT else min(max(1, round(fraction * rows)), MAX_VAL_ROWS)


def checked_weights(weights: Tensor, rows: int) -> Tensor:
    """Weights (N,) of the rows -> the same with mean 1.

    Raises:
        ValueError: they have another shape, are not finite, negative, or all zero.
    """
    if weights.shape != (rows,):
        raise ValueError(f"expected weights of shape ({rows},), got {tuple(weights.shape)}")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise ValueError("weights must be finite, not negative, and not all zero")
    return weights / weights.mean()


def normalised(weights: Tensor) -> Tensor:
    """Weights of a part of the rows (N,) -> the same with mean 1; ones if the part got zeros alone."""
    mean = weights.mean()
    return weights / mean if bool(mean > 0) else torch.ones_like(weights)


def _check_finite(values: Tensor, name: str, given: Any) -> None:
    """Refuses values (N, ...) that are not finite; given is what they were before they took the flow's dtype."""
    bad = ~torch.isfinite(values.flatten(1))
    if bool(bad.any()):
        row, column = (int(i) for i in bad.nonzero()[0])
        value = torch.as_tensor(given, dtype=torch.float64).expand_as(values).flatten(1)[row, column].item()
        where = f"the first at row {row}, column {column}: {value}"
        if math.isfinite(value):
            raise ValueError(
                f"{name} has values beyond the range of {values.dtype}, {where}; rescale that column, or train in "
                "float64: flow.double()"
            )
        raise ValueError(f"{name} has {int(bad.sum())} values that are not finite numbers, {where}")
