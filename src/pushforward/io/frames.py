"""Frames: tables in memory whose columns are typed once, whatever they came from, and the way back.

Everything behind this door works on `Frame` and `Column` alone: no Arrow type, no frame library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Holds = Literal["numbers", "times", "texts", "truths", "nothing"]


@dataclass(frozen=True, eq=False)
class Column:
    """N cells of one column, typed: numbers, times, texts or truth values, and which of them are missing.

    What a column holds is decided once, when it is read. A column of text has the view `codes` and `labels`, and beside
    it the view as numbers or as times where every cell that is not missing parses, so that a later choice of another
    kind need not read it again.

    Attributes:
        name: of the column.
        holds: what its cells are.
        dtype: the type that came in, by its Arrow name (int64, string, timestamp[us, tz=UTC], ...), in which samples
            are given back; "text" for the cells of a text file, which are written back as they came.
        is_missing: (N,), the same for every view.
        numbers: (N,) int64, uint64 or float64, 0 where missing; None where the cells are no numbers.
        times: (N,) int64 ticks of `unit`, 0 where missing; None where the cells are no times.
        unit: of the ticks: "D", "s", "ms", "us" or "ns".
        form: how a text writes its times, as of `strftime`; None where they did not come as text.
        codes: (N,) int32, places in `labels`, -1 where missing; None where the cells are no texts.
        labels: the distinct texts.
    """

    name: str
    holds: Holds
    dtype: str
    is_missing: NDArray[np.bool_]
    numbers: NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64] | None = None
    times: NDArray[np.int64] | None = None
    unit: str = ""
    form: str | None = None
    codes: NDArray[np.int32] | None = None
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.is_missing)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> Column:
        """Some of the cells."""
        parts = {
            name: None if (values := getattr(self, name)) is None else values[rows]
            for name in ("is_missing", "numbers", "times", "codes")
        }
        return replace(self, **parts)


@dataclass(frozen=True, eq=False)
class Frame:
    """N rows of typed columns.

    Attributes:
        columns: in order, with distinct names.
        named: whether the names came with the table; else they are x0, x1, ... and columns are matched by position.
        source: where it came from, for messages.
        kind: what it came as, and goes back as: "pandas", "polars", "pyarrow", "dict", "numpy", "torch" or "file".
    """

    columns: tuple[Column, ...]
    named: bool = True
    source: str = "the table"
    kind: str = "pyarrow"

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The column of a name.

        Raises:
            KeyError: there is none.
        """
        return self.columns[self.names.index(name)] if name in self.names else {}[name]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> Frame:
        """Some of the rows."""
        return replace(self, columns=tuple(column[rows] for column in self.columns))

    def select(self, names: Sequence[str]) -> Frame:
        """Some of the columns, in the given order."""
        return replace(self, columns=tuple(self.column(name) for name in names))
