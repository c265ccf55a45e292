"""The rows that a training reads: checked once, split once, shuffled and cut into batches on their device."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..arguments import like
from ..chunks import map_rows
from ..density import Density
from ..fixed_start import FixedStart
from .auto import UNLIMITED
from .objective import Batch
from .rows import as_rows, normalised, row_shape

MAX_VAL_ROWS = 20_000
LEAST_ROWS, MIN_ROWS_TO_SPLIT = 2, 20  # to train on; to hold out some of
DRAWN_VAL_ROWS = 8192
DRAWN_FIRST_ROWS = 20_000  # that data-dependent layers are initialised from: many, as `pays_to_whiten` counts
DRAWN_PASS_BATCHES = 128  # batches of one pass over freshly drawn rows
LEAST_NOISY = 64  # rows of a batch with noise
PIECE_BATCHES = 64  # batches that are gathered by one indexing
FIRST_ROWS = 2**16  # that data-dependent layers are initialised from
FIRST_IMAGES = 512  # of rows with spatial axes, each of which has many sites


@dataclass(frozen=True)
class Dataset:
    """Rows in memory.

    Attributes:
        rows: all N of them.
        noise: (*shape), the standard deviation of what is added to x each time that it is drawn.
    """

    rows: Batch
    noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, size: int, generator: torch.Generator, members: int = 1, growth: Callable[[], int] = lambda: 1
    ) -> Iterator[Batch]:
        """One pass in random order, in batches of size; a remainder smaller than that waits for another pass.

        Each of M members has an order of its own: x (M, B, *shape), context (M, B, ...), weights (M, B). Before each
        batch `growth` is asked how many times larger it is to be; the last ones of a pass may be smaller.
        """
        whole = len(self) // size * size
        orders = [torch.randperm(len(self), generator=generator)[:whole] for _ in range(members)]
        order = torch.stack(orders).to(self.rows.x.device)
        for index in order.split(PIECE_BATCHES * size, 1):
            piece = self.rows[index]
            if self.noise is not None:
                normal = torch.randn(piece.x.shape, generator=generator, dtype=piece.x.dtype).to(piece.x.device)
                piece.x = torch.addcmul(piece.x, normal, self.noise)
            start, end = 0, index.shape[1]
            while start < end:
                count = min(size * growth(), end - start)
                parts = [
                    None if t is None else t.narrow(1, start, count) for t in (piece.x, piece.context, piece.weights)
                ]
                yield Batch(cast(Tensor, parts[0]), parts[1], parts[2])
                start += count


@dataclass(frozen=True)
class Stream:
    """Fresh rows for each pass, from a function (n, generator) -> x, (x, context) or (x, context, weights).

    Attributes:
        draw: the function.
        density: whose rows it draws.
        size: rows of a pass.
        noise: as of `Dataset`.
        start: by what rows are mapped once they are drawn; None for nothing.
        dtype: of rows before that; None for the density's.
    """

    draw: Callable[[int, torch.Generator], Any]
    density: Density
    size: int
    noise: Tensor | None = None
    start: FixedStart | None = None
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return self.size

    def rows(self, n: int, generator: torch.Generator) -> Batch:
        """Draws and checks n rows."""
        drawn = self.draw(n, generator)
        parts = drawn if isinstance(drawn, tuple) else (drawn,)
        rows = as_rows(self.density, *parts, name="the drawn x", dtype=self.dtype)
        if len(rows) != n:
            raise ValueError(f"the drawing function was asked for {n:,} rows and returned {len(rows):,}")
        return rows if self.start is None else mapped(rows, self.start)[0]

    def batches(
        self, size: int, generator: torch.Generator, members: int = 1, growth: Callable[[], int] = lambda: 1
    ) -> Iterator[Batch]:
        """One pass over `len(self)` fresh rows, as of `Dataset`."""
        return Dataset(self.rows(len(self), generator), self.noise).batches(size, generator, members, growth)


def split(
    density: Density, data: Any, val: Any, context: Any, weights: Any, fraction: float, batch: int, seed: int,
    dtype: torch.dtype | None = None,
) -> tuple[Dataset | Stream, Batch | None, Batch | None]:  # fmt: skip
    """-> what to train on, the validation rows or None, and rows to initialise the density with (None without data)."""
    generator = torch.Generator().manual_seed(seed)
    most = FIRST_ROWS if len(row_shape(density)) == 1 else FIRST_IMAGES
    if val is not None:
        val = as_rows(density, *(val if isinstance(val, tuple) else (val,)), name="val", dtype=dtype)
    if data is None or draws(data):
        if context is not None or weights is not None:
            raise ValueError("a drawing function takes no context or weights beside it: let it return (x, context)")
        if data is None:
            rows = Batch(like(density).new_empty(DRAWN_PASS_BATCHES * batch, 0))
            return Dataset(rows), val, None
        drawn = Stream(data, density, len(data) if isinstance(data, Sized) else DRAWN_PASS_BATCHES * batch, dtype=dtype)
        if val is None and fraction > 0:
            val = drawn.rows(DRAWN_VAL_ROWS, generator)
        return drawn, val, drawn.rows(min(DRAWN_FIRST_ROWS, most), generator)
    rows = as_rows(density, data, context, weights, dtype=dtype)
    if len(rows) < LEAST_ROWS:
        raise ValueError(f"at least {LEAST_ROWS} rows are needed to train, got {len(rows)}")
    train, holdout = split_numbers(len(rows), fraction if val is None else 0.0, generator)
    if len(holdout):
        val, rows = rows[holdout.to(rows.x.device)], rows[train.to(rows.x.device)]
        if rows.weights is not None:  # each part has weights of mean 1 again, unless it got zeros alone
            rows, val = (replace(part, weights=normalised(cast(Tensor, part.weights))) for part in (rows, val))
    first = rows if rows.weights is None else rows[rows.weights > 0]
    if len(first) > most:
        first = first[torch.randperm(len(first), generator=generator)[:most].to(rows.x.device)]
    return Dataset(rows), val, first


def count_rows(data: Any) -> int:
    """How many rows there are to train on, held-out ones included; of fresh ones `UNLIMITED`."""
    if data is None or draws(data):
        return len(data) if isinstance(data, Sized) else UNLIMITED
    shape = np.shape(data)
    return max(shape[0], 1) if shape else 1


def enough_for_noise(rows: Dataset | Stream, level: float) -> Dataset | Stream:
    """Fewer than `LEAST_NOISY` rows, repeated to make a batch of that many, each with noise of its own, if any."""
    if level == 0 or isinstance(rows, Stream) or len(rows) >= LEAST_NOISY:
        return rows
    times = math.ceil(LEAST_NOISY / len(rows))
    return Dataset(rows.rows[torch.arange(len(rows), device=rows.rows.x.device).repeat(times)])


def with_noise(rows: Dataset | Stream, first: Batch, level: float) -> Dataset | Stream:
    """The same rows, to be drawn with noise of `level` times each column's spread, which is measured on `first`."""
    if level == 0:
        return rows
    x = first.x.double()
    weights = torch.ones(len(x)).to(x) if first.weights is None else first.weights.to(x)
    shares = (weights / weights.sum()).view(-1, *[1] * (x.ndim - 1))
    variance = (shares * (x - (shares * x).sum(0)).square()).sum(0)
    return replace(rows, noise=(level * variance.sqrt()).to(first.x.dtype))


def behind(
    start: FixedStart, rows: Dataset | Stream, val: Batch | None, first: Batch
) -> tuple[Dataset | Stream, Batch | None, Batch, float, float]:
    """Rows as they are behind the map that a density begins with.

    Args:
        start: the map, initialised.
        rows: to train on.
        val: to validate on, or None.
        first: some of those to train on.

    Returns:
        the same mapped, and what to add to the negative log-density of rows and of val so that it is that of the data.
    """
    first, log_det = mapped(first, start)
    if isinstance(rows, Dataset):
        batch, log_det = mapped(rows.rows, start)
        mapped_rows: Dataset | Stream = replace(rows, rows=batch)
    else:
        mapped_rows = replace(rows, start=start)
    val, val_log_det = (None, 0.0) if val is None else mapped(val, start)
    return mapped_rows, val, first, -log_det, -val_log_det


@torch.no_grad()
def mapped(rows: Batch, start: FixedStart) -> tuple[Batch, float]:
    """Rows behind the map that a density begins with, and the mean of its log-determinant."""
    like_rest = like(start.rest)
    z, log_det, *contexts = map_rows(lambda x, context: _parts(start, x, context), rows.x, rows.context)
    context = contexts[0].to(like_rest) if contexts else None
    return Batch(z.to(like_rest), context, rows.weights), float(Batch(z, None, rows.weights).mean(log_det))


def _parts(start: FixedStart, x: Tensor, context: Tensor | None) -> list[Tensor]:
    z, context, log_det = start.map(x, context)
    return [z, log_det] if context is None else [z, log_det, context]


def digest(*parts: Batch) -> str:
    """A short name of the values, which other rows do not share."""
    name = hashlib.sha256()
    for t in (t for rows in parts for t in (rows.x, rows.context, rows.weights)):
        if t is not None:
            name.update(t.detach().cpu().contiguous().numpy().tobytes())
    return name.hexdigest()[:16]


def split_numbers(
    rows: int, fraction: float, generator: torch.Generator, most: int = MAX_VAL_ROWS
) -> tuple[Tensor, Tensor]:
    """The numbers of the rows to train on (N - V,), and of those to validate with (V,), in random order.

    Args:
        rows: N.
        fraction: of them to validate with, see `validation_count`; the others keep their order where there are none.
        generator: the source of randomness.
        most: rows to validate with.
    """
    order, count = torch.randperm(rows, generator=generator), min(validation_count(rows, fraction), most)
    return (order[count:], order[:count]) if count else (torch.arange(rows), order[:0])


def validation_count(rows: int, fraction: float) -> int:
    """How many rows to validate with: a fraction, at most 20,000 and all but 2; none of fewer than 20."""
    if fraction == 0 or rows < MIN_ROWS_TO_SPLIT:
        return 0
    return min(max(1, round(fraction * rows)), MAX_VAL_ROWS, rows - LEAST_ROWS)


def draws(data: Any) -> bool:
    """Whether the data are a function that draws rows."""
    return callable(data) and not isinstance(data, Tensor)


def endless(
    rows: Dataset | Stream, size: int, generator: torch.Generator, members: int, growth: Callable[[], int]
) -> Iterator[Batch]:
    """The batches of one pass after another, as of `Dataset.batches`."""
    while True:
        yield from rows.batches(size, generator, members, growth)
