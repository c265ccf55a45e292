"""The columns of X and of a context as `fit` saw them: how later tables are read, and how tables are given back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from ..io import frames
from ..io.frames import Column, Frame

Array = NDArray[np.float64]
KINDS = ("numpy", "pandas", "polars", "pyarrow")


def as_frame(table: Any) -> Frame | None:
    """A frame, typed; None for all that scikit-learn takes as an array. The column of a Series has no name.

    Raises:
        ValueError: two columns share a name, or cells of a column are of several kinds.
    """
    if hasattr(table, "to_frame"):
        return replace(frames.read(table.to_frame()), named=False)
    kind = type(table)  # for a lazy frame evaluates these attributes, with a warning
    is_frame = isinstance(table, Frame) or hasattr(kind, "columns") or hasattr(kind, "schema")
    return frames.read(table) if is_frame else None


def holds_numbers(frame: Frame) -> bool:
    """Whether each cell is a continuous number, be it infinite: no truth value, and of no integer or decimal type."""
    return not any(
        column.holds != "numbers" or column.form or column.is_missing.any() or column.plain().dtype.kind != "f"
        or column.dtype.startswith("decimal")
        for column in frame.columns
    )  # fmt: skip


@dataclass(frozen=True)
class Columns(ABC):
    """The columns of X or of the context.

    Attributes:
        what: "X" or "context", for messages.
        form: a frame without rows: the names, the dtypes and the kind of what `fit` saw.
    """

    what: str
    form: Frame

    @property
    def names(self) -> list[str]:
        """As text; x0, x1, ... for an array."""
        return self.form.names

    @property
    def own_names(self) -> list[Any]:
        """As the caller has them, who may use numbers."""
        return [c.name if c.own_name is None else c.own_name for c in self.form.columns]

    def without(self, names: Collection[str]) -> Columns:
        """The same, where later tables need not have the columns of some names."""
        return self

    @abstractmethod
    def read(self, table: Any) -> Any:
        """The rows of another table, as the density takes them.

        Raises:
            ValueError: it has other columns, or cells that do not fit.
        """

    @abstractmethod
    def write(self, rows: Any) -> Any:
        """Rows of the density, as a table like that of `fit`."""


class Numbers(Columns):
    """Columns of finite numbers, which stand in the order of `fit`."""

    @staticmethod
    def of(table: Any, what: str, least: int = 1) -> tuple[Numbers, Array]:
        """-> the columns of a table; its rows (N, D), at least as many as are asked for."""
        frame = as_frame(table)
        x = _matrix(table, frame, what, least)
        form = frames.read(np.empty((0, x.shape[1]), _dtype(table))) if frame is None else _empty(frame)
        return Numbers(what, form), x

    def read(self, table: Any) -> Array:
        """The numbers of another table (N, D); names and width of X are left to scikit-learn.

        Raises:
            ValueError: a context has other names, or cells are no finite numbers.
        """
        other, x = Numbers.of(table, self.what)
        named = self.form.named and other.form.named and self.what == "context"
        if named and self.own_names != other.own_names:
            raise ValueError(f"context must have the columns {self.own_names} in this order, got {other.own_names}")
        return x

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 if all columns were, else float64."""
        return float_dtype(self.form)

    def write(self, rows: Any) -> Any:
        """Draws (*n, D) as numbers (N, D) of floating point."""
        values = rows.reshape(-1, len(self.names)).double().cpu().numpy()
        return as_table(values.astype(self.dtype, copy=False), self.own_names, self.form.kind)


@dataclass(frozen=True)
class Cells(Columns):
    """Columns of any kind, which are found by name, or by position where a table has none.

    Attributes:
        optional: names of columns that later tables need not have.
    """

    optional: Collection[str] = ()

    def without(self, names: Collection[str]) -> Cells:
        """The same, where later tables need not have the columns of some names."""
        return replace(self, optional=names)

    @staticmethod
    def of(table: Any, what: str) -> tuple[Cells, Frame]:
        """-> the columns of a table; its rows under their names, which for a nameless context are context0, ..."""
        frame = _any_frame(table)
        if not frame.named:
            frame = frame.rename([f"{'x' if what == 'X' else what}{i}" for i in range(len(frame.columns))])
        return Cells(what, _empty(frame)), frame

    def read(self, table: Any) -> Frame:
        """The cells of another table, under the names and in the order of `fit`.

        Raises:
            ValueError: a column is absent, or there is one that `fit` did not see.
        """
        frame = replace(_any_frame(table), source=self.what)
        if not (self.form.named and frame.named):
            if len(frame.columns) != len(self.names):
                raise ValueError(f"{self.what} has {len(frame.columns)} columns, but had {len(self.names)} in fit")
            return replace(frame.rename(self.names), named=True)
        absent = [n for n in self.names if n not in frame.names and n not in self.optional]
        unseen = [n for n in frame.names if n not in self.names]
        problems = [
            f"{problem} {frames.quoted(names, 10)}"
            for problem, names in (("lacks the columns", absent), ("has the unseen columns", unseen))
            if names
        ]
        if problems:
            raise ValueError(f"{self.what} {' and '.join(problems)}: it must have those of fit, in any order")
        return frame.select([n for n in self.names if n in frame.names])

    def write(self, rows: Any) -> Any:
        """Rows with some of the columns or all, in the dtypes of `fit`."""
        drawn = frames.read(rows)
        kept = [n for n in self.names if n in drawn.names]
        return drawn.select(kept).like(self.form.select(kept)).to()


def named_columns(cls: type[Columns], what: str, names: Sequence[str], named: bool, kind: str, dtype: str) -> Any:
    """The columns of a file, which knows their names, the kind of the table and, of numbers, the dtype."""
    columns = tuple(Column.of_numbers(name, np.empty(0), None, dtype) for name in names)
    return cls(what, Frame(columns, named, kind=kind))


def float_dtype(table: Any) -> np.dtype[Any]:
    """float32 if all of a frame or an array is, else float64: the precision of what is given back for it."""
    if isinstance(table, Frame):
        return np.dtype(np.float32 if all(c.dtype == "float" for c in table.columns) else np.float64)
    return _dtype(table)


def width_of(table: Any) -> int:
    """The number of columns of a table; values (N,) are one."""
    if isinstance(table, Frame):
        return len(table.columns)
    shape = np.shape(table) if not hasattr(table, "shape") else table.shape
    return shape[1] if len(shape) > 1 else 1


def as_table(values: NDArray[Any], names: Sequence[Any], kind: str) -> Any:
    """Values (N, D) as a table of a kind.

    Raises:
        ImportError: the package of that kind is not installed.
    """
    if kind not in KINDS[1:]:
        return values
    dtype = "float" if values.dtype == np.float32 else "double"
    columns = tuple(
        replace(Column.of_numbers(str(name), values[:, i], None, dtype),
                own_name=None if isinstance(name, str) else name)
        for i, name in enumerate(names)
    )  # fmt: skip
    return Frame(columns, kind=kind).to()


def _any_frame(table: Any) -> Frame:
    """A table of any kind as a frame; values (N,) are one column."""
    frame = as_frame(table)
    if frame is not None:
        return frame
    values = np.asarray(table)
    return frames.read(values[:, None] if values.ndim == 1 else values)


def _empty(frame: Frame) -> Frame:
    return frame[np.empty(0, dtype=np.int64)]


def _dtype(array: Any) -> np.dtype[Any]:
    return np.dtype(np.float32 if getattr(array, "dtype", None) == np.float32 else np.float64)


def _matrix(table: Any, frame: Frame | None, what: str, least: int) -> Array:
    """A table as numbers (N, D), checked as scikit-learn checks them; a nameless context (N,) is one column."""
    if frame is not None:
        others = [c for c in frame.columns if not c.numeric or c.holds == "truths"]
        if others:
            shown = ", ".join(f"{c.name!r} ({c.dtype})" for c in others[:10])
            raise ValueError(
                f"{what} has columns that do not hold numbers: {shown}{', ...' if len(others) > 10 else ''}; "
                "the estimator was fitted to numbers alone"
            )
        table = frame.matrix(frame.names, finite=False)
    elif what == "context" and np.ndim(table) == 1:
        table = np.asarray(table)[:, None]
    if np.ma.is_masked(table):
        table = np.ma.filled(table.astype(np.float64), np.nan)
    values = check_array(
        table, dtype=[np.float64, np.float32], estimator="FlowDensity", input_name=what,  # type: ignore[arg-type]
        ensure_min_samples=least,
    )  # fmt: skip
    values = values.astype(np.float64, copy=False)
    return values if values.flags.writeable else values.copy()  # torch warns of what it could overwrite
