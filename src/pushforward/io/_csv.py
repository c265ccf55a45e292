"""Cells of text, by pyarrow: as numbers, as columns of a type, and written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MISSING = ("", "na", "n/a", "nan", "null", "none")  # cells that hold nothing, in lower case
PACKED = (".gz", ".bz2", ".zst")  # endings of compressed text files, as pyarrow knows them
_TRUTH = {"false": 0.0, "true": 1.0}


def parse(column: Any) -> tuple[NDArray[np.float64], int | None]:
    """Text -> values (N,), NaN where missing; the first row whose cell is no number, or None."""
    pa = pyarrow()
    pc = pa.compute
    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(_MISSING))
    try:
        kept = pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)
        return pc.cast(kept, pa.float64()).to_numpy(), None
    except pa.ArrowInvalid:  # rare: find the cell, unless Python reads what pyarrow does not
        values = np.full(len(column), np.nan)
        for row, (cell, is_missing) in enumerate(zip(trimmed.to_pylist(), missing.to_pylist(), strict=True)):
            if cell is not None and not is_missing:
                if cell.lower() not in _TRUTH and not is_number(cell):
                    return values, row
                values[row] = _TRUTH[cell.lower()] if cell.lower() in _TRUTH else float(cell)
        return values, None


def is_number(cell: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def as_text(data: Any) -> Any:
    """All columns of a `pyarrow.Table` as text, numbers in the shortest form that reads back the same.

    Raises:
        ValueError: a column is of a kind that has no text, such as lists.
    """
    pa = pyarrow()
    columns = []
    for name, column in zip(data.column_names, data.columns, strict=True):
        try:
            columns.append(pa.compute.cast(column, pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(f"column {name!r} ({column.type}) cannot be written as CSV; write .parquet") from None
    return pa.table(columns, names=data.column_names)


def write_rows(text: Any, file: Any, delimiter: str = ",") -> None:
    """Writes the rows of a `pyarrow.Table` of text cells to an open binary file; missing cells are left empty."""
    pa = pyarrow()
    from pyarrow import csv as pa_csv

    options = pa_csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    for batch in text.to_batches(max_chunksize=65_536):
        buffer = io.BytesIO()
        try:
            if batch.num_columns == 1:  # an empty cell must not become a blank line
                raise pa.ArrowInvalid
            pa_csv.write_csv(batch, buffer, options)
        except pa.ArrowInvalid:  # a cell needs quotes, which pyarrow would put around all
            lines = io.StringIO(newline="")
            writer = csv.writer(lines, delimiter=delimiter, lineterminator="\n")
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
            buffer = io.BytesIO(lines.getvalue().encode())
        file.write(buffer.getbuffer())


def line(cells: list[str], delimiter: str = ",") -> str:
    """One line of a CSV, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="").writerow(cells)
    return buffer.getvalue()


def types_of(pieces: Iterable[Any]) -> dict[str, Any]:
    """The types that pyarrow reads off the cells of text columns, wide enough for every piece, by column name."""
    pa = pyarrow()
    found: dict[str, Any] = {}
    for piece in pieces:
        for field in _parsed(piece.select(_text_columns(piece))).schema:
            before = found.get(field.name, field.type)
            if before == field.type or pa.types.is_null(field.type):
                found[field.name] = before
            elif pa.types.is_null(before):
                found[field.name] = field.type
            else:
                kinds = {before, field.type}
                wider = pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()
                if all(pa.types.is_date(k) or pa.types.is_timestamp(k) for k in kinds):
                    wider = pa.timestamp("ns" if pa.timestamp("ns") in kinds else "s")
                found[field.name] = wider
    return found


def typed(data: Any, types: dict[str, Any]) -> Any:
    """Gives the text columns of a CSV's `pyarrow.Table` types, as `types_of` finds them."""
    pa = pyarrow()
    text = _text_columns(data)
    parsed = _parsed(data.select(text), types)
    columns = dict(zip(text, parsed.columns, strict=True))
    return pa.table([columns.get(n, data.column(n)) for n in data.column_names], names=data.column_names)


def _text_columns(data: Any) -> list[str]:
    pa = pyarrow()
    return [n for n, kind in zip(data.column_names, data.schema.types, strict=True) if pa.types.is_string(kind)]


def _parsed(text: Any, types: dict[str, Any] | None = None) -> Any:
    """Columns of text as columns of the types, or of those that fit."""
    from pyarrow import csv as pa_csv

    if not text.num_columns:
        return text
    buffer = io.BytesIO()
    buffer.write((line(text.column_names) + "\n").encode())
    write_rows(text, buffer)
    return pa_csv.read_csv(
        io.BytesIO(buffer.getbuffer()),
        pa_csv.ReadOptions(block_size=max(len(buffer.getbuffer()), 1)),
        pa_csv.ParseOptions(newlines_in_values=True),
        pa_csv.ConvertOptions(column_types=types or {}),
    )


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks."""
    return " ".join(str(error).split())


def pyarrow() -> Any:
    """The package, or an error that says how to get it."""
    try:
        import pyarrow
        import pyarrow.compute
    except ImportError:
        raise ImportError('CSV and Parquet need pyarrow: pip install "pushforward[data]"') from None
    return pyarrow
