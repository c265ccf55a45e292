"""Column: the cells of one column, typed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrow import array_of_type, arrow_array, like_type, values_of_texts, views_of
from .arrow_types import plain_type
from .cells import Numbers, are_marks, are_truths, narrowed, parse_numbers, pyarrow
from .notation import Notation, find_notation
from .times import COMPACT, ISO_FORMS, compact_dates, parse_times, unit_of

Holds = Literal["numbers", "times", "texts", "truths", "nothing", "other"]
Rows: TypeAlias = slice | NDArray[np.integer] | NDArray[np.bool_]
_ARROW_NAMES = {"float64": "double", "float32": "float", "float16": "halffloat"}  # of numpy's dtypes
_NUMPY_NAMES = {arrow: name for name, arrow in _ARROW_NAMES.items()}
_VIEWS = ("is_missing", "numbers", "times", "codes")  # the arrays of a column
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
        numbers: (N,) int64, uint64 (of 2^63 and more alone) or float64, 0 where missing; None where the cells are no
            numbers. Truth values are 0 and 1. Infinities are kept: `require_numbers` refuses them.
        times: (N,) int64 ticks of `unit`, 0 where missing; None where the cells are no times.
        unit: of the ticks: "D", "s", "ms", "us" or "ns".
        form: how a text writes its times, see `times`, or its numbers, see `notation`; None where they did not come as
            text, or are numbers as anyone reads.
        codes: (N,) int32, places in `labels`, -1 where missing; None where the cells are no texts, or numbers of a file
            of which nearly each is another (`as_texts` gives them).
        labels: the distinct texts; some may be unused.
        cells: the Arrow column that came in, to be given back as it was; None where there was none.
        native: the dtype that it has in the frame library it came in, None where its Arrow type says it all.
        own_name: its name there, where that is no string.
        first_row: the number of its first cell in the table that came in, for messages.
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
    first_row: int = 0

    def __len__(self) -> int:
        return len(self.is_missing)

    def __getitem__(self, rows: Rows) -> Column:
        """Some of the cells: a slice, row numbers (K,), or a mask (N,)."""
        parts = {name: None if (values := getattr(self, name)) is None else values[rows] for name in _VIEWS}
        first_row = 0
        if isinstance(rows, slice) and rows.step in (None, 1):
            first_row = self.first_row + rows.indices(len(self))[0]
        cells = None if self.cells is None else _some(self.cells, rows)
        return replace(self, **parts, cells=cells, first_row=first_row)

    @staticmethod
    def of_numbers(
        name: str, values: NDArray[Any], is_missing: NDArray[np.bool_] | None, dtype: str, form: str | None = None
    ) -> Column:
        """Numbers (N,), where missing (N,) of any value, to be given back in a dtype; in a form where text."""
        is_missing = np.zeros(len(values), bool) if is_missing is None else is_missing
        holds: Holds = "truths" if dtype == "bool" else "numbers"
        numbers: Any = values.astype(_wide(values.dtype), copy=False)
        numbers = narrowed(np.where(is_missing, numbers.dtype.type(0), numbers) if is_missing.any() else numbers)
        codes = np.where(is_missing, -1, numbers != 0).astype(np.int32) if holds == "truths" else None
        labels = ("false", "true") if holds == "truths" else ()
        return Column(name, holds, dtype, is_missing, numbers=numbers, form=form, codes=codes, labels=labels)

    @staticmethod
    def of_vector(name: str, values: NDArray[Any]) -> Column:
        """Numbers (N,) of any numpy dtype, NaN where missing."""
        values = values.astype(values.dtype.newbyteorder("="))
        is_missing = np.isnan(values) if values.dtype.kind == "f" else None
        column = Column.of_numbers(name, values, is_missing, _ARROW_NAMES.get(values.dtype.name, values.dtype.name))
        return replace(column, holds="nothing") if len(column) and column.is_missing.all() else column

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
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy dtype of numbers: that of `dtype`, where there is one."""
        try:
            return np.dtype(_NUMPY_NAMES.get(self.dtype, self.dtype))
        except (TypeError, ValueError):  # a decimal, text, ...
            return np.dtype(np.float64) if self.numbers is None else self.numbers.dtype

    def plain(self) -> NDArray[Any]:
        """Numbers (N,) in their own dtype."""
        return (np.zeros(len(self)) if self.numbers is None else self.numbers).astype(self.numpy_dtype, copy=False)

    def as_texts(self) -> tuple[NDArray[np.int32], Sequence[str]]:
        """Cells of any kind as places (N,) in labels, -1 where missing; the labels, some of which may be unused.

        Raises:
            ValueError: the cells are lists, bytes and the like.
        """
        if self.codes is not None:
            return self.codes, self.labels
        if self.holds == "other":
            raise ValueError(f"column {self.name!r} holds {self.dtype}, which is no category")
        views = views_of(self.to_arrow().cast(pyarrow().string()), False)
        return np.where(self.is_missing, -1, views["codes"]).astype(np.int32), views["labels"]

    @property
    def texts(self) -> list[str | None]:
        """The N texts, None where missing: for messages and small columns."""
        codes, labels = self.as_texts()
        labels = list(labels)
        return [None if code < 0 else labels[code] for code in codes]

    def require_numbers(self, form: str | None = None) -> Numbers:
        """The numbers (N,), 0 where missing.

        Args:
            form: how texts write them; None takes what fits.

        Raises:
            ValueError: the cells are no numbers (the first rows are named), or some are infinite.
        """
        if (written := self.in_form(form)) is not self and written.numbers is not None:
            return written.numbers
        if not self._has_numbers(form) and not self.is_missing.all():
            if self.codes is None:
                raise ValueError(f"column {self.name!r} holds {self.dtype}, which is no number")
            raise ValueError(f"column {self.name!r} is numeric, but holds text: {self._shown('numbers', form)}")
        if self.numbers is None:
            return np.zeros(len(self), np.float64)
        infinite = self._infinite
        if len(infinite):
            more = f", the first of {len(infinite):,}" if len(infinite) > 1 else ""
            row = self.first_row + infinite[0] + 1
            raise ValueError(f"column {self.name!r} holds {self.numbers[infinite[0]]} in row {row}{more}")
        return self.numbers

    def in_form(self, form: str | None) -> Column:
        """The column with its texts parsed as numbers of a form (a pattern of `Notation`).

        Unchanged where the form is None or its own, it holds no texts, or one of them does not parse.
        """
        if form in (None, self.form) or (self.dtype != "text" and self.codes is None):
            return self
        codes, labels = self.as_texts()
        numbers, good = Notation.of(form).parse(labels)
        if not len(labels) or not good[codes[~self.is_missing]].all():
            return self
        return replace(self, numbers=np.where(self.is_missing, numbers.dtype.type(0), numbers[codes]), form=form)

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
        parsed, good, known = parse_times(self.labels, form, mixed=self.dtype == "text" and form is None)
        if good[self.codes[~self.is_missing]].all():
            return np.where(self.is_missing, 0, parsed[self.codes]), unit_of(known)
        if self.times is not None and self.form in (None, *ISO_FORMS):  # others may have been read another way
            return self.times, self.unit
        if self.times is not None:
            raise ValueError(f"column {self.name!r} holds dates written {self.form}, expected {form}: write them so")
        raise ValueError(
            f"column {self.name!r} holds dates, but has cells that are none ({form or 'YYYY-MM-DD[ hh:mm:ss]'}): "
            f"{self._shown('times', form)}"
        )

    def mostly(self) -> Literal["numbers", "times"] | None:
        """What at least nine in ten of the cells of a column of texts are, but not all: then the others are strays.

        Texts of a frame may be dates as of ISO 8601; those of a file plain numbers, too. Of other forms all must be.
        Marks of missing cells are none of both; true and false are words.
        """
        if self.holds != "texts" or self.codes is None or self.dtype.startswith("dictionary"):
            return None
        present = len(self._strays(np.zeros(len(self.labels), bool)))
        _, are_times, form = parse_times(self.labels, mixed=self.dtype == "text")
        if form in ISO_FORMS and 0 < len(self._strays(are_times)) * 10 < present:
            return "times"
        if self.dtype == "text":
            are_numbers = parse_numbers(self.labels)[1] & ~are_truths(self.labels)
            if 0 < len(self._strays(are_numbers)) * 10 < present:
                return "numbers"
        return None

    def parsed(self, known: bool = False) -> Column:
        """A column of texts as the numbers or times that they are, with marks of missing cells such as "?" among them.

        Where they may be words or codes it stays as it is: with other texts beside them, or, in a frame, as digits.

        Args:
            known: whether the column is one of numbers or times, so that other texts are mistakes.
        """
        if self.holds != "texts" or self.codes is None or self.dtype.startswith("dictionary"):
            return self
        return replace(self, **values_of_texts(self, known))

    def as_compact_dates(self, least: int = 0) -> Column:
        """Numbers such as 20240229 as the dates that they are; itself where one is none.

        Args:
            least: distinct ones that it takes.
        """
        if self.holds != "numbers" or self.numbers is None:
            return self
        there = self.numbers[~self.is_missing]
        ticks = compact_dates(there) if len(np.unique(there)) >= least else None
        if ticks is None:
            return self
        times = np.zeros(len(self), np.int64)
        times[~self.is_missing] = ticks
        return replace(self, holds="times", numbers=None, times=times, unit="s", form=COMPACT)

    def stray_rows(
        self, view: Literal["numbers", "times", "texts"] | None = None, form: str | None = None
    ) -> NDArray[np.int64]:
        """The numbers of the rows whose cells are not missing and are none of a view: infinities among numbers, too.

        Args:
            view: None takes what the column holds, or `mostly` does.
            form: as `require_times` and `require_numbers`.
        """
        view = view or (self.mostly() if self.holds == "texts" else None)
        if view == "texts" or (view is None and self.numbers is None):
            return np.empty(0, np.int64)
        if view == "times":
            if self.times is not None:
                return np.empty(0, np.int64)
            if self.numbers is not None:  # compact dates, some of which are in no calendar
                codes, labels = self.as_texts()
                column, good = replace(self, codes=codes, labels=labels), parse_times(labels, form or COMPACT)[1]
                return column._strays(good)
            good = parse_times(self.labels, form, mixed=self.dtype == "text" and form is None)[1]
        elif self._has_numbers(form):
            return self._infinite
        else:
            values, good = parse_numbers(self.labels)
            good &= ~np.isinf(values)
            notation = find_notation(self.labels) if form is None else Notation.of(form)
            if notation is not None:
                good = max(good, notation.parse(self.labels)[1], key=np.sum)
        return np.flatnonzero(~self.is_missing) if self.codes is None else self._strays(good)

    def _has_numbers(self, form: str | None) -> bool:
        """Whether the cells are numbers, and not written in another form, as of another unit; None takes any."""
        return self.numbers is not None and (form is None or self.form in (None, form))

    def _strays(self, good: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The rows of the cells whose labels are not good (L,), and no marks of missing cells."""
        good = good | are_marks(self.labels)
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
        """Columns of one make, one below the other, typed as a whole.

        Raises:
            ValueError: they are of different types.
        """
        parts = [self, *below]
        if all(part.cells is None and part._is_typed_as(self) for part in parts):
            views = [name for name in _VIEWS if getattr(self, name) is not None]
            return replace(self, **{n: np.concatenate([getattr(part, n) for part in parts]) for n in views})
        pa = pyarrow()
        chunks = [c for part in parts for c in _chunks(arrow_array(part) if part.cells is None else part.cells)]
        if any(chunk.type != chunks[0].type for chunk in chunks):
            raise ValueError(f"column {self.name!r} holds {chunks[0].type} in one part and another type below")
        facts = views_of(pa.chunked_array(chunks), self.dtype == "text")
        return Column(self.name, **facts, native=self.native, own_name=self.own_name, first_row=self.first_row)

    def _is_typed_as(self, other: Column) -> bool:
        """Whether cells of both are written alike, and their views are of the same types."""
        facts = ("holds", "dtype", "unit", "form", "labels")
        views = [[getattr(getattr(part, name), "dtype", None) for name in _VIEWS] for part in (self, other)]
        return views[0] == views[1] and all(getattr(self, name) == getattr(other, name) for name in facts)

    @property
    def _infinite(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isinf(self.numbers)) if self.numbers is not None else np.empty(0, np.int64)

    def _shown(self, view: Literal["numbers", "times"], form: str | None = None) -> str:
        bad = self.stray_rows(view, form)
        if not len(bad):  # frames say what their texts are
            return f"{self.shown(0)} and others are {view} as text: convert the column"
        first = ", ".join(f"row {self.first_row + row + 1} {self.shown(row)}" for row in bad[:_SHOWN].tolist())
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        return f"{first}{more} (rows are counted from 1, below a header)"


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
