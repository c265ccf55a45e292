"""Tables: numeric columns read from CSV, Parquet or .npy files, with all other columns kept, and written back."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._files import atomic
from . import _csv

SUFFIXES = (".csv", ".parquet", ".npy")
_PANDAS_INDEX = "__index_level_"  # what pandas adds to a Parquet file for a frame whose rows were picked


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
        return [n for n in self.names if not n.startswith(_PANDAS_INDEX)]

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
        _check_unique(columns, "the columns asked for")
        absent = [c for c in columns if c not in self.names]
        if absent:
            raise ValueError(f"{self.source} has no {_columns(absent)}; it has {_quoted(self.names)}")
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
                raise ValueError(f"{self.source} lacks {_columns(absent)} of the model; it has {_quoted(self.names)}")
            return self.matrix(columns)
        if len(self.names) == len(columns):
            return self.matrix(self.names)
        if len(self.names) == width and all(c in self.names for c in columns):
            return self.matrix(columns)
        raise ValueError(
            f"{self.source} has no column names and {len(self.names)} columns; "
            f"the model has {len(columns)} ({_quoted(columns)})"
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


def read_table(path: str | PathLike[str]) -> Table:
    """Reads a CSV, Parquet or .npy file.

    The first line of a CSV names its columns, unless each of its cells is a number: then the columns are x0, x1, ...,
    as they are for .npy files. An array of one axis is one column. Object arrays are refused: they can run code.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no rows, ragged rows (the first is named), duplicate column names, another suffix than
            .csv, .parquet and .npy, or is damaged.
        ImportError: CSV and Parquet need pyarrow.
    """
    path = Path(path)
    suffix = check_suffix(path, "read")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a table")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    table = {".csv": _read_csv, ".parquet": _read_parquet, ".npy": _read_npy}[suffix](path)
    _check_unique(table.names, str(path))
    if not table.names:
        raise ValueError(f"{path} has no columns")
    if len(table) == 0:
        raise ValueError(f"{path} has no rows{', only a header' if suffix == '.csv' else ''}")
    return table


def write_table(table: Table, path: str | PathLike[str]) -> None:
    """Writes a table as CSV, Parquet or .npy, by the suffix, atomically; an existing file is replaced.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: another suffix, or a column that the format cannot hold (.npy takes numbers alone).
        ImportError: CSV and Parquet need pyarrow.
    """
    suffix = check_suffix(path, "write")
    if suffix == ".npy":
        values = table.data if isinstance(table.data, np.ndarray) else table.matrix(table.names, finite=False)
        buffer = io.BytesIO()  # straight to a file, numpy tells a full disk in words of its own
        np.save(buffer, values, allow_pickle=False)
        with atomic(path) as part:
            part.write_bytes(buffer.getbuffer())
        return
    data = _as_arrow(table)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        data = _csv.typed(data) if table.text else data
        with atomic(path) as part:
            pq.write_table(data, part)
    else:
        data = _csv.as_text(data)
        with atomic(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            _csv.write_csv(data, file)


def check_suffix(path: str | PathLike[str], verb: str) -> str:
    """The suffix of a table, in lower case.

    Raises:
        ValueError: it is none of .csv, .parquet and .npy.
        ImportError: the format needs pyarrow.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot {verb} {path}: expected a file ending in {', '.join(SUFFIXES)}")
    if suffix != ".npy":
        _csv.pyarrow()
    return suffix


def _read_csv(path: Path) -> Table:
    data, first, has_header = _csv.read_csv(path)
    names = tuple(first) if has_header else _made_up(len(first))
    return Table(data.rename_columns(names), names, has_header, str(path), text=True)


def _read_parquet(path: Path) -> Table:
    pa = _csv.pyarrow()
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            data = file.read()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or no Parquet file: {_csv.one_line(error)}") from None
    return Table(data, tuple(data.column_names), True, str(path))


def _read_npy(path: Path) -> Table:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise ValueError(
            f"{path} is damaged or no .npy file of plain numbers (object arrays are refused: they can run code): "
            f"{_csv.one_line(error)}"
        ) from None
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path} is an archive of arrays (.npz); save one array as .npy")
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{path} must hold real numbers, got an array of {values.dtype}")
    if values.ndim not in (1, 2):
        raise ValueError(f"{path} must hold an array (rows, columns), got shape {values.shape}")
    values = values[:, None] if values.ndim == 1 else values
    return Table(values, _made_up(values.shape[1]), False, str(path))


def _as_arrow(table: Table) -> Any:
    pa = _csv.pyarrow()
    if isinstance(table.data, np.ndarray):
        return pa.table([np.ascontiguousarray(column) for column in table.data.T], names=list(table.names))
    return table.data


def _made_up(count: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(count))


def _check_unique(names: Sequence[str], where: str) -> None:
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one {_columns(twice[:1])}")


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {_quoted(names)}"


def _quoted(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
