"""CSV files by pyarrow. Cells stay text until asked for as numbers, so that they are written back as they were."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MISSING = ("", "na", "n/a", "nan", "null", "none")  # cells that hold nothing, in lower case
_TRUTH = {"false": 0.0, "true": 1.0}
_BLOCK = 2**24  # bytes read at a time; a row must fit


def read_csv(path: Path) -> tuple[Any, list[str], bool]:
    """Reads a CSV of UTF-8 text.

    Returns:
        A `pyarrow.Table` of text cells; the cells of its first line; whether they are names, and so not in the table.

    Raises:
        OSError: the file cannot be read.
        ValueError: a row has more or fewer cells than the first line (its line is named), or the file is no CSV.
        ImportError: there is no pyarrow.
    """
    pa = pyarrow()
    from pyarrow import csv as pa_csv

    # With names of our own, the header is read as the first row: quotes, blank lines and all.
    names = [f"f{i}" for i in range(_width(path))]

    def read(**parse: Any) -> Any:
        return pa_csv.read_csv(
            path,
            pa_csv.ReadOptions(column_names=names, use_threads=not parse, block_size=_BLOCK),
            pa_csv.ParseOptions(newlines_in_values=True, **parse),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )

    try:
        data = read()
    except pa.ArrowInvalid as error:
        ragged: list[Any] = []
        if "Expected" in str(error):  # once more, without threads: only so does a row know its number
            read(invalid_row_handler=lambda row: "skip" if ragged else (ragged.append(row), "skip")[1])
        if ragged:
            row = ragged[0]
            raise ValueError(
                f"{path}: line {row.number} has {row.actual_columns} cells, the first line has {len(names)} "
                "(blank lines are not counted)"
            ) from None
        raise ValueError(f"{path} is no readable CSV in UTF-8: {one_line(error)}") from None
    first = [column[0].as_py().strip() for column in data.columns]
    has_header = not all(_is_number(cell) for cell in first)
    return data.slice(1 if has_header else 0), first, has_header


def _width(path: Path) -> int:
    """The number of cells in the first row that is not blank."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            width = next((len(row) for row in csv.reader(file) if row), 0)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no readable CSV in UTF-8: {one_line(error)}") from None
    if width == 0:
        raise ValueError(f"{path} is empty")
    return width


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
                if cell.lower() not in _TRUTH and not _is_number(cell):
                    return values, row
                values[row] = _TRUTH[cell.lower()] if cell.lower() in _TRUTH else float(cell)
        return values, None


def _is_number(cell: str) -> bool:
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


def write_csv(text: Any, file: Any) -> None:
    """Writes a `pyarrow.Table` of text cells to an open text file; missing cells are left empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(text.column_names)
    for batch in text.to_batches(max_chunksize=65_536):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def line(cells: list[str]) -> str:
    """One line of a CSV, without its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def typed(data: Any) -> Any:
    """Gives the text columns of a CSV's `pyarrow.Table` the types that pyarrow reads off their cells."""
    pa = pyarrow()
    from pyarrow import csv as pa_csv

    text = [n for n, kind in zip(data.column_names, data.schema.types, strict=True) if pa.types.is_string(kind)]
    buffer = io.StringIO(newline="")
    write_csv(data.select(text), buffer)
    read = pa_csv.read_csv(
        io.BytesIO(buffer.getvalue().encode()), parse_options=pa_csv.ParseOptions(newlines_in_values=True)
    )
    columns = dict(zip(text, read.columns, strict=True))
    return pa.table([columns.get(n, data.column(n)) for n in data.column_names], names=data.column_names)


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
