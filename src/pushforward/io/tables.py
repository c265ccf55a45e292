"""Tables in files: opened and read piece by piece, or whole, each piece a frame; and queries."""

from __future__ import annotations

import copy
import glob
import itertools
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import text
from .arrays import NpyFile, NpzFile
from .arrowfiles import PARQUET, ArrowFile, ParquetFiles, parquet_files
from .cells import pyarrow
from .database import is_query, read_database, read_json, read_query, read_workbook
from .frames import Frame, FrameSource, is_named, of_array, of_arrow, read
from .names import check_unique, columns_text, quoted, without_index
from .reader import Reader, Skipped
from .writer import SUFFIXES as SUFFIXES
from .writer import TableWriter as TableWriter
from .writer import check_writable
from .writer import write_table as write_table

BATCH_ROWS = 65_536
Keep: TypeAlias = Callable[[NDArray[np.int64], Frame], NDArray[np.bool_]]
_ARROW = (".arrow", ".feather", ".ipc", ".arrows")
_JSON = (".jsonl", ".ndjson", ".json")
_DATABASES = (".duckdb", ".db", ".sqlite", ".sqlite3")
_BOOKS = (".xlsx", ".xls", ".xlsb", ".ods")
READ = (*text.SUFFIXES, *PARQUET, *_ARROW, ".npy", ".npz", *_JSON, *_DATABASES, *_BOOKS)


class TableFile(FrameSource):
    """A table in a file, a folder or a query; `open_table` makes one. Each reading is a new pass from the start.

    The types of a text file's columns are those of its first reading (`read`, `sample` or `split`): batches have them,
    too.

    Attributes:
        path: of the file or folder, or the query.
        names: the D column names.
        named: False where the file has no names; they are then x0, x1, ...
        text: whether its cells are text, which are written back as they were.
        packed: whether it is a compressed text.
        skipped: the bad rows that the latest pass left out so far, where that was asked for.
    """

    def __init__(self, reader: Reader, path: str, columns: Sequence[str] | None = None) -> None:
        check_unique(reader.names, path)
        if not reader.names:
            raise ValueError(f"{path} has no columns")
        absent = [name for name in columns or () if name not in reader.names]
        if absent:
            raise ValueError(f"{path} has no {columns_text(absent)}; it has {quoted(reader.names)}")
        self.path, self.named, self.text, self.packed = path, reader.named, reader.text, reader.packed
        self.names = reader.names if columns is None else tuple(columns)
        self.skipped = Skipped()
        self._reader = reader
        self._types: Frame | None = None
        self._keep: tuple[Keep, ...] = ()
        self._without = np.empty(0, np.int64)  # numbers of rows that are left out

    def __repr__(self) -> str:
        return f"TableFile({self.path!r}, columns={list(self.names)})"

    @property
    def rows(self) -> int | None:
        """The number of rows before `where` leaves any out, None where only reading them all would tell."""
        return None if self._reader.rows is None else self._reader.rows - len(self._without)

    @property
    def default_columns(self) -> list[str]:
        """All columns but the row index that pandas leaves in Parquet files."""
        return without_index(self.names)

    def batches(self, rows: int = BATCH_ROWS, *, order: np.random.Generator | None = None) -> Iterator[Frame]:
        """One pass over the file: frames of at most `rows` rows. Memory stays flat.

        Args:
            rows: of a batch, at most.
            order: shuffles the row groups of Parquet (and of what is read by DuckDB) and the slices of arrays; rows
                within stay together. Other formats, and None, keep the order of the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, has a ragged row (its line is named), or no rows at all.
        """
        for _, data in self._numbered(rows, order):
            yield self._frame(data)

    def read(self) -> Frame:
        """The whole table, in memory.

        Raises:
            OSError: the file cannot be read.
            ValueError: as `batches`.
        """
        return self._first(_joined([data for _, data in self._numbered(2**20)]))

    def sample(self, n: int, seed: int = 0) -> Frame:
        """A uniform random sample of n rows without replacement, in the order of the file; all rows where it has less.

        One pass over the file; memory holds some multiple of n rows. The same for a seed whatever else is read.

        Raises:
            OSError: the file cannot be read.
            ValueError: n is below 1, or as `batches`.
        """
        return self._sample(n, seed)[0]

    def split(self, n: int, seed: int = 0) -> tuple[Frame, TableFile]:
        """-> a uniform random sample of n rows; the file without them.

        Raises:
            OSError: the file cannot be read.
            ValueError: as `sample`.
        """
        sample, chosen = self._sample(n, seed)
        return sample, self._changed(_without=np.sort(np.concatenate([self._without, chosen])))

    def where(self, keep: Keep) -> TableFile:
        """The file without some of its rows.

        Args:
            keep: numbers of rows in the file (n,), counted from 0, and these rows -> which of them are kept (n,). It
                may count the others in `skipped`, which both files share.
        """
        return self._changed(_keep=(*self._keep, keep))

    def _changed(self, **attributes: Any) -> TableFile:
        file = copy.copy(self)
        for name, value in attributes.items():
            setattr(file, name, value)
        return file

    def _first(self, data: Any) -> Frame:
        """Rows as a frame that tells the types of the file."""
        self._types = None
        frame = self._frame(data)
        self._types = frame[:0] if self.text else None
        return frame

    def _frame(self, data: Any) -> Frame:
        if isinstance(data, np.ndarray):
            return of_array(data, self.names, self.path)
        return of_arrow(data, text=self.text, named=self.named, source=self.path, kind="file", like=self._types)

    def _numbered(self, rows: int, order: np.random.Generator | None = None) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """One pass: numbers of rows in the file, and these rows as an Arrow table or an array."""
        if rows < 1:
            raise ValueError(f"a batch needs at least 1 row, got {rows}")
        self.skipped.clear()
        some = False
        for first, piece in self._reader.pieces(rows, order, self.names, self.skipped):
            for start in range(0, len(piece), rows):
                data = self._chosen(piece[start : start + rows])
                numbers = np.arange(first + start, first + start + len(data))
                numbers, data = self._kept(numbers, data)
                if len(numbers):
                    some = True
                    yield numbers, data
        if not some:
            raise ValueError(f"{self.path} has no rows{', only a header' if self.text and self.named else ''}")

    def _chosen(self, data: Any) -> Any:
        """The columns that are wanted, of all or fewer."""
        if self.names == self._reader.names:
            return data
        if isinstance(data, np.ndarray):
            return data[:, [self._reader.names.index(name) for name in self.names]]
        return data.select(list(self.names))

    def _kept(self, numbers: NDArray[np.int64], data: Any) -> tuple[NDArray[np.int64], Any]:
        """Rows and their numbers without those that are left out."""
        if len(self._without):
            at = np.searchsorted(self._without, numbers).clip(max=len(self._without) - 1)
            good = np.flatnonzero(self._without[at] != numbers)
            if len(good) < len(numbers):
                numbers, data = numbers[good], _taken(data, good)
        for keep in self._keep:
            if len(numbers) and not (mask := keep(numbers, self._frame(data))).all():
                numbers, data = numbers[mask], _taken(data, np.flatnonzero(mask))
        return numbers, data

    def _sample(self, n: int, seed: int) -> tuple[Frame, NDArray[np.int64]]:
        """-> the rows of a sample, and their numbers in the file."""
        if n < 1:
            raise ValueError(f"a sample needs at least 1 row, got {n}")
        generator = np.random.default_rng(seed)
        if not (self._keep or len(self._without)) and n < (self._reader.rows or 0) and self._reader.random_access:
            at = np.sort(generator.choice(self._reader.rows or 0, n, replace=False))
            return self._first(self._chosen(self._reader.take(at))), at
        kept: list[Any] = []
        keys, at = np.empty(0), np.empty(0, dtype=np.int64)
        for numbers, data in self._numbered(BATCH_ROWS):
            # The n rows with the smallest of random keys are a uniform sample.
            drawn = generator.random(len(numbers))
            new = np.flatnonzero(drawn < (np.inf if len(keys) < n else keys.max()))
            if len(new):
                kept.append(_taken(data, new))
                keys, at = np.concatenate([keys, drawn[new]]), np.concatenate([at, numbers[new]])
            if len(keys) > max(2 * n, n + BATCH_ROWS):
                kept, keys, at = _smallest(kept, keys, at, n)
        kept, _, at = _smallest(kept, keys, at, n)
        return self._first(kept[0]), at


def open_table(
    path: str | PathLike[str],
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    skip_bad_rows: bool = False,
    encoding: str | None = None,
    columns: Sequence[str] | None = None,
) -> TableFile:
    """Opens a table for reading piece by piece; its format is told by the end of its name.

    - Text (.csv, .tsv, .tab, .txt, .dat, .data, and these with .gz, .bz2 or .zst). Commas, semicolons, tabs, bars or
      runs of blanks between cells and a decimal comma are detected; lines that start with # before the first row are
      comments. The first row names the columns, unless each of its cells is a number, or one is and another comes
      again below; they are then x0, x1, ... UTF-8, or with a warning UTF-16 by its mark, else latin-1.
    - Parquet (.parquet, .pq), or a folder or pattern (trips/*.parquet) of such files, with folders named like
      year=2024 as columns.
    - Arrow IPC (.arrow, .feather, .ipc, .arrows).
    - .npy, and .npz with one array or one called X, x or data: numbers (rows, columns), or (rows,) as one column.
      Object arrays are refused: they can run code.
    - JSON lines (.jsonl, .ndjson, .json); the table of a DuckDB or SQLite file (.duckdb, .db, .sqlite, .sqlite3); the
      first sheet of an Excel or OpenDocument file (.xlsx, .xls, .xlsb, .ods).
    - A query of DuckDB: exactly one SELECT, such as SELECT a, b FROM 'trips/*.parquet' WHERE a > 0. It is evaluated
      once, into a temporary file.

    Args:
        path: of the file or folder, or a query.
        delimiter: between the cells of text: one character, or "whitespace" for runs of it; None detects it.
        header: whether the first row of text names the columns; None detects it.
        skip_bad_rows: leave out, and count, rows of text with more or fewer cells than the first.
        encoding: of text; None detects it.
        columns: those to read, in order; None reads all.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no rows, duplicate column names, an unknown ending, is damaged, or is a folder without
            Parquet files or with files of differing columns; a query is no single SELECT.
        ImportError: all but .npy and .npz need the extra "data".

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> _ = path.write_text("a;b\\n1,5;x\\n2,5;y\\n")
        >>> [batch.matrix(["a"]).tolist() for batch in open_table(path).batches(rows=1)]
        [[[1.5]], [[2.5]]]
    """
    source = str(path)
    is_text = not is_query(source) and _suffix(Path(path)) in text.SUFFIXES
    if not is_text and not (delimiter is header is encoding is None):
        raise ValueError(f"{source} is no text: it takes neither a delimiter nor a header nor an encoding")
    if is_query(source):
        return TableFile(read_query(source), source, columns)
    if is_text and Path(path).is_file():
        _check_filled(Path(path))
        return TableFile(text.TextFile(Path(path), delimiter, header, encoding, skip_bad_rows), source, columns)
    return TableFile(_reader(Path(path)), source, columns)


def _reader(path: Path) -> Reader:
    """The reader of a file, folder or pattern that is no text."""
    suffix = _suffix(path)
    if path.is_dir():
        if suffix in READ and suffix not in PARQUET:
            raise IsADirectoryError(f"{path} is a folder, expected a file; only Parquet files are read from folders")
        return ParquetFiles(parquet_files(path), path, str(path))
    if suffix in PARQUET and not path.exists() and (files := sorted(glob.glob(str(path), recursive=True))):
        folder = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        return ParquetFiles([Path(file) for file in files], folder, str(path))
    _check_filled(path)
    if suffix in PARQUET:
        return ParquetFiles([path], None, str(path))
    readers = {".npy": NpyFile, ".npz": NpzFile} | dict.fromkeys(_ARROW, ArrowFile) | dict.fromkeys(_JSON, read_json)
    readers |= dict.fromkeys(_DATABASES, read_database) | dict.fromkeys(_BOOKS, read_workbook)
    return readers[suffix](path)


def _check_filled(path: Path) -> None:
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")


def read_table(path: str | PathLike[str]) -> Frame:
    """Reads a whole table into memory: `open_table(path).read()`.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `open_table`, or a row has more or fewer cells than the first (its line is named).
        ImportError: as `open_table`.
    """
    return open_table(path).read()


def read_named(source: Any) -> Frame | None:
    """The rows of a file, or of what has columns with names; None for anything else, such as an array.

    Raises:
        OSError: a file cannot be read.
        ValueError: as `open_table` and `frames.read`.
    """
    if isinstance(source, (str, PathLike)):
        return read_table(source)
    return read(source) if isinstance(source, (Frame, FrameSource)) or is_named(source) else None


def check_suffix(path: str | PathLike[str], verb: str) -> str:
    """The ending of a table to "read" or "write", in lower case; "" of a query.

    Raises:
        ValueError: it is none that can be.
        ImportError: the format needs pyarrow.
    """
    if verb == "write":
        return check_writable(path)
    return "" if is_query(str(path)) else _suffix(Path(path))


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    unpacked = Path(path.stem).suffix.lower()
    if (suffix in text.PACKED and unpacked in text.SUFFIXES) or (suffix in (".gz", ".zst") and unpacked in _JSON):
        suffix = unpacked
    if suffix not in READ and not path.is_dir():
        path.stat()
        raise ValueError(
            f"cannot read {path}: expected a folder of Parquet files, a SELECT or a file ending in {', '.join(READ)}"
        )
    if suffix not in (".npy", ".npz"):
        pyarrow()
    return suffix


def _joined(pieces: list[Any]) -> Any:
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if isinstance(pieces[0], np.ndarray) else pyarrow().concat_tables(pieces)


def _taken(data: Any, rows: NDArray[np.intp]) -> Any:
    return data[rows] if isinstance(data, np.ndarray) else data.take(rows)


def _smallest(
    kept: list[Any], keys: NDArray[np.float64], at: NDArray[np.int64], n: int
) -> tuple[list[Any], NDArray[np.float64], NDArray[np.int64]]:
    """The n rows with the smallest keys, in order."""
    chosen = np.arange(len(keys)) if len(keys) <= n else np.sort(np.argpartition(keys, n - 1)[:n])
    return [_taken(_joined(kept), chosen)], keys[chosen], at[chosen]
