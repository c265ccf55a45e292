"""CSV and its kin by pyarrow, block by block. Cells stay text, so that they are written back as they were."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import _csv, _dialect
from ._file import TableFile
from .table import made_up

_BLOCK = 2**22  # bytes read at a time; a row must fit
_DECIMAL = (r"^(\s*[+-]?\d*),(\d+(?:[eE][+-]?\d+)?\s*)$", r"\1.\2")


class CsvFile(TableFile):
    """A file of text with one row a line; cells of a file with decimal commas get decimal points."""

    text = True

    def __init__(self, path: Path, delimiter: str | None, header: bool | None, skip_bad_rows: bool) -> None:
        self._dialect = _dialect.detect(path, delimiter, header)
        self._skip = skip_bad_rows
        self.packed = path.suffix.lower() in _csv.PACKED
        names = self._dialect.names
        super().__init__(path, made_up(self._dialect.width) if names is None else names, names is not None)

    def _pieces(self, rows: int, order: Any) -> Iterator[tuple[int, Any]]:
        pa = _csv.pyarrow()
        from pyarrow import csv as pa_csv

        dialect = self._dialect
        # With names of our own, a header is read as the first row: quotes, blank lines and all.
        names = [f"f{i}" for i in range(dialect.width)]
        bad: list[str] = []

        def on_bad(row: Any) -> str:
            bad.append(f"line {row.number} has {row.actual_columns} cell{'' if row.actual_columns == 1 else 's'}")
            if self._skip:
                self.skipped.add(bad[-1])
            return "skip" if self._skip else "error"

        try:
            with pa.input_stream(str(self.path)) as raw:
                reader = pa_csv.open_csv(
                    _Collapsed(raw) if dialect.delimiter == " " else raw,
                    # Threads would not gain anything here, and rows would not know their lines.
                    pa_csv.ReadOptions(
                        column_names=names, use_threads=False, block_size=_BLOCK, skip_rows=dialect.skip
                    ),
                    pa_csv.ParseOptions(
                        delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=on_bad
                    ),
                    pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
                )
                header, start = dialect.header_in_rows, 0
                for batch in reader:
                    data = pa.Table.from_batches([batch]).rename_columns(list(self.names))
                    if header and len(data):
                        data, header = data.slice(1), False
                    yield start, _with_points(data) if dialect.decimal_comma else data
                    start += len(data)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if bad and not self._skip:
                raise ValueError(
                    f"{self.path}: {bad[0]}, the first line has {dialect.width} (blank lines are not counted)"
                ) from None
            raise ValueError(f"{self.path} is no readable CSV in UTF-8: {_csv.one_line(error)}") from None

    def _no_rows(self) -> str:
        return f"{self.path} has no rows{', only a header' if self.named else ''}"


class _Collapsed(io.RawIOBase):
    """A stream of text with each run of blanks and tabs as one blank, and none at the ends of lines."""

    def __init__(self, source: Any) -> None:
        self._source, self._rest, self._ready = source, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._source.read(_BLOCK // 4)
            text, newline, self._rest = (self._rest + chunk).rpartition(b"\n") if chunk else (self._rest, b"", b"")
            if not chunk and not text:
                return 0
            self._ready = re.sub(rb"(?m)^ | (?=\r?$)", b"", re.sub(rb"[ \t]+", b" ", text + newline))
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _with_points(data: Any) -> Any:
    pa = _csv.pyarrow()
    columns = [pa.compute.replace_substring_regex(column, *_DECIMAL) for column in data.columns]
    return pa.table(columns, names=data.column_names)
