"""Writing tables piece by piece: whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from .arrow_types import common_type
from .atomic import atomic, writing
from .cells import MISSING, pyarrow
from .frames import Column, Frame, read
from .names import csv_line, quoted

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".arrow", ".feather", ".npy", ".jsonl", ".ndjson")  # that are written
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_UNTYPED = (".npy", *_DELIMITERS)  # whose columns need no types
_WIDENED = 65_536  # rows at a time


class Batches(Protocol):
    """What gives its rows piece by piece, such as `TableFile`."""

    def batches(self, rows: int = ...) -> Iterator[Frame]:
        """One pass over the rows."""
        ...


class TableWriter:
    """Writes a table piece by piece into a temporary file, which takes the place of `path` at the end.

    The format follows the ending: .csv, .tsv, .parquet, .pq, .arrow, .feather, .jsonl, .ndjson or .npy (numbers alone).
    On any error, that of a full disk included, nothing is left behind and an old file stays as it was.

    Args:
        path: of the file.
        like: the frame or file whose pieces are written, where that is text: Parquet, Arrow and JSON need a type for
            each column, which is read off all its cells first (one pass over the file). Without it, the first piece
            tells.

    Raises:
        OSError: the file cannot be written.
        ValueError: an unknown ending, a piece with other columns than the first, or a column that the format cannot
            hold.
        ImportError: all but .npy need pyarrow.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> with TableWriter(path) as writer:
        ...     writer.write({"a": [1.5]})
        ...     writer.write({"a": [2.5]})
        >>> path.read_text()
        'a\\n1.5\\n2.5\\n'
    """

    def __init__(self, path: str | PathLike[str], like: Frame | Batches | None = None) -> None:
        self.path = Path(path)
        self.rows = 0
        self._suffix = check_writable(path)
        self._like = like
        self._names: list[str] = []
        self._types: dict[str, Any] = {}
        self._format: _Format | None = None

    def __enter__(self) -> TableWriter:
        self._opened = self._open()
        self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._opened.__exit__(kind, error, trace)

    def write(self, piece: Any) -> None:
        """Adds rows: a `Frame`, or what `read` of `frames` takes.

        Raises:
            OSError: the disk is full.
            ValueError: its columns are not those of the first piece, or the format cannot hold one.
        """
        frame = read(piece)
        if self._format is None:
            self._names = frame.names
            if self._suffix not in _UNTYPED:
                self._types = {n: self._types.get(n, kind) for n, kind in _wider({}, frame).items()}
            self._format = self._begin(frame)
        elif frame.names != self._names:
            raise ValueError(f"{self.path} has the columns {quoted(self._names)}; a piece has {quoted(frame.names)}")
        self._format.write(frame)
        self.rows += len(frame)

    @contextmanager
    def _open(self) -> Iterator[None]:
        if self._suffix not in _UNTYPED and self._like is not None:
            for piece in [self._like] if isinstance(self._like, Frame) else self._like.batches():
                self._types = _wider(self._types, piece)
                if all(column.dtype != "text" for column in piece.columns):
                    break  # the others have the same types
        with writing(self.path), atomic(self.path) as part, open(part, "w+b") as file:
            self._file = file
            try:
                yield
                if self._format is None:
                    raise ValueError(f"nothing was written to {self.path}")
                self._format.finish()
            except BaseException:
                with suppress(Exception):  # a writer that is dropped open complains later
                    if self._format is not None:
                        self._format.finish()
                raise

    def _begin(self, frame: Frame) -> _Format:
        if self._suffix == ".npy":
            return _Npy(self._file)
        if self._suffix in _DELIMITERS:
            return _Csv(self._file, frame.names, _DELIMITERS[self._suffix])
        if self._suffix in (".jsonl", ".ndjson"):
            return _JsonLines(self._file, self._types)
        return (_Parquet if self._suffix in (".parquet", ".pq") else _Ipc)(self._file, self._types)


def write_table(table: Any, path: str | PathLike[str]) -> None:
    """Writes a table at once: a frame, or what `read` of `frames` takes; see `TableWriter`.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: an unknown ending, or a column that the format cannot hold (.npy takes numbers alone).
        ImportError: all but .npy need pyarrow.
    """
    frame = read(table)
    with TableWriter(path, like=frame) as writer:
        writer.write(frame)


def check_writable(path: str | PathLike[str]) -> str:
    """The ending of a table to write, in lower case.

    Raises:
        ValueError: it is none of `SUFFIXES`.
        ImportError: the format needs pyarrow.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot write {path}: expected a file ending in {', '.join(SUFFIXES)}")
    if suffix != ".npy":
        pyarrow()
    return suffix


class _Format(ABC):
    """One format: pieces, then an end."""

    @abstractmethod
    def write(self, frame: Frame) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Writes what comes last; called once more after an error."""


class _Csv(_Format):
    def __init__(self, file: BinaryIO, names: Sequence[str], delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter
        self._warned: set[str] = set()
        file.write((csv_line(names, delimiter) + "\n").encode())

    def _warn_of_missing(self, column: Column, texts: Any) -> None:
        """Warns of texts that are read as missing cells, once of each column."""
        if column.holds != "texts" or column.dtype == "text" or column.name in self._warned:  # "text" is that of a file
            return
        pc = pyarrow().compute
        lost = pc.filter(texts, pc.is_in(pc.utf8_lower(texts), value_set=pyarrow().array(MISSING))).drop_null()
        if len(lost):
            self._warned.add(column.name)
            warnings.warn(
                f"column {column.name!r} has the text {lost[0].as_py()!r}, which is read as a missing cell from such a "
                "file; write .parquet to keep it",
                stacklevel=2,
            )

    def write(self, frame: Frame) -> None:
        columns = [_as_text(column) for column in frame.columns]
        for column, texts in zip(frame.columns, columns, strict=True):
            self._warn_of_missing(column, texts)
        _write_rows(pyarrow().table(columns, names=frame.names), self._file, self._delimiter)

    def finish(self) -> None:
        pass


class _JsonLines(_Format):
    def __init__(self, file: BinaryIO, types: dict[str, Any]) -> None:
        self._file, self._types = file, types

    def write(self, frame: Frame) -> None:
        for row in _typed(frame, self._types).to_pylist():
            row = {name: _finite(value) for name, value in row.items()}
            self._file.write(f"{json.dumps(row, default=_as_json, ensure_ascii=False)}\n".encode())

    def finish(self) -> None:
        pass


class _Parquet(_Format):
    def __init__(self, file: BinaryIO, types: dict[str, Any]) -> None:
        import pyarrow.parquet as pq

        self._types = types
        self._writer = pq.ParquetWriter(file, pyarrow().schema(list(types.items())))

    def write(self, frame: Frame) -> None:
        self._writer.write_table(_typed(frame, self._types))

    def finish(self) -> None:
        self._writer.close()


class _Ipc(_Format):
    def __init__(self, file: BinaryIO, types: dict[str, Any]) -> None:
        pa = pyarrow()
        # A file of pieces has one dictionary a column, and that is not known before the last piece: plain values.
        self._types = {n: t.value_type if pa.types.is_dictionary(t) else t for n, t in types.items()}
        self._writer = pa.ipc.new_file(file, pa.schema(list(self._types.items())))

    def write(self, frame: Frame) -> None:
        self._writer.write_table(_typed(frame, self._types))

    def finish(self) -> None:
        self._writer.close()


class _Npy(_Format):
    """The number of rows in the header is filled in at the end: numpy leaves room for it to grow.

    All rows have the dtype that holds every piece: those before are written again where a later one needs a wider one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._rows, self._has_header, self._like = file, 0, False, np.empty((0, 0))

    def write(self, frame: Frame) -> None:
        values: NDArray[Any] = frame.to("numpy")
        if not self._has_header:
            self._like, self._has_header = values[:0], True
            self._header()
        dtype = np.promote_types(self._like.dtype, values.dtype)
        if dtype != self._like.dtype:
            self._widen(dtype)
        self._file.write(np.ascontiguousarray(values, dtype=self._like.dtype).data)
        self._rows += len(values)

    def finish(self) -> None:
        self._file.seek(0)
        self._header()

    def _widen(self, dtype: np.dtype[Any]) -> None:
        """Writes all rows again, the last first, whose new places lie beyond what is yet to be read."""
        before, width = self._like.dtype, self._like.shape[1]
        begin = self._file.tell() - self._rows * width * before.itemsize
        for stop in range(self._rows, 0, -_WIDENED):
            start = max(stop - _WIDENED, 0)
            self._file.seek(begin + start * width * before.itemsize)
            part = np.frombuffer(self._file.read((stop - start) * width * before.itemsize), before)
            self._file.seek(begin + start * width * dtype.itemsize)
            self._file.write(part.astype(dtype).data)
        self._file.seek(begin + self._rows * width * dtype.itemsize)
        self._like = self._like.astype(dtype)

    def _header(self) -> None:
        facts = np.lib.format.header_data_from_array_1_0(self._like) | {"shape": (self._rows, self._like.shape[1])}
        np.lib.format.write_array_header_1_0(self._file, facts | {"fortran_order": False})


def _finite(value: Any) -> Any:
    """A value as JSON has it, which knows no NaN and no infinity: as null, and as a text that is read as the number."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _as_json(value: Any) -> Any:
    """What JSON has no kind for: decimals as numbers, all else as text."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _wider(types: dict[str, Any], frame: Frame) -> dict[str, Any]:
    """Arrow types that hold the columns of a frame as well."""
    return {c.name: common_type(types.get(c.name, c.plain_type), c.plain_type) for c in frame.columns}


def _typed(frame: Frame, types: dict[str, Any]) -> Any:
    """The rows as a pyarrow Table of some types; cells of a text file have theirs."""
    arrays = [column.as_type(types[column.name]) for column in frame.columns]
    return pyarrow().table(arrays, schema=pyarrow().schema(list(types.items())))


def _as_text(column: Column) -> Any:
    """Cells as text, numbers in the shortest form that reads back the same."""
    pa = pyarrow()
    try:
        return pa.compute.cast(column.to_arrow(), pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ValueError(f"column {column.name!r} ({column.dtype}) cannot be written as CSV; write .parquet") from None


def _write_rows(text: Any, file: BinaryIO, delimiter: str) -> None:
    """Writes the rows of a pyarrow Table of text; missing cells are left empty."""
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
