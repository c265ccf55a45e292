"""Frames: tables in memory whose columns are typed once, whatever they came from, and the way back.

Everything behind this door works on `Frame` and `Column` alone: no Arrow type, no frame library.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .arrow import views_of
from .cells import pyarrow
from .column import Column as Column
from .column import Holds as Holds
from .column import Rows
from .names import check_unique, columns_text, csv_line, quoted, without_index
from .vectors import are_vectors, as_numpy


@dataclass(frozen=True, eq=False)
class Frame:
    """N rows of typed columns.

    Attributes:
        columns: in order, with distinct names.
        named: whether the names came with the table; else they are x0, x1, ... and columns are matched by position.
        source: where it came from, for messages.
        kind: what it came as, and goes back as: "pandas", "polars", "pyarrow", "dict", "numpy", "torch" or "file".

    Example:
        >>> frame = read({"a": [1, 2], "b": ["x", None]})
        >>> frame.column("b").is_missing, frame.matrix(["a"])
        (array([False,  True]), array([[1.],
               [2.]]))
    """

    columns: tuple[Column, ...]
    named: bool = True
    source: str = "the table"
    kind: str = "pyarrow"

    def __repr__(self) -> str:
        return f"Frame({len(self)} rows, columns={self.names})"

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def names(self) -> list[str]:
        """Of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def default_columns(self) -> list[str]:
        """The names of all columns but the row index that pandas leaves in Parquet files."""
        return without_index(self.names)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {column.name: i for i, column in enumerate(self.columns)}

    def column(self, name: str) -> Column:
        """The column of a name.

        Raises:
            KeyError: there is none.
        """
        return self.columns[self._places[name]]

    def __getitem__(self, rows: Rows) -> Frame:
        """Some of the rows: a slice, row numbers (K,), or a mask (N,)."""
        return replace(self, columns=tuple(column[rows] for column in self.columns))

    def select(self, names: Sequence[str]) -> Frame:
        """Some of the columns, in the given order.

        Raises:
            ValueError: there is no such column, or one comes twice.
        """
        check_unique(names, "the columns asked for")
        absent = [name for name in names if name not in self._places]
        if absent:
            raise ValueError(f"{self.source} has no {columns_text(absent)}; it has {quoted(self.names)}")
        return replace(self, columns=tuple(self.column(name) for name in names))

    def rename(self, names: Sequence[str]) -> Frame:
        """The same columns under other names, in order."""
        columns = (replace(column, name=name) for column, name in zip(self.columns, names, strict=True))
        return replace(self, columns=tuple(columns))

    def with_column(self, name: str, values: NDArray[Any]) -> Frame:
        """The frame with one more column, last: numbers (N,), NaN where missing.

        Raises:
            ValueError: there is one of that name already.
        """
        if name in self._places:
            raise ValueError(f"{self.source} already has a column {name!r}")
        return replace(self, columns=(*self.columns, Column.of_vector(name, values)))

    def numeric_columns(self) -> list[str]:
        """The names of the columns that hold numbers or truth values alone (and perhaps missing cells)."""
        return [name for name in self.default_columns if self.column(name).numeric]

    def matrix(self, columns: Sequence[str] | None = None, *, finite: bool = True) -> NDArray[np.float64]:
        """Columns as numbers, (N, D), in the order asked for; integers, truth values and decimals become float64.

        Args:
            columns: names; None takes all.
            finite: refuse missing cells, NaN and infinity; False keeps them (missing as NaN).

        Raises:
            ValueError: no such column, one asked for twice, one that is not numeric or, with `finite`, holds a missing
                or infinite value; the message names the column and the row, counted from 1 below the header.
        """
        chosen = self.select(self.default_columns if columns is None else list(columns)).columns
        if not chosen:
            raise ValueError(f"{self.source}: no column was chosen")
        out = np.empty((len(self), len(chosen)))
        for i, column in enumerate(chosen):
            if not column.numeric:
                raise ValueError(self._not_numeric(column))
            out[:, i] = np.nan if column.numbers is None else column.numbers
            out[column.is_missing, i] = np.nan
            if finite:
                self._check_finite(column.name, out[:, i])
        return out

    def model_matrix(self, columns: Sequence[str], width: int | None = None) -> NDArray[np.float64]:
        """The columns of a model as numbers (N, D), found by name; other columns are ignored.

        A table without names is matched by position: it must have exactly the model's D columns, or `width` of them.

        Args:
            columns: the model's columns, in its order.
            width: how many columns the nameless table had that the model's x0, x1, ... were chosen from.

        Raises:
            ValueError: columns are missing (they are listed), the width is wrong, or as `matrix`.
        """
        if self.named:
            absent = [name for name in columns if name not in self._places]
            if absent:
                raise ValueError(
                    f"{self.source} lacks {columns_text(absent)} of the model; it has {quoted(self.names)}"
                )
            return self.matrix(columns)
        if len(self.columns) == len(columns):
            return self.matrix(self.names)
        if len(self.columns) == width and all(name in self._places for name in columns):
            return self.matrix(columns)
        raise ValueError(
            f"{self.source} has no column names and {len(self.columns)} columns; "
            f"the model has {len(columns)} ({quoted(columns)})"
        )

    def to_arrow(self) -> Any:
        """A pyarrow Table, with the dtypes that came in; cells of a text file as they were."""
        return pyarrow().table([column.to_arrow() for column in self.columns], names=self.names)

    def to(self, kind: str | None = None) -> Any:
        """The rows as "pandas", "polars", "pyarrow", "dict", "numpy", "torch" or as another frame that narwhals knows.

        Args:
            kind: None takes what the frame came as; a file is given back as a pyarrow Table.

        Raises:
            ImportError: the package of that kind is not installed.
            ValueError: the rows are to be an array and hold something else than numbers.
        """
        kind = kind or self.kind
        if kind in ("pyarrow", "file"):
            return self.to_arrow()
        if kind == "numpy":
            return self._to_numpy()
        if kind == "torch":
            return torch.from_numpy(self._to_numpy())
        if kind == "dict":
            return {c.name: c.to_arrow().to_pylist() if c.is_missing.any() or not c.numeric else c.plain()
                    for c in self.columns}  # fmt: skip
        if kind == "pandas":
            return self._to_pandas()
        import narwhals as nw

        frame = nw.from_arrow(self.to_arrow(), backend=kind).to_native()  # type: ignore[arg-type]
        natives = {c.name: c.native for c in self.columns if c.native is not None}
        return frame.cast(natives) if kind == "polars" and natives else frame

    def like(self, other: Frame) -> Frame:
        """The same rows with the names, dtypes and kind of another frame, whose columns are matched by position."""
        columns = (mine.like(its) for mine, its in zip(self.columns, other.columns, strict=True))
        return replace(self, columns=tuple(columns), named=other.named, kind=other.kind)

    def _to_numpy(self) -> NDArray[Any]:
        dtype = np.result_type(*(column.numpy_dtype for column in self.columns))
        if dtype.kind in "iub" and all(c.numeric and not c.is_missing.any() for c in self.columns):
            return np.stack([c.plain() for c in self.columns], 1).astype(dtype, copy=False)
        values = self.matrix(self.names, finite=False)
        return values.astype(np.result_type(dtype, np.float32) if np.isnan(values).any() else dtype, copy=False)

    def _to_pandas(self) -> Any:
        import pandas as pd

        parts = []
        for column in self.columns:
            cells, dtype = column.to_arrow(), column.native
            if hasattr(dtype, "__from_arrow__"):
                parts.append(pd.Series(dtype.__from_arrow__(cells)))
            else:
                series = cells.to_pandas()
                parts.append(series if dtype is None else series.astype(dtype))
        frame = pd.DataFrame(dict(enumerate(parts)))
        frame.columns = [c.name if c.own_name is None else c.own_name for c in self.columns]
        return frame

    def _not_numeric(self, column: Column) -> str:
        numeric = self.numeric_columns()
        hint = "no column is numeric"
        if numeric:
            hint = f"choose numeric columns, as with --columns {shlex.quote(csv_line(numeric))}"
        row = next(iter(column.stray_rows("numbers").tolist()), 0)
        return (
            f"{self.source}: column {column.name!r} is not numeric: row {row + 1} holds {column.shown(row)} "
            f"({self._rows_are}); {hint}"
        )

    def _check_finite(self, name: str, values: NDArray[np.float64]) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            what = "a missing cell or NaN" if np.isnan(values[bad[0]]) else f"{values[bad[0]]}"
            more = f", the first of {len(bad):,} values that are no finite number" if len(bad) > 1 else ""
            raise ValueError(f"{self.source}: column {name!r} has {what} in row {bad[0] + 1}{more} ({self._rows_are})")

    @property
    def _rows_are(self) -> str:
        text = any(column.dtype == "text" for column in self.columns)
        return f"rows are counted from 1{', below the header' if self.named and text else ''}"


class FrameSource(ABC):
    """What holds a frame and gives it when asked, such as a file."""

    @abstractmethod
    def read(self) -> Frame:
        """The whole table, in memory."""


def read(source: Any) -> Frame:
    """The rows of anything that holds them, typed.

    Args:
        source: a pyarrow Table or RecordBatch, a pandas, polars or other DataFrame that narwhals knows, a dict of
            columns, an array or tensor (N, D), an opened file, or a frame.

    Raises:
        ValueError: it is none of these, has no columns, columns of the same name, cells of several kinds in one, or
            integers beyond 64 bits.
        ImportError: pyarrow is needed and not installed.
    """
    if isinstance(source, Frame):
        return source
    if isinstance(source, FrameSource):
        return source.read()
    if not is_named(source):
        return _of_array(source)
    try:
        return _of_vectors(source) if are_vectors(source) else _of_table(source)
    except OverflowError:
        raise ValueError(
            "the table holds integers that 64 bits do not hold: give their column as floats or text"
        ) from None


def _of_table(source: Any) -> Frame:
    """A table of Arrow or of another library, or a dict of columns."""
    pa = pyarrow()
    try:
        if isinstance(source, Mapping):
            cells = {str(k): v if hasattr(v, "__len__") and not isinstance(v, str) else [v] for k, v in source.items()}
            return of_arrow(pa.table(cells), kind="dict")
        if isinstance(source, (pa.Table, pa.RecordBatch)):
            check_unique(source.schema.names, "the table")
            return of_arrow(source)
        return _of_native(source)
    except pa.ArrowException as error:
        raise ValueError(f"the table cannot be read: {' '.join(str(error).split())}") from None


def is_named(source: Any) -> bool:
    """Whether something that is no frame of ours has columns with names, as data frames and dictionaries have."""
    kind = type(source)  # for a lazy frame evaluates these attributes, with a warning
    return isinstance(source, Mapping) or (
        not isinstance(source, (np.ndarray, torch.Tensor)) and (hasattr(kind, "columns") or hasattr(kind, "schema"))
    )


def of_arrow(
    data: Any, *, text: bool = False, named: bool = True, source: str = "the table", kind: str = "pyarrow",
    like: Frame | None = None,
) -> Frame:  # fmt: skip
    """A pyarrow Table or RecordBatch as a frame.

    Args:
        data: with distinct column names.
        text: whether its strings are the cells of a text file, so that numbers, times and missing cells are read off.
        named: whether the names came with it.
        source: for messages.
        kind: what it came as.
        like: a frame whose columns tell the types that a text file has.
    """
    pa = pyarrow()
    if not data.schema.names:
        raise ValueError(f"{source} has no columns")
    columns = []
    for field, cells in zip(data.schema, data.columns, strict=True):
        known = like.column(field.name) if like is not None and field.name in like._places else None
        columns.append(Column(field.name, **views_of(cells, text and pa.types.is_string(field.type), known)))
    return Frame(tuple(columns), named, source, kind)


def of_array(values: NDArray[Any], names: Sequence[str], source: str = "the table", kind: str = "numpy") -> Frame:
    """Numbers (N, D) as a frame whose columns came without names."""
    columns = (Column.of_vector(name, column) for name, column in zip(names, values.T, strict=True))
    return Frame(tuple(columns), False, source, kind)


def concat(frames: Sequence[Frame]) -> Frame:
    """Frames of the same columns, one below the other; the types are those of all rows."""
    first = frames[0]
    if len(frames) == 1:
        return first
    columns = (column.append(below) for column, *below in zip(*(frame.columns for frame in frames), strict=True))
    return replace(first, columns=tuple(columns))


def _of_array(source: Any) -> Frame:
    """Numbers (N, D) as a frame without names."""
    if isinstance(source, str | PathLike):
        raise ValueError(f"expected a table, got the path {str(source)!r}: read it with read_table or open_table")
    values = as_numpy(source)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(
            "expected a pyarrow Table, a pandas or polars DataFrame, a dict of columns or an array of numbers "
            f"(N, D), got {type(source).__name__} of shape {values.shape} and dtype {values.dtype}"
        )
    if not values.shape[1]:
        raise ValueError("the table has no columns")
    kind = "torch" if isinstance(source, torch.Tensor) else "numpy"
    return of_array(values, [f"x{i}" for i in range(values.shape[1])], kind=kind)


def _of_vectors(source: Mapping[Any, Any]) -> Frame:
    check_unique([str(name) for name in source], "the table")
    return Frame(tuple(Column.of_vector(str(k), as_numpy(v)) for k, v in source.items()), kind="dict")


def _of_native(source: Any) -> Frame:
    """A data frame of another library; its own dtypes are kept beside those of Arrow."""
    pa = pyarrow()
    import narwhals as nw

    if nw.dependencies.is_pandas_like_dataframe(source):
        check_unique([str(name) for name in source.columns], "the table")
    try:
        frame = nw.from_native(source)
    except TypeError:
        return _of_array(source)
    eager = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    kind = eager.implementation.value
    if eager.implementation.is_pandas_like():
        native = eager.to_pandas()
        data = pa.Table.from_pandas(native.rename(columns=str), preserve_index=False).replace_schema_metadata()
        own, natives = list(native.columns), list(native.dtypes)
    else:
        native = eager.to_native()
        data = eager.to_arrow()
        own, natives = data.column_names, list(native.dtypes) if kind == "polars" else [None] * data.num_columns
    frame = of_arrow(data, kind=kind)
    columns = (
        replace(column, native=dtype, own_name=None if isinstance(name, str) else name)
        for column, name, dtype in zip(frame.columns, own, natives, strict=True)
    )
    return replace(frame, columns=tuple(columns))
