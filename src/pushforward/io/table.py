"""A table in memory: its columns as the file holds them, and those that are numbers as an array."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _csv

_PANDAS_INDEX = "__index_level_"  # what pandas adds to a Parquet file for a frame whose rows were picked


def without_index(names: Sequence[str]) -> list[str]:
    """All columns but the row index that pandas leaves in Parquet files."""
    return [n for n in names if not n.startswith(_PANDAS_INDEX)]


@dataclass(frozen=True)
class Table:
    """The rows and columns of a file, as the file holds them.

    Attributes:
        data: a `pyarrow.Table` or an array (N, D).
        names: the D column names.
        named: False where the file has no names; they are then x0, x1, ...
        source: the file, for messages.
        text: whether it is a CSV, whose cells stay text so that they are written back as they were.

    Example:
        >>> table = Table(np.array([[1, 2], [3, 4]]), ("a", "b"))
        >>> table.matrix(["b"])
        array([[2.],
               [4.]])
    """

    data: Any
    names: tuple[str, ...]
    named: bool = True
    source: str = "the table"
    text: bool = False

    def __len__(self) -> int:
        return len(self.data)

    @property
    def default_columns(self) -> list[str]:
        """All columns but the row index that pandas leaves in Parquet files."""
        return without_index(self.names)

    def numeric_columns(self) -> list[str]:
        """The columns that hold numbers alone (and perhaps missing cells)."""
        return [n for n in self.default_columns if self._numbers(n)[1] is None]

    def matrix(self, columns: Sequence[str] | None = None, *, finite: bool = True) -> NDArray[np.float64]:
        """Columns as numbers, (N, D), in the order asked for; integers, booleans and decimals become float64.

        Args:
            columns: names; None takes all.
            finite: refuse missing cells, NaN and infinity; False keeps them (missing as NaN).

        Raises:
            ValueError: no such column, one asked for twice, one that is not numeric or, with `finite`, holds a missing
                or infinite value; the message names the column and the row, counted from 1 below the header.
        """
        columns = self.default_columns if columns is None else list(columns)
        check_unique(columns, "the columns asked for")
        absent = [c for c in columns if c not in self.names]
        if absent:
            raise ValueError(f"{self.source} has no {columns_text(absent)}; it has {quoted(self.names)}")
        if not columns:
            raise ValueError(f"{self.source}: no column was chosen")
        out = np.empty((len(self), len(columns)))
        for i, name in enumerate(columns):
            out[:, i], stray = self._numbers(name)
            if stray is not None:
                raise ValueError(self._not_numeric(name, stray))
            if finite:
                self._check_finite(name, out[:, i])
        return out

    def model_matrix(self, columns: Sequence[str], width: int | None = None) -> NDArray[np.float64]:
        """The columns of a model as numbers (N, D), found by name; other columns are ignored.

        A file without names is matched by position: it must have exactly the model's D columns, or `width` of them.

        Args:
            columns: the model's columns, in its order.
            width: how many columns the nameless file had that the model's x0, x1, ... were chosen from.

        Raises:
            ValueError: columns are missing (they are listed), the width is wrong, or as `matrix`.
        """
        if self.named:
            absent = [c for c in columns if c not in self.names]
            if absent:
                raise ValueError(
                    f"{self.source} lacks {columns_text(absent)} of the model; it has {quoted(self.names)}"
                )
            return self.matrix(columns)
        if len(self.names) == len(columns):
            return self.matrix(self.names)
        if len(self.names) == width and all(c in self.names for c in columns):
            return self.matrix(columns)
        raise ValueError(
            f"{self.source} has no column names and {len(self.names)} columns; "
            f"the model has {len(columns)} ({quoted(columns)})"
        )

    def with_column(self, name: str, values: NDArray[Any]) -> Table:
        """The table with one more column, last: values (N,).

        Raises:
            ValueError: there is such a column already.
        """
        if name in self.names:
            raise ValueError(f"{self.source} already has a column {name!r}")
        if isinstance(self.data, np.ndarray):
            data = np.column_stack([self.data, values])
        else:
            data = self.data.append_column(name, [values])
        return replace(self, data=data, names=(*self.names, name))

    def take(self, rows: NDArray[np.intp]) -> Table:
        """The rows with these numbers, copied."""
        return replace(self, data=self.data[rows] if isinstance(self.data, np.ndarray) else self.data.take(rows))

    def _numbers(self, name: str) -> tuple[NDArray[np.float64], int | None]:
        """-> values (N,), NaN where missing; the first row whose cell is no number, or None."""
        i = self.names.index(name)
        if isinstance(self.data, np.ndarray):
            return self.data[:, i].astype(np.float64), None
        pa = _csv.pyarrow()
        pc, t = pa.compute, pa.types
        column, kind = self.data.column(i), self.data.schema.types[i]
        if t.is_dictionary(kind):
            column, kind = pc.cast(column, kind.value_type), kind.value_type
        if t.is_string(kind) or t.is_large_string(kind):
            return _csv.parse(column)
        if any(is_kind(kind) for is_kind in (t.is_integer, t.is_floating, t.is_boolean, t.is_decimal, t.is_null)):
            return pc.cast(column, pa.float64(), safe=False).to_numpy(), None
        return np.full(len(self), np.nan), 0

    def _not_numeric(self, name: str, row: int) -> str:
        cell = self.data.column(self.names.index(name))[row].as_py()
        numeric = self.numeric_columns()
        hint = "no column is numeric"
        if numeric:
            hint = f"choose numeric columns, as with --columns {shlex.quote(_csv.line(numeric))}"
        shown = repr(cell) if len(repr(cell)) <= 40 else f"{repr(cell)[:36]} ..."
        return f"{self.source}: column {name!r} is not numeric: row {row + 1} holds {shown} ({self._rows_are}); {hint}"

    def _check_finite(self, name: str, values: NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            what = "a missing cell or NaN" if np.isnan(values[bad[0]]) else f"{values[bad[0]]}"
            more = f", the first of {len(bad):,} values that are no finite number" if len(bad) > 1 else ""
            raise ValueError(f"{self.source}: column {name!r} has {what} in row {bad[0] + 1}{more} ({self._rows_are})")

    @property
    def _rows_are(self) -> str:
        return f"rows are counted from 1{', below the header' if self.named and self.text else ''}"


def made_up(count: int) -> tuple[str, ...]:
    """Names for columns that have none."""
    return tuple(f"x{i}" for i in range(count))


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuses a name that comes twice.

    Raises:
        ValueError: it does.
    """
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one {columns_text(twice[:1])}")


def columns_text(names: Sequence[str]) -> str:
    """Some columns, for messages."""
    return f"column{'s' if len(names) > 1 else ''} {quoted(names)}"


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Names, for messages."""
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
