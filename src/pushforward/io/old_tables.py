"""Tables in files: opened and read piece by piece, or whole, and written."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from . import _csv
from ._arrowfiles import PARQUET, ArrowFile, ParquetFiles
from ._csvfile import CsvFile
from ._file import BATCH_ROWS as BATCH_ROWS
from ._file import Skipped as Skipped
from ._file import TableFile as TableFile
from ._file import joined as joined
from ._npyfile import NpyFile, NpzFile
from .table import Table as Table
from .writing import SUFFIXES as SUFFIXES
from .writing import TableWriter as TableWriter
from .writing import check_writable
from .writing import write_table as write_table

_TEXT = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
_ARROW = (".arrow", ".feather", ".ipc", ".arrows")
READ = (*_TEXT, *PARQUET, *_ARROW, ".npy", ".npz")


def open_table(
    path: str | PathLike[str],
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    skip_bad_rows: bool = False,
) -> TableFile:
    """Opens a table for reading piece by piece; its format is told by the end of its name.

    - Text (.csv, .tsv, .tab, .txt, .dat, .data, and these with .gz, .bz2 or .zst), UTF-8. Commas, semicolons, tabs,
      bars or runs of blanks between cells and a decimal comma are detected; lines that start with # before the first
      row are comments. The first row names the columns, unless each of its cells is a number, or one is and another
      comes again below; they are then x0, x1, ...
    - Parquet (.parquet, .pq), or a folder of such files, with folders named like year=2024 as columns.
    - Arrow IPC (.arrow, .feather, .ipc, .arrows).
    - .npy, and .npz with one array or one called X, x or data: numbers (rows, columns), or (rows,) as one column.
      Object arrays are refused: they can run code.

    Args:
        path: of the file or folder.
        delimiter: between the cells of text: one character, or "whitespace" for runs of it; None detects it.
        header: whether the first row of text names the columns; None detects it.
        skip_bad_rows: leave out, and count, rows of text with more or fewer cells than the first.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no rows, duplicate column names, an unknown ending, is damaged, or is a folder without
            Parquet files or with files of differing columns.
        ImportError: all but .npy and .npz need pyarrow.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.csv")
        >>> _ = path.write_text("a;b\\n1,5;x\\n2,5;y\\n")
        >>> [batch.matrix(["a"]).tolist() for batch in open_table(path).batches(rows=1)]
        [[[1.5]], [[2.5]]]
    """
    path = Path(path)
    suffix = _suffix(path)
    is_text = suffix in _TEXT
    if not is_text and (delimiter is not None or header is not None):
        raise ValueError(f"{path} is no text: it takes neither a delimiter nor a header")
    if path.is_dir():
        if is_text or suffix in (*_ARROW, ".npy", ".npz"):
            raise IsADirectoryError(f"{path} is a folder, expected a file; only Parquet files are read from folders")
        return ParquetFiles(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    if is_text:
        return CsvFile(path, delimiter, header, skip_bad_rows)
    if suffix in PARQUET:
        return ParquetFiles(path)
    if suffix in _ARROW:
        return ArrowFile(path)
    return NpyFile(path) if suffix == ".npy" else NpzFile(path)


def read_table(path: str | PathLike[str]) -> Table:
    """Reads a whole table into memory: `open_table(path).read()`.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `open_table`, or a row has more or fewer cells than the first (its line is named).
        ImportError: all but .npy and .npz need pyarrow.
    """
    return open_table(path).read()


def check_suffix(path: str | PathLike[str], verb: str) -> str:
    """The ending of a table to "read" or "write", in lower case.

    Raises:
        ValueError: it is none that can be.
        ImportError: the format needs pyarrow.
    """
    return check_writable(path) if verb == "write" else _suffix(Path(path))


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in _csv.PACKED and Path(path.stem).suffix.lower() in _TEXT:
        suffix = Path(path.stem).suffix.lower()
    if suffix not in READ and not path.is_dir():
        path.stat()
        raise ValueError(
            f"cannot read {path}: expected a folder of Parquet files or a file ending in {', '.join(READ)}"
        )
    if suffix not in (".npy", ".npz"):
        _csv.pyarrow()
    return suffix
