"""Tables of any make as Arrow columns, their cells as numbers, and the way back to the dtypes that came in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..io import _csv
from ..io.old_tables import Table, TableFile

MISSING_TEXT = ("", "na", "n/a", "nan", "null")  # cells of a CSV that hold no category, in lower case
_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_DATE = r"^\s*\d{4}-\d\d-\d\d"
_MOSTLY = 0.9  # of a text column's cells are numbers, or dates: then it is one of them with stray text, which is told
_SHOWN = 3  # bad cells named in a message


@dataclass(frozen=True)
class Source:
    """An Arrow table and where it came from.

    Attributes:
        data: a `pyarrow.Table`.
        text: whether its strings are the cells of a CSV, so that numbers and missing cells are still to be read off.
        named: whether its columns came with names.
        where: for messages.
    """

    data: Any
    text: bool = False
    named: bool = True
    where: str = "the table"

    def __len__(self) -> int:
        return self.data.num_rows

    @property
    def names(self) -> list[str]:
        """The column names, in order."""
        return self.data.column_names

    def slice(self, start: int, length: int) -> Source:
        """Some rows, without a copy."""
        return Source(self.data.slice(start, length), self.text, self.named, self.where)

    def take(self, rows: NDArray[np.int64]) -> Source:
        """The rows with these numbers."""
        return Source(self.data.take(rows), self.text, self.named, self.where)


def as_source(table: Any) -> Source:
    """A pyarrow Table or RecordBatch, pandas or polars DataFrame, our `Table`, a dict of columns or an (N, D) array.

    A `TableFile` is read whole.

    Raises:
        ValueError: it is none of these, has no columns, columns of the same name, or cells of several kinds in one.
        ImportError: there is no pyarrow.
    """
    pa = _csv.pyarrow()
    if isinstance(table, Source):
        return table
    if isinstance(table, TableFile):
        table = table.read()
    if isinstance(table, Table):
        if isinstance(table.data, np.ndarray):
            return Source(_from_array(pa, table.data, list(table.names)), False, table.named, table.source)
        return Source(table.data.rename_columns(list(table.names)), table.text, table.named, table.source)
    module = type(table).__module__.split(".")[0]
    named = True
    try:
        if isinstance(table, pa.Table):
            data = table
        elif isinstance(table, pa.RecordBatch):
            data = pa.Table.from_batches([table])
        elif module == "pandas":
            _check_unique([str(n) for n in table.columns])
            data = pa.Table.from_pandas(table.rename(columns=str), preserve_index=False).replace_schema_metadata()
        elif module == "polars":
            data = table.to_arrow()
        elif isinstance(table, dict):
            data = pa.table({str(k): v if hasattr(v, "__len__") and not isinstance(v, str) else [v] for k, v in
                             table.items()})  # fmt: skip
        else:
            values = table.detach().cpu().numpy() if isinstance(table, torch.Tensor) else np.asarray(table)
            if values.ndim != 2 or values.dtype.kind not in "fiub":
                raise ValueError(
                    "expected a pyarrow Table, a pandas or polars DataFrame, a dict of columns or an array of numbers "
                    f"(N, D), got {type(table).__name__} of shape {values.shape} and dtype {values.dtype}"
                )
            data, named = _from_array(pa, values, [f"x{i}" for i in range(values.shape[1])]), False
    except pa.ArrowException as error:
        raise ValueError(f"the table cannot be read: {_csv.one_line(error)}") from None
    _check_unique(data.column_names)
    if not data.column_names:
        raise ValueError("the table has no columns")
    return Source(data, False, named)


def numbers(column: Any, name: str, text: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The cells of a numeric column: values (N,) int64 or float64, 0 where missing; missing (N,).

    Dates, times and durations are the whole number that Arrow keeps, in their own unit.

    Raises:
        ValueError: the column holds text that is no number (its first rows are named), infinities, or another kind.
    """
    pa = _csv.pyarrow()
    pc, t = pa.compute, pa.types
    column = decoded(column)
    kind = column.type
    if is_text(kind):
        values, stray = _csv.parse(pc.cast(column, pa.string()).fill_null(""))
        if stray is not None:
            raise ValueError(not_numbers(column, name))
        missing = np.isnan(values)
        whole = bool((values[~missing] == np.floor(values[~missing])).all())
        small = bool((np.abs(values[~missing]) < 2**53).all())
        dotted = whole and pc.any(pc.match_substring(column, ".")).as_py()
        if whole and small and not dotted:
            return np.where(missing, 0, values).astype(np.int64), missing
        return _finite(name, np.where(missing, 0.0, values)), missing
    missing = pc.is_null(column, nan_is_null=False).to_numpy(zero_copy_only=False) if column.null_count else None
    if t.is_boolean(kind) or (t.is_integer(kind) and kind != pa.uint64()):
        values = pc.cast(column, pa.int64()).fill_null(0).to_numpy()
    elif t.is_temporal(kind):
        narrow = kind.bit_width == 32
        values = pc.cast(pc.cast(column, pa.int32()) if narrow else column, pa.int64()).fill_null(0).to_numpy()
    elif t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind) or t.is_integer(kind):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        nan = np.isnan(values)
        values = _finite(name, np.where(nan, 0.0, values))
        missing = nan
    else:
        raise ValueError(f"column {name!r} holds {kind}, which is no number, date, text or category")
    return values, np.zeros(len(values), dtype=bool) if missing is None else missing


def strings(column: Any, text: bool) -> Any:
    """The cells of a category column as a pyarrow string array, null where missing."""
    pa = _csv.pyarrow()
    pc = pa.compute
    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        column = pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ValueError(f"a column of {column.type} is no category") from None
    if text:
        missing = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), value_set=pa.array(MISSING_TEXT))
        column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def dates(column: Any, text: bool, form: str | None = None) -> tuple[Any, str] | None:
    """Text as dates: (a timestamp[s] column, null where missing; their strftime form), or None if a cell is no date."""
    cells = strings(column, text)
    first = next((c.as_py() for c in cells.drop_null()[:1]), None)
    if first is None or not re.match(_DATE, first):
        return None
    for known in (form,) if form else _DATE_FORMATS:
        when = _when(cells, known)
        if when.null_count == cells.null_count:
            return when, known
    return None


def stray_dates(
    column: Any, text: bool, form: str | None = None, *, always: bool = False
) -> tuple[str, list[tuple[int, str]]] | None:
    """The form of a text column that mostly (or `always`) holds dates, and its cells that are none: (row, cell); or
    None where it holds others."""
    pc = _csv.pyarrow().compute
    cells = strings(column, text)
    present = len(cells) - cells.null_count
    alike = pc.sum(pc.match_substring_regex(cells, _DATE)).as_py() or 0
    if not always and (not alike or not mostly(present - alike, present)):
        return None
    found = {known: _when(cells, known) for known in ((form,) if form else _DATE_FORMATS)}
    known = min(found, key=lambda k: found[k].null_count)
    if not always and not mostly(found[known].null_count - cells.null_count, present):
        return None
    bad = pc.and_(pc.is_null(found[known]), pc.is_valid(cells)).to_numpy(zero_copy_only=False)
    return known, [(int(row), cells[int(row)].as_py()) for row in np.flatnonzero(bad)]


def held(column: Any) -> int:
    """How many cells of a CSV column are not missing."""
    cells = strings(column, True)
    return len(cells) - cells.null_count


def mostly(stray: int, cells: int) -> bool:
    """Whether a text column, of whose cells so many do not fit, is one of numbers or dates all the same."""
    return stray < (1 - _MOSTLY) * cells


def _when(cells: Any, form: str) -> Any:
    """Text as timestamp[s], null where it is no date of the form or of the calendar."""
    pa = _csv.pyarrow()
    pc = pa.compute
    cells = pc.utf8_trim_whitespace(cells)
    when = pc.strptime(cells, form, "s", error_is_null=True)
    # The 30th of February would be read as the 1st of March.
    day = pc.cast(pc.if_else(pc.is_valid(when), pc.utf8_slice_codeunits(cells, 8, 10), None), pa.int64())
    return pc.if_else(pc.equal(pc.day(when), day), when, None)


def not_dates(column: Any, name: str, text: bool, form: str | None = None) -> str:
    """A message that names the first cells of a column of dates that are none."""
    stray = stray_dates(column, text, form)
    shown = f": {_rows(stray[1])}" if stray else ""
    return f"column {name!r} holds dates, but has cells that are none (YYYY-MM-DD[ hh:mm:ss]){shown}"


def not_numbers(column: Any, name: str) -> str:
    """A message that names the first cells of a text column that are no numbers."""
    return f"column {name!r} is numeric, but holds text: {_rows(stray_cells(column))}"


def _rows(bad: list[tuple[int, str]]) -> str:
    shown = ", ".join(f"row {row + 1} {cell!r}" for row, cell in bad[:_SHOWN])
    more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
    return f"{shown}{more} (rows are counted from 1, below a header)"


def stray_cells(column: Any) -> list[tuple[int, str]]:
    """The cells of a text column that are neither missing nor a number: (row, cell)."""
    bad = []
    for row, cell in enumerate(decoded(column).to_pylist()):
        trimmed = "" if cell is None else cell.strip().lower()
        if trimmed not in _csv._MISSING and trimmed not in _csv._TRUTH and not _csv.is_number(trimmed):
            bad.append((row, cell))
    return bad


def decoded(column: Any) -> Any:
    """A dictionary column as the column of its values."""
    pa = _csv.pyarrow()
    if pa.types.is_dictionary(column.type):
        return pa.compute.cast(column, column.type.value_type)
    return column


def typed(column: Any, name: str, kind: Any) -> Any:
    """A CSV column, whose cells are text, as one of the Arrow type that is its own; null where missing.

    Raises:
        ValueError: a cell is none of that type.
    """
    pa = _csv.pyarrow()
    cells = strings(column, True)
    if pa.types.is_temporal(kind):
        found = dates(column, True)
        if found is None and cells.null_count < len(cells):
            raise ValueError(not_dates(column, name, True))
        cells = cells if found is None else found[0]
    elif pa.types.is_boolean(kind):
        cells = pa.compute.utf8_lower(cells)
    elif not is_text(kind) and not pa.types.is_dictionary(kind):
        values, missing = numbers(column, name, True)
        cells = pa.array(values, mask=missing)
    return cells.cast(kind, safe=False)


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is one of strings."""
    t = _csv.pyarrow().types
    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)


def arrow_type(text: str) -> Any:
    """The Arrow type of a name, such as int64, double or timestamp[us, tz=UTC]; strings where it is unknown.

    Raises:
        ValueError: there is no such type.
    """
    pa = _csv.pyarrow()
    if found := re.fullmatch(r"timestamp\[(s|ms|us|ns), tz=([\w/+:-]+)\]", text):
        return pa.timestamp(*found.groups())
    if found := re.fullmatch(r"decimal(?:128|256)?\((\d{1,2}), (-?\d{1,2})\)", text):
        return pa.decimal128(min(int(found[1]), 38), int(found[2]))
    if found := re.fullmatch(r"dictionary<values=([\w\[\]]+), indices=(\w+), ordered=([01])>", text):
        return pa.dictionary(pa.int32(), arrow_type(found[1]), ordered=found[3] == "1")
    names = {"halffloat": "float16", "float": "float32", "string_view": "string", "null": "float64"}
    try:
        return pa.type_for_alias(names.get(text, text))
    except ValueError:
        raise ValueError(f"unknown dtype {text!r}") from None


def _from_array(pa: Any, values: NDArray[Any], names: list[str]) -> Any:
    return pa.table([np.ascontiguousarray(column) for column in values.T], names=names)


def _check_unique(names: list[str]) -> None:
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"the table has more than one column {twice[0]!r}")


def _finite(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        more = f", the first of {len(bad):,}" if len(bad) > 1 else ""
        raise ValueError(f"column {name!r} holds {values[bad[0]]} in row {bad[0] + 1}{more}")
    return values
