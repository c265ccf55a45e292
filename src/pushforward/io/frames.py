"""Frames: tables in memory whose columns are typed once, whatever they came from, and the way back.

Everything behind this door works on `Frame` and `Column` alone: no Arrow type, no frame library.
"""

from __future__ import annotations

import csv
import io
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from .arrow import array_of_type, arrow_array, like_type, plain_type, views_of
from .cells import Numbers, parse_numbers, parse_times, pyarrow

Holds = Literal["numbers", "times", "texts", "truths", "nothing", "other"]
Rows: TypeAlias = slice | NDArray[np.integer] | NDArray[np.bool_]
_PANDAS_INDEX = "__index_level_"  # what pandas adds to a Parquet file for a frame whose rows were picked
_SHOWN = 3  # bad cells named in a message


@dataclass(frozen=True, eq=False)
class Column:
    """N cells of one column, typed: numbers, times, texts or truth values, and which of them are missing.

    What a column holds is decided once, when it is read. A column of text has the view `codes` and `labels`, and beside
    it the view as numbers or as times where every cell that is not missing parses, so that a later choice of another
    kind need not read it again.

    Attributes:
        name: of the column.
        holds: what its cells are; "nothing" where all are missing, "other" where they are lists, bytes and the like.
        dtype: the type that came in, by its Arrow name (int64, string, timestamp[us, tz=UTC], ...), in which samples
            are given back; "text" for the cells of a text file, which are written back as they came.
        is_missing: (N,), the same for every view.
        numbers: (N,) int64, uint64 or float64, 0 where missing; None where the cells are no numbers. Truth values are
            0 and 1. Infinities are kept: `require_numbers` refuses them.
        times: (N,) int64 ticks of `unit`, 0 where missing; None where the cells are no times.
        unit: of the ticks: "D", "s", "ms", "us" or "ns".
        form: how a text writes its times, as of `strftime`; None where they did not come as text.
        codes: (N,) int32, places in `labels`, -1 where missing; None where the cells are no texts.
        labels: the distinct texts; some may be unused.
        cells: the Arrow column that came in, to be given back as it was; None where there was none.
        native: the dtype that it has in the frame library it came in, None where its Arrow type says it all.
        own_name: its name there, where that is no string.
    """

    name: str
    holds: Holds
    dtype: str
    is_missing: NDArray[np.bool_]
    numbers: Numbers | None = None
    times: NDArray[np.int64] | None = None
    unit: str = ""
    form: str | None = None
    codes: NDArray[np.int32] | None = None
    labels: Sequence[str] = ()
    cells: Any = None
    native: Any = None
    own_name: Any = None

    def __len__(self) -> int:
        return len(self.is_missing)

    def __getitem__(self, rows: Rows) -> Column:
        """Some of the cells: a slice, row numbers (K,), or a mask (N,)."""
        parts = {
            name: None if (values := getattr(self, name)) is None else values[rows]
            for name in ("is_missing", "numbers", "times", "codes")
        }
        return replace(self, **parts, cells=None if self.cells is None else _some(self.cells, rows))

    @staticmethod
    def of_numbers(name: str, values: NDArray[Any], is_missing: NDArray[np.bool_] | None, dtype: str) -> Column:
        """Numbers (N,), where missing (N,) of any value, to be given back in a dtype."""
        is_missing = np.zeros(len(values), bool) if is_missing is None else is_missing
        holds: Holds = "truths" if dtype == "bool" else "numbers"
        numbers: Any = values.astype(_wide(values.dtype), copy=False)
        numbers = np.where(is_missing, numbers.dtype.type(0), numbers) if is_missing.any() else numbers
        codes = np.where(is_missing, -1, numbers != 0).astype(np.int32) if holds == "truths" else None
        labels = ("false", "true") if holds == "truths" else ()
        return Column(name, holds, dtype, is_missing, numbers=numbers, codes=codes, labels=labels)

    @staticmethod
    def of_texts(name: str, codes: NDArray[np.integer], labels: Sequence[str], dtype: str) -> Column:
        """Texts as places (N,) in labels, -1 where missing, to be given back in a dtype: text, dictionary, bool, ..."""
        holds: Holds = "truths" if dtype == "bool" else "texts"
        return Column(name, holds, dtype, codes < 0, codes=codes.astype(np.int32), labels=labels)

    @staticmethod
    def of_times(
        name: str, values: NDArray[np.int64], is_missing: NDArray[np.bool_] | None, dtype: str, unit: str,
        form: str | None = None,
    ) -> Column:  # fmt: skip
        """Ticks (N,) of a unit, where missing (N,) of any value, to be given back in a dtype; in a form where text."""
        is_missing = np.zeros(len(values), bool) if is_missing is None else is_missing
        times = np.where(is_missing, 0, values)
        return Column(name, "times", dtype, is_missing, times=times, unit=unit, form=form)

    @property
    def numeric(self) -> bool:
        """Whether the cells are numbers or truth values, or all missing."""
        return self.numbers is not None or (self.holds == "nothing" and self.times is None)

    @property
    def texts(self) -> list[str | None]:
        """The N texts, None where missing: for messages and small columns."""
        labels = list(self.labels)
        return [None if code < 0 else labels[code] for code in (self.codes if self.codes is not None else ())]

    def require_numbers(self) -> Numbers:
        """The numbers (N,), 0 where missing.

        Raises:
            ValueError: the cells are no numbers (the first rows are named), or some are infinite.
        """
        if self.numbers is None and not self.is_missing.all():
            if self.codes is None:
                raise ValueError(f"column {self.name!r} holds {self.dtype}, which is no number")
            raise ValueError(f"column {self.name!r} is numeric, but holds text: {self._shown('numbers')}")
        if self.numbers is None:
            return np.zeros(len(self), np.float64)
        infinite = self._infinite
        if len(infinite):
            more = f", the first of {len(infinite):,}" if len(infinite) > 1 else ""
            raise ValueError(f"column {self.name!r} holds {self.numbers[infinite[0]]} in row {infinite[0] + 1}{more}")
        return self.numbers

    def require_times(self, form: str | None = None) -> tuple[NDArray[np.int64], str]:
        """-> ticks (N,), 0 where missing; their unit.

        Args:
            form: how the text of times is written, as of `strftime`; None takes what fits.

        Raises:
            ValueError: the cells are no times (the first rows are named).
        """
        if self.times is not None and form in (None, self.form):
            return self.times, self.unit
        if self.is_missing.all():
            return np.zeros(len(self), np.int64), self.unit or "s"
        if self.codes is None:
            raise ValueError(f"column {self.name!r} holds {self.dtype}, which is no date")
        parsed, good, _ = parse_times(self.labels, form, mixed=self.dtype == "text" and form is None)
        if not good[self.codes[~self.is_missing]].all():
            raise ValueError(
                f"column {self.name!r} holds dates, but has cells that are none (YYYY-MM-DD[ hh:mm:ss]): "
                f"{self._shown('times', form)}"
            )
        return np.where(self.is_missing, 0, parsed[self.codes]), "s"

    def mostly(self) -> Literal["numbers", "times"] | None:
        """What at least nine in ten of the cells of a column of texts are, but not all: then the others are strays.

        Texts of a frame may be dates; those of a file numbers, too.
        """
        present = int((~self.is_missing).sum())
        if self.holds != "texts" or self.codes is None or self.dtype.startswith("dictionary"):
            return None
        for view in ("times", "numbers") if self.dtype == "text" else ("times",):
            if len(self.stray_rows(view)) * 10 < present:
                return view
        return None

    def stray_rows(
        self, view: Literal["numbers", "times", "texts"] | None = None, form: str | None = None
    ) -> NDArray[np.int64]:
        """The numbers of the rows whose cells are not missing and are none of a view: infinities among numbers, too.

        Args:
            view: None takes what the column holds, or `mostly` does.
            form: as `require_times`.
        """
        view = view or (self.mostly() if self.holds == "texts" else None)
        if view == "texts" or (view is None and self.numbers is None):
            return np.empty(0, np.int64)
        if view == "times":
            if self.times is not None and form in (None, self.form):
                return np.empty(0, np.int64)
            good = parse_times(self.labels, form, mixed=self.dtype == "text" and form is None)[1]
        elif self.numbers is not None:
            return self._infinite
        else:
            values, good = parse_numbers(self.labels)
            good &= ~np.isinf(values)
        if self.codes is None:
            return np.flatnonzero(~self.is_missing)
        return np.flatnonzero(~self.is_missing & ~np.append(good, True)[self.codes])

    def shown(self, row: int) -> str:
        """A cell, for messages."""
        if self.codes is not None:
            value = None if self.codes[row] < 0 else self.labels[self.codes[row]]
        elif self.numbers is not None:
            value = None if self.is_missing[row] else self.numbers[row].item()
        else:
            value = self.to_arrow()[row].as_py()
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:36]} ..."

    def to_arrow(self) -> Any:
        """A pyarrow array of the type that came in; cells of a text file as they were."""
        if self.cells is None:
            return arrow_array(self)
        return self.cells.cast(pyarrow().string()) if self.dtype == "text" else self.cells

    @property
    def plain_type(self) -> Any:
        """The Arrow type of its cells; of those of a text file what they mean."""
        return plain_type(self)

    def as_type(self, kind: Any) -> Any:
        """A pyarrow array of a type that holds the cells.

        Raises:
            ValueError: it does not.
        """
        try:
            return array_of_type(self, kind)
        except pyarrow().ArrowException as error:
            raise ValueError(f"column {self.name!r} holds cells that are no {kind}: {error}") from None

    def like(self, other: Column) -> Column:
        """The column as another one came: with its name, its dtype and its order of categories."""
        named = replace(self, name=other.name, own_name=other.own_name, native=other.native)
        return replace(named, cells=like_type(named, other)) if other.cells is not None else named

    def append(self, below: Sequence[Column]) -> Column:
        """Columns of one make, one below the other, typed as a whole."""
        parts = [self, *below]
        if all(part.cells is None and part.holds == "numbers" for part in parts):
            values = np.concatenate([part.numbers for part in parts if part.numbers is not None])
            return Column.of_numbers(self.name, values, np.concatenate([p.is_missing for p in parts]), self.dtype)
        pa = pyarrow()
        chunks = [c for part in parts for c in _chunks(arrow_array(part) if part.cells is None else part.cells)]
        if any(chunk.type != chunks[0].type for chunk in chunks):
            raise ValueError(f"column {self.name!r} holds {chunks[0].type} in one part and another type below")
        facts = views_of(pa.chunked_array(chunks), self.dtype == "text")
        return replace(self, **facts)

    @property
    def _infinite(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isinf(self.numbers)) if self.numbers is not None else np.empty(0, np.int64)

    def _shown(self, view: Literal["numbers", "times"], form: str | None = None) -> str:
        bad = self.stray_rows(view, form)
        first = ", ".join(f"row {row + 1} {self.shown(row)}" for row in bad[:_SHOWN].tolist())
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        return f"{first}{more} (rows are counted from 1, below a header)"


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
        return replace(self, columns=(*self.columns, _of_vector(name, values)))

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
            return {c.name: c.to_arrow().to_pylist() if c.is_missing.any() or not c.numeric else _plain(c)
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
        values = self.matrix(self.names, finite=False)
        dtype = np.result_type(*(_plain_dtype(column) for column in self.columns))
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
        ValueError: it is none of these, has no columns, columns of the same name, or cells of several kinds in one.
        ImportError: pyarrow is needed and not installed.
    """
    if isinstance(source, Frame):
        return source
    if isinstance(source, FrameSource):
        return source.read()
    if not is_named(source):
        return _of_array(source)
    if isinstance(source, Mapping) and source and all(map(_is_vector, source.values())):
        columns = [_of_vector(str(name), _as_numpy(values)) for name, values in source.items()]
        if len({len(column) for column in columns}) == 1:
            check_unique([column.name for column in columns], "the table")
            return Frame(tuple(columns), kind="dict")
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
    return isinstance(source, Mapping) or (
        not isinstance(source, (np.ndarray, torch.Tensor)) and (hasattr(source, "columns") or hasattr(source, "schema"))
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
    columns = (_of_vector(name, column) for name, column in zip(names, values.T, strict=True))
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
    values = _as_numpy(source)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(
            "expected a pyarrow Table, a pandas or polars DataFrame, a dict of columns or an array of numbers "
            f"(N, D), got {type(source).__name__} of shape {values.shape} and dtype {values.dtype}"
        )
    if not values.shape[1]:
        raise ValueError("the table has no columns")
    kind = "torch" if isinstance(source, torch.Tensor) else "numpy"
    return of_array(values, [f"x{i}" for i in range(values.shape[1])], kind=kind)


def _of_vector(name: str, values: NDArray[Any]) -> Column:
    dtype = values.dtype.newbyteorder("=")
    is_missing = np.isnan(values) if dtype.kind == "f" else None
    column = Column.of_numbers(name, values.astype(dtype), is_missing, _ARROW_NAMES.get(dtype.name, dtype.name))
    return replace(column, holds="nothing") if len(column) and column.is_missing.all() else column


def _is_vector(values: Any) -> bool:
    """Whether something is a vector (N,) of plain numbers, for which Arrow is not needed."""
    if isinstance(values, (list, tuple)):
        return bool(values) and (all(type(v) is float for v in values) or all(type(v) is int for v in values))
    return (
        isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == 1 and np.asarray(values).dtype.kind in "fiub"
    )


def _of_native(source: Any) -> Frame:
    """A data frame of another library; its own dtypes are kept beside those of Arrow."""
    pa = pyarrow()
    import narwhals as nw

    if hasattr(source, "columns"):
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


_ARROW_NAMES = {"float64": "double", "float32": "float", "float16": "halffloat"}
_NUMPY_NAMES = {arrow: name for name, arrow in _ARROW_NAMES.items()}


def _plain_dtype(column: Column) -> np.dtype[Any]:
    """The numpy dtype of a column of numbers."""
    try:
        return np.dtype(_NUMPY_NAMES.get(column.dtype, column.dtype))
    except TypeError:  # a decimal, text, ...
        return np.dtype(np.float64) if column.numbers is None else column.numbers.dtype


def _plain(column: Column) -> NDArray[Any]:
    values = np.zeros(len(column)) if column.numbers is None else column.numbers
    return values.astype(_plain_dtype(column), copy=False)


def _wide(dtype: np.dtype[Any]) -> type[np.generic]:
    return np.float64 if dtype.kind == "f" else np.uint64 if dtype == np.uint64 else np.int64


def _some(cells: Any, rows: Rows) -> Any:
    """Some cells of an Arrow array."""
    if isinstance(rows, slice):
        start, stop, step = rows.indices(len(cells))
        if step == 1:
            return cells.slice(start, max(stop - start, 0))
        rows = np.arange(start, stop, step)
    return cells.take(pyarrow().array(np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)))


def _chunks(cells: Any) -> list[Any]:
    return cells.chunks if hasattr(cells, "chunks") else [cells]


def csv_line(cells: Sequence[str], delimiter: str = ",") -> str:
    """One line of a CSV, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="").writerow(cells)
    return buffer.getvalue()


def without_index(names: Sequence[str]) -> list[str]:
    """All columns but the row index that pandas leaves in Parquet files."""
    return [name for name in names if not name.startswith(_PANDAS_INDEX)]


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuses a name that comes twice.

    Raises:
        ValueError: it does.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: more than one {columns_text(twice[:1])}")


def columns_text(names: Sequence[str]) -> str:
    """Some columns, for messages."""
    return f"column{'s' if len(names) > 1 else ''} {quoted(names)}"


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Names, for messages."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
