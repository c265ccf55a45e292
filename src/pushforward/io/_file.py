"""A file that holds a table, read piece by piece: memory stays flat in the number of rows."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _csv
from .table import Table, check_unique, without_index

BATCH_ROWS = 65_536
_SHOWN = 3  # skipped rows that are described


@dataclass
class Skipped:
    """Rows that were left out of a pass over a file.

    Attributes:
        count: how many.
        first: what was wrong with the first few, each with its line.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, why: str) -> None:
        """Counts one more row."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(why)

    def clear(self) -> None:
        """Starts a new count."""
        self.count = 0
        self.first.clear()

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        """In words, for people."""
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return f"{self.count:,} row{'' if self.count == 1 else 's'} skipped: {'; '.join(self.first)}{more}"


class TableFile(ABC):
    """A table in a file or a folder; `open_table` makes one. Each reading is a new pass from the start.

    Attributes:
        path: of the file or folder.
        names: the D column names.
        named: False where the file has no names; they are then x0, x1, ...
        text: whether its cells are text, to be read off and written back as they were.
        packed: whether it is a compressed text.
        skipped: the bad rows that the latest pass left out so far, where that was asked for.
    """

    text = False
    packed = False

    def __init__(self, path: Path, names: tuple[str, ...], named: bool) -> None:
        check_unique(names, str(path))
        if not names:
            raise ValueError(f"{path} has no columns")
        self.path, self.names, self.named = path, names, named
        self.skipped = Skipped()

    @property
    def rows(self) -> int | None:
        """The number of rows, None where only reading them all would tell."""
        return None

    @property
    def default_columns(self) -> list[str]:
        """All columns but the row index that pandas leaves in Parquet files."""
        return without_index(self.names)

    @abstractmethod
    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        """Arrow tables or arrays, each with the number of its first row; of about `rows` rows, but any number is right.

        With `order`, they come in random order where the format can; else as they stand in the file.
        """

    def batches(self, rows: int = BATCH_ROWS, *, order: np.random.Generator | None = None) -> Iterator[Table]:
        """One pass over the file: tables of at most `rows` rows. Memory stays flat.

        Args:
            rows: of a batch, at most.
            order: shuffles the row groups of Parquet and the batches of arrays; rows within stay together. Other
                formats, and None, keep the order of the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, has a ragged row (its line is named), or no rows at all.
        """
        for _, batch in self._numbered(rows, order):
            yield batch

    def _numbered(self, rows: int, order: np.random.Generator | None = None) -> Iterator[tuple[int, Table]]:
        """`batches`, each with the number of its first row in the file."""
        if rows < 1:
            raise ValueError(f"a batch needs at least 1 row, got {rows}")
        self.skipped.clear()
        some = False
        for first, piece in self._pieces(rows, order):
            for start in range(0, len(piece), rows):
                some = True
                yield first + start, self._table(piece[start : start + rows])
        if not some:
            raise ValueError(self._no_rows())

    def read(self) -> Table:
        """The whole table, in memory.

        Raises:
            OSError: the file cannot be read.
            ValueError: as `batches`.
        """
        return joined(list(self.batches(2**20)))

    def sample(self, n: int, seed: int = 0) -> Table:
        """A uniform random sample of n rows without replacement, in the order of the file; all rows where it has less.

        One pass over the file; memory holds some multiple of n rows. The same for a seed whatever else is read.

        Raises:
            OSError: the file cannot be read.
            ValueError: n is below 1, or as `batches`.
        """
        return self._sample(n, seed)[0]

    def split(self, n: int, seed: int = 0) -> tuple[Table, TableFile]:
        """-> a uniform random sample of n rows; the file without them.

        Raises:
            OSError: the file cannot be read.
            ValueError: as `sample`.
        """
        sample, at = self._sample(n, seed)
        return sample, _Rest(self, at)

    def _sample(self, n: int, seed: int) -> tuple[Table, NDArray[np.int64]]:
        """-> the rows of a sample, and their numbers in the file."""
        if n < 1:
            raise ValueError(f"a sample needs at least 1 row, got {n}")
        generator = np.random.default_rng(seed)
        kept: list[Table] = []
        keys, at = np.empty(0), np.empty(0, dtype=np.int64)
        for start, batch in self._numbered(BATCH_ROWS):
            # The n rows with the smallest of random keys are a uniform sample.
            drawn = generator.random(len(batch))
            new = np.flatnonzero(drawn < (np.inf if len(keys) < n else keys.max()))
            if len(new):
                kept.append(batch.take(new))
                keys, at = np.concatenate([keys, drawn[new]]), np.concatenate([at, start + new])
            if len(keys) > max(2 * n, n + BATCH_ROWS):
                kept, keys, at = _smallest(kept, keys, at, n)
        kept, _, at = _smallest(kept, keys, at, n)
        return kept[0], at

    def _table(self, data: Any) -> Table:
        return Table(data, self.names, self.named, str(self.path), self.text)

    def _no_rows(self) -> str:
        return f"{self.path} has no rows"


def joined(tables: list[Table]) -> Table:
    """Tables of the same columns, one below the other."""
    first = tables[0]
    if len(tables) == 1:
        return first
    parts: list[Any] = [t.data for t in tables]
    data = np.concatenate(parts) if isinstance(first.data, np.ndarray) else _csv.pyarrow().concat_tables(parts)
    return Table(data, first.names, first.named, first.source, first.text)


class _Rest(TableFile):
    """A file without some of its rows."""

    def __init__(self, file: TableFile, without: NDArray[np.int64]) -> None:
        super().__init__(file.path, file.names, file.named)
        self.text, self.packed, self.skipped = file.text, file.packed, file.skipped
        self._file, self._without = file, np.sort(without)

    @property
    def rows(self) -> int | None:
        """The number of rows that are left."""
        return None if self._file.rows is None else self._file.rows - len(self._without)

    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        """The rows between those that are left out: a piece each, but few are left out."""
        for first, batch in self._file._numbered(rows, order):
            ends = np.searchsorted(self._without, [first, first + len(batch)])
            gone = self._without[ends[0] : ends[1]] - first
            for start, end in itertools.pairwise([-1, *gone.tolist(), len(batch)]):
                if end > start + 1:
                    yield first + start + 1, batch.data[start + 1 : end]


def _smallest(
    kept: list[Table], keys: NDArray[np.float64], at: NDArray[np.int64], n: int
) -> tuple[list[Table], NDArray[np.float64], NDArray[np.int64]]:
    """The n rows with the smallest keys, in order."""
    chosen = np.arange(len(keys)) if len(keys) <= n else np.sort(np.argpartition(keys, n - 1)[:n])
    return [joined(kept).take(chosen)], keys[chosen], at[chosen]
