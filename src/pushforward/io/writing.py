"""Writing tables piece by piece: whole or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from . import _csv
from ._file import TableFile
from .atomic import atomic
from .table import Table, quoted

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".arrow", ".feather", ".npy")  # that are written


class TableWriter:
    """Writes a table piece by piece into a temporary file, which takes the place of `path` at the end.

    The format follows the ending: .csv, .tsv, .parquet, .pq, .arrow, .feather or .npy (numbers alone). On any error,
    that of a full disk included, nothing is left behind and an old file stays as it was.

    Args:
        path: of the file.
        like: the table or file whose pieces are written, where that is text: Parquet and Arrow need a type for each
            column, which is read off all its cells first (one pass over the file). Without it, the first piece tells.

    Raises:
        OSError: the file cannot be written.
        ValueError: an unknown ending, a piece with other columns than the first, or a column that the format cannot
            hold.
        ImportError: all but .npy need pyarrow.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> with TableWriter(path) as writer:
        ...     writer.write(Table(np.array([[1.5]]), ("a",)))
        ...     writer.write(Table(np.array([[2.5]]), ("a",)))
        >>> path.read_text()
        'a\\n1.5\\n2.5\\n'
    """

    def __init__(self, path: str | PathLike[str], like: Table | TableFile | None = None) -> None:
        self.path = Path(path)
        self.rows = 0
        self._suffix = check_writable(path)
        self._like = like
        self._names: tuple[str, ...] = ()
        self._types: dict[str, Any] = {}
        self._form: _Form | None = None

    def __enter__(self) -> TableWriter:
        self._opened = self._open()
        self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._opened.__exit__(kind, error, trace)

    def write(self, piece: Any) -> None:
        """Adds rows: a `Table`, or a `pyarrow` Table or RecordBatch."""
        table = piece if isinstance(piece, Table) else _as_table(piece)
        if self._form is None:
            self._names = table.names
            self._form = self._begin(table)
        elif table.names != self._names:
            raise ValueError(f"{self.path} has the columns {quoted(self._names)}; a piece has {quoted(table.names)}")
        if self._suffix == ".npy":
            self._form.write(_numbers(table))
        elif self._suffix in _DELIMITERS:
            self._form.write(_csv.as_text(_arrow(table)))
        else:
            self._form.write(self._typed(table))
        self.rows += len(table)

    @contextmanager
    def _open(self) -> Iterator[None]:
        if self._suffix not in (".npy", *_DELIMITERS) and self._like is not None and self._like.text:
            pieces = [self._like] if isinstance(self._like, Table) else self._like.batches(2**20)
            self._types = _csv.types_of(piece.data for piece in pieces)
        with _named(self.path), atomic(self.path) as part, open(part, "wb") as file:
            self._file = file
            try:
                yield
                if self._form is None:
                    raise ValueError(f"nothing was written to {self.path}")
                self._form.finish()
            except BaseException:
                with suppress(Exception):  # a writer that is dropped open complains later
                    if self._form is not None:
                        self._form.finish()
                raise

    def _begin(self, table: Table) -> _Form:
        if self._suffix == ".npy":
            return _Npy(self._file)
        if self._suffix in _DELIMITERS:
            return _Text(self._file, table.names, _DELIMITERS[self._suffix])
        if table.text and not self._types:
            self._types = _csv.types_of([table.data])
        form = _Parquet if self._suffix in (".parquet", ".pq") else _Ipc
        return form(self._file, self._typed(table).schema)

    def _typed(self, table: Table) -> Any:
        data = _arrow(table)
        return _csv.typed(data, self._types) if table.text else data


def write_table(table: Table, path: str | PathLike[str]) -> None:
    """Writes a table at once; see `TableWriter`.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
        ValueError: an unknown ending, or a column that the format cannot hold (.npy takes numbers alone).
        ImportError: all but .npy need pyarrow.
    """
    with TableWriter(path, like=table) as writer:
        writer.write(table)


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
        _csv.pyarrow()
    return suffix


class _Form(ABC):
    """One format: pieces of what it takes, then an end."""

    @abstractmethod
    def write(self, piece: Any) -> None: ...

    @abstractmethod
    def finish(self) -> None:
        """Writes what comes last; called once more after an error."""


class _Text(_Form):
    def __init__(self, file: BinaryIO, names: tuple[str, ...], delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter
        file.write((_csv.line(list(names), delimiter) + "\n").encode())

    def write(self, piece: Any) -> None:
        _csv.write_rows(piece, self._file, self._delimiter)

    def finish(self) -> None:
        pass


class _Parquet(_Form):
    def __init__(self, file: BinaryIO, schema: Any) -> None:
        import pyarrow.parquet as pq

        self._schema, self._writer = schema, pq.ParquetWriter(file, schema)

    def write(self, piece: Any) -> None:
        self._writer.write_table(piece.cast(self._schema))

    def finish(self) -> None:
        self._writer.close()


class _Ipc(_Form):
    def __init__(self, file: BinaryIO, schema: Any) -> None:
        pa = _csv.pyarrow()
        # A file of pieces has one dictionary a column, and that is not known before the last piece: plain values.
        plain = [
            f.with_type(f.type.value_type).remove_metadata() if pa.types.is_dictionary(f.type) else f for f in schema
        ]
        self._schema = pa.schema(plain)
        self._writer = pa.ipc.new_file(file, self._schema)

    def write(self, piece: Any) -> None:
        self._writer.write_table(piece.cast(self._schema))

    def finish(self) -> None:
        self._writer.close()


class _Npy(_Form):
    """The number of rows in the header is filled in at the end: numpy leaves room for it to grow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._rows, self._like = file, 0, np.empty((0, 0))

    def write(self, piece: Any) -> None:
        if not self._rows:
            self._like = piece[:0]
            self._header()
        self._file.write(np.ascontiguousarray(piece, dtype=self._like.dtype).data)
        self._rows += len(piece)

    def finish(self) -> None:
        self._file.seek(0)
        self._header()

    def _header(self) -> None:
        facts = np.lib.format.header_data_from_array_1_0(self._like) | {"shape": (self._rows, self._like.shape[1])}
        np.lib.format.write_array_header_1_0(self._file, facts | {"fortran_order": False})


_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file in errors that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def _as_table(piece: Any) -> Table:
    pa = _csv.pyarrow()
    data = pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece
    return Table(data, tuple(data.column_names))


def _arrow(table: Table) -> Any:
    if isinstance(table.data, np.ndarray):
        columns = [np.ascontiguousarray(column) for column in table.data.T]
        return _csv.pyarrow().table(columns, names=list(table.names))
    return table.data


def _numbers(table: Table) -> Any:
    return table.data if isinstance(table.data, np.ndarray) else table.matrix(table.names, finite=False)
