"""Training on a table that memory does not hold: a schema from a sample, and rows drawn from a shuffled buffer."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.frames import Frame, concat
from ..io.tables import TableFile
from ..parallel import in_order
from ..training.data import MAX_VAL_ROWS, validation_count
from .inner import StatesThenNumbers
from .noise import random_noise
from .rows import numbers_of
from .schema import Schema, infer_schema
from .space import Columns, EncodedRows

MEMORY_CELLS = 2**26  # of a table that is read whole
SAMPLE_CELLS, SAMPLE_ROWS = 2**21, 10_000  # of the sample that the schema is inferred from; at least so many rows
_CELL_BYTES = 6  # of text, about
_ODD_ROWS = 50_000  # that a schema did not foresee, at most, are added to its sample
_SURVEYS = 3  # passes over the table, at most, until its schema foresees every row
_BUFFER_BYTES, _BUFFER_ROWS = 2**27, 2**18


def exceeds_memory(file: TableFile, memory_rows: int | None) -> bool:
    """Whether a table is to be read piece by piece.

    It is if it has more rows than `memory_rows`; or, where that is None, more than about 67 million cells, of which a
    text file is taken to hold one in 6 bytes (packed, 2).
    """
    rows = file.rows
    if memory_rows is not None:
        return _counted(file, memory_rows + 1) > memory_rows
    if rows is not None:
        return rows * len(file.names) > MEMORY_CELLS
    return Path(file.path).stat().st_size > MEMORY_CELLS * (2 if file.packed else _CELL_BYTES)


def _counted(file: TableFile, most: int) -> int:
    """The number of rows of a file; where it does not tell, it is read up to `most` of them."""
    rows = file.rows or 0
    if file.rows is None:
        for batch in file.batches():
            rows += len(batch)
            if rows >= most:
                break
    return rows


def surveyed(
    file: TableFile, val: Any, fraction: float, kinds: Mapping[str, Any] | None, schema: Schema | None, seed: int
) -> tuple[TableFile, Frame, Any, Schema, int]:
    """Parts a file: -> what to train on, a sample of that, validation rows or None, a schema of all, rows to train on.

    Raises:
        ValueError: as `infer_schema`; fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be from 0 to below 1, got {fraction!r}")
    whole, known = file, file.rows
    wanted = validation_count(_counted(file, MAX_VAL_ROWS * 10), fraction) if val is None else 0
    val_rows = 0
    if wanted:
        val, file = whole.split(wanted, seed)
        val_rows = len(val)
    sample = schema_sample(file, seed + 1)
    if schema is None:
        schema, known = foreseeing(whole, sample, kinds)
    elif known is None:
        known = sum(map(len, whole.batches()))
    return file, sample, val, schema, known - val_rows


def schema_sample(file: TableFile, seed: int = 1) -> Frame:
    """A random sample of a file, from which a schema is inferred."""
    return file.sample(max(SAMPLE_ROWS, SAMPLE_CELLS // len(file.names)), seed)


def foreseeing(file: TableFile, sample: Frame, kinds: Mapping[str, Any] | None) -> tuple[Schema, int]:
    """-> a schema that foresees the rows of a file; how many rows it has.

    It is inferred from the sample. Then, in a pass over the file, rows of what it never saw, such as those of
    categories that the sample lacks, are gathered and added to the sample, until there are none.
    """
    schema, rows = infer_schema(sample, kinds), 0
    for _ in range(_SURVEYS):
        space = Columns(schema)
        odd: list[Frame] = []
        rows = 0

        def unseen_rows(batch: Frame, space: Columns = space) -> tuple[int, Frame]:
            return len(batch), batch[np.flatnonzero(space.unseen(batch))]

        for size, part in in_order(unseen_rows, file.batches()):
            rows += size
            if len(part) and sum(map(len, odd)) < _ODD_ROWS:
                odd.append(part)
        if not odd:
            break
        sample = concat([sample, *odd])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were said of the first sample
            schema = infer_schema(sample, kinds)
    return schema, rows


class Drawing:
    """Rows of a file, encoded and shuffled, pass after pass.

    Row groups (of Parquet) come in random order, into a buffer of up to 262,144 rows or 128 MiB, from which rows
    are taken at random. Where the file has no groups, rows stay within a buffer of their place: shuffle
    such a file first if it is sorted.

    Args:
        space: of the rows.
        inner: the density for which they are encoded.
        file: with the rows.
        seed: of the order of the groups.
    """

    def __init__(self, space: Columns, inner: StatesThenNumbers, file: TableFile, seed: int) -> None:
        self.space, self.inner = space, inner
        self._stream = self._encoded(file, np.random.default_rng(seed))
        width = 8 * (len(space.sizes) + 2 * len(space.numbers) + len(space.conditions) + 1)
        self._most = max(2**16, min(_BUFFER_ROWS, _BUFFER_BYTES // width))
        self._buffer: EncodedRows | None = None
        self.left_out = 0

    def states(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """n rows as the mass function sees them: states (n, M), context."""
        rows = self._draw(n, generator)
        return torch.from_numpy(rows.states).float(), rows.context

    def numbers(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """n rows as the flow sees them, with fresh noise: z (n, C), context."""
        rows = self._draw(n, generator)
        return numbers_of(self.space, self.inner, rows, random_noise(rows.base.shape, generator))[:2]

    def _draw(self, n: int, generator: torch.Generator) -> EncodedRows:
        parts = [] if self._buffer is None else [self._buffer]
        size = sum(map(len, parts))
        while size < max(self._most, n):
            parts.append(next(self._stream))
            size += len(parts[-1])
        rows = EncodedRows.joined(parts)
        order = torch.randperm(len(rows), generator=generator).numpy()
        self._buffer = rows.take(order[n:])
        return rows.take(order[:n])

    def _encoded(self, file: TableFile, order: np.random.Generator) -> Iterator[EncodedRows]:
        for passes in itertools.count():
            taken = 0
            for batch in file.batches(order=order):
                rows = self.space.rows(batch)
                good: NDArray[np.intp] = np.arange(len(rows))
                if rows.is_unseen is not None:
                    good = np.flatnonzero(~rows.is_unseen & ~np.isneginf(rows.log_mass))
                taken += len(good)
                if passes == 0:
                    self.left_out += len(batch) - len(good)
                if len(good):
                    yield rows if len(good) == len(rows) else rows.take(good)
            if not taken:
                raise ValueError(f"{file.path} has no row that fits the schema")
