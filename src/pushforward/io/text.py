"""CSV and its kin: what separates their cells is detected, and cells stay text, to be written back as they were.

pyarrow splits the lines, block by block (twice as fast as DuckDB, and from streams). What no library does is here:
decimal commas, runs of blanks, a header in a comment, other encodings than UTF-8, and the line of a ragged row.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cells import is_number, pyarrow
from .reader import Reader, Skipped, made_up, one_line

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
PACKED = (".gz", ".bz2", ".zst")  # endings of compressed text, as pyarrow knows them
DELIMITERS = ("\t", ";", "|", ",", " ")  # in the order of trust where several fit; a blank stands for any run of them
_ALIASES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "whitespace": " "}
_HEAD = 2**20  # bytes that are looked at
_VALIDATED = 2**26  # bytes that must be UTF-8, or another encoding is taken
_LOOKED_AT = 2000  # rows, at most
_BLOCK = 2**22  # bytes read at a time; a row must fit
_FREE_TEXT = (".csv", ".tsv", ".tab")  # where blanks are rather part of a cell than between cells
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+|-)?")
_MILLIONS = re.compile(r"[+-]?\d{1,3}(,\d{3}){2,}")  # whose commas separate thousands
_GROUPED = r"^\s*[+-]?\d{1,3}(?:[.\s\x{a0}\x{202f}]\d{3})+,\d+-?\s*$"  # such as 1.234,5
_DECIMAL = (r"^(\s*[+-]?\d*),(\d+(?:[eE][+-]?\d+|-)?\s*)$", r"\1.\2")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f]")  # characters that no text has
_BINARY = {
    b"PAR1": "a Parquet file (.parquet)",
    b"ARROW1": "an Arrow file (.arrow)",
    b"PK\x03\x04": "a zip archive or a workbook",
    b"\x93NUMPY": "an array (.npy)",
    b"SQLite format 3": "a SQLite file (.sqlite)",
}  # how files begin that are no text
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How to read a text file.

    Attributes:
        delimiter: between cells; a blank stands for any run of blanks and tabs.
        names: of the columns, or None where the file has no header.
        width: cells of a row.
        skip: lines before the first row or the header: comments.
        header_in_rows: whether the first row that is read is the header.
        decimal_comma: whether numbers are written like 1,5.
    """

    delimiter: str
    names: tuple[str, ...] | None
    width: int
    skip: int
    header_in_rows: bool
    decimal_comma: bool


class TextFile(Reader):
    """A file of text with one row a line; cells of a file with decimal commas get decimal points.

    Args:
        path: of the file.
        delimiter: between cells: one character, or "whitespace"; None detects it.
        header: whether the first row names the columns; None detects it.
        encoding: of the text, as Python names it; None takes UTF-8, or what a byte order mark says, or where it is
            neither, latin-1 with a warning.
        skip_bad_rows: leave out rows with more or fewer cells than the first.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty, holds no rows, is no text, or the delimiter or the encoding is none.
    """

    text = True

    def __init__(
        self, path: Path, delimiter: str | None, header: bool | None, encoding: str | None, skip_bad_rows: bool
    ) -> None:
        self._path, self._skip = path, skip_bad_rows
        self.packed = path.suffix.lower() in PACKED
        self._encoding = _checked_encoding(encoding) if encoding else self._detected()
        head, complete = self._head()
        self._dialect = detect(head, complete, str(path), delimiter, header)
        names = self._dialect.names
        self.named = names is not None
        self.names = made_up(self._dialect.width) if names is None else names

    def pieces(
        self, rows: int, order: np.random.Generator | None, columns: Sequence[str], skipped: Skipped
    ) -> Iterator[tuple[int, Any]]:
        """Block by block, in the order of the file; all columns."""
        pa = pyarrow()
        dialect = self._dialect
        bad: list[str] = []

        def on_bad(row: Any) -> str:
            bad.append(f"line {row.number} has {row.actual_columns} cell{'' if row.actual_columns == 1 else 's'}")
            if self._skip:
                skipped.add(bad[-1])
            return "skip" if self._skip else "error"

        try:
            with self._opened() as stream:
                header, start, data = dialect.header_in_rows, 0, None
                for batch in self._parser(stream, on_bad):
                    data = pa.Table.from_batches([batch]).rename_columns(list(self.names))
                    if header and len(data):
                        data, header = data.slice(1), False
                    yield start, _with_points(data) if dialect.decimal_comma else data
                    start += len(data)
                self._check_closed(data, start)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            if bad and not self._skip:
                first = f"the first line has {dialect.width} (blank lines are not counted)"
                raise ValueError(f"{self._path}: {bad[0]}, {first}") from None
            raise self._unreadable(error) from None

    def _check_closed(self, last: Any, rows: int) -> None:
        """Refuses a file whose last cell holds lines of the table, as after a quote that is not closed.

        Raises:
            ValueError: it does; the row is named.
        """
        cell = str(last.column(last.num_columns - 1)[-1]) if last is not None and len(last) else ""
        lines = [line for line in cell.split("\n")[1:] if line.strip()]
        between = self._dialect.width - 1
        if between and lines and all(line.count(self._dialect.delimiter) == between for line in lines):
            what = "line after it is" if len(lines) == 1 else f"{len(lines):,} lines after it are"
            raise ValueError(
                f"{self._path}: row {rows:,}: a quote is not closed, and the {what} part of its cell: close it, or "
                "double it where it is part of a text"
            )

    def _parser(self, stream: Any, on_bad: Any) -> Iterator[Any]:
        """The rows of a stream as record batches of text."""
        from pyarrow import csv as pa_csv

        # With names of our own, a header is read as the first row: quotes, blank lines and all.
        names = [f"f{i}" for i in range(self._dialect.width)]
        # Threads would not gain anything here, and rows would not know their lines.
        reading = pa_csv.ReadOptions(
            column_names=names, use_threads=False, block_size=_BLOCK, skip_rows=self._dialect.skip
        )
        parsing = pa_csv.ParseOptions(
            delimiter=self._dialect.delimiter, newlines_in_values=True, invalid_row_handler=on_bad
        )
        types = dict.fromkeys(names, pyarrow().string())
        converting = pa_csv.ConvertOptions(column_types=types, strings_can_be_null=False)
        return iter(pa_csv.open_csv(stream, reading, parsing, converting))

    @contextmanager
    def _opened(self, decoded: bool = True) -> Iterator[Any]:
        """The file as a stream of bytes: unpacked and, if asked for, as UTF-8 with single blanks."""
        pa = pyarrow()
        with pa.input_stream(str(self._path)) as stream:
            if decoded and self._encoding != "utf-8":
                stream = pa.transcoding_input_stream(stream, self._encoding, "utf-8")
            if decoded and self._dialect.delimiter == " ":
                stream = _Collapsed(stream)
            yield stream

    def _detected(self) -> str:
        """The encoding of the file, with a warning where it is not UTF-8."""
        with self._damage(), self._opened(decoded=False) as stream:
            chunk = stream.read(_HEAD)
            for mark, what in _BINARY.items():
                if chunk.startswith(mark):
                    raise ValueError(f"{self._path} is no text but {what}: rename it")
            encoding = next((name for mark, name in _MARKS if chunk.startswith(mark)), None)
            read, decoder = 0, codecs.getincrementaldecoder("utf-8")()
            while encoding is None and chunk and read < _VALIDATED:
                read += len(chunk)
                following = stream.read(_HEAD)
                try:
                    decoder.decode(chunk, final=not following)
                except UnicodeDecodeError as error:
                    self._check_text(chunk, error)
                    encoding = "latin-1"
                chunk = following
        if encoding is not None:
            warnings.warn(
                f"{self._path} is read as {encoding}, since it is no UTF-8; give the encoding where that is wrong",
                stacklevel=5,
            )
        return encoding or "utf-8"

    def _check_text(self, raw: bytes, error: UnicodeError) -> None:
        if _CONTROL.search(raw.decode("latin-1")):
            raise self._unreadable(error)

    def _head(self) -> tuple[str, bool]:
        """-> the first MiB as text, whether that is all of it."""
        with self._damage(), self._opened(decoded=False) as stream:
            raw = stream.read(_HEAD)
            complete = len(raw) < _HEAD or not stream.read(1)
        try:
            encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
            text = codecs.getincrementaldecoder(encoding)().decode(raw, final=complete)
        except UnicodeError as error:
            raise self._unreadable(error) from None
        if control := _CONTROL.search(text):
            line, code = text.count("\n", 0, control.start()) + 1, ord(control[0])
            raise self._unreadable(ValueError(f"it holds control characters, the first in line {line} (U+{code:04X})"))
        return text.replace("\r\n", "\n"), complete

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Says of errors in reading that the file is damaged."""
        try:
            yield
        except (pyarrow().ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{self._path} is damaged: {one_line(error)}") from None

    def _unreadable(self, error: BaseException) -> ValueError:
        return ValueError(f"{self._path} is no readable CSV in {self._encoding.upper()}: {one_line(error)}")

    _encoding = "utf-8"


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


def detect(text: str, complete: bool, source: str, delimiter: str | None = None, header: bool | None = None) -> Dialect:
    """Tells a dialect by the beginning of a file.

    Args:
        text: the beginning.
        complete: whether that is all of it; else its last line may be cut.
        source: the file, for messages and for its ending.
        delimiter: where it is known: one character, or "whitespace".
        header: whether the first line names the columns, where it is known.

    Raises:
        ValueError: there are no rows, or the delimiter is none.

    Example:
        >>> detect("a;b\\n1,5;2\\n", True, "rows.csv")
        Dialect(delimiter=';', names=('a', 'b'), width=2, skip=0, header_in_rows=True, decimal_comma=True)
    """
    lines = text.split("\n")
    comments = list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines))
    while comments and not comments[-1].startswith("#"):
        comments.pop()
    body = "\n".join(lines[len(comments) :])
    suffixes = [suffix.lower() for suffix in Path(source).suffixes if suffix.lower() not in PACKED]
    try:
        chosen = _delimiter(body, complete, suffixes[-1:]) if delimiter is None else _checked(delimiter)
        rows = _rows(body, chosen, complete)
        comment = [] if not comments else _rows(comments[-1].removeprefix("#").lstrip(" "), chosen, True)
    except csv.Error as error:
        raise ValueError(f"{source} is no readable CSV: {one_line(error)}") from None
    if not rows:
        raise ValueError(f"{source} is empty" if not comments else f"{source} has no rows, only comments")
    comma = chosen != "," and _decimal_comma(rows)
    # A first line like "#,name" or "# x y" is a header where it is as wide as the rows.
    in_comment = comment and len(comment[0]) == len(rows[0])
    if in_comment and header is not False and not all(is_number(_point(c, comma)) for c in comment[0]):
        names = tuple(c.strip() or "#" for c in comment[0])
        return Dialect(chosen, names, len(rows[0]), len(comments), False, comma)
    named = _has_header(rows, comma) if header is None else header
    if named and complete and len(rows) == 1:
        raise ValueError(f"{source} has no rows, only a header")
    names = tuple(c.strip() for c in rows[0]) if named else None
    return Dialect(chosen, names, len(rows[0]), len(comments), named, comma)


def _rows(text: str, delimiter: str, complete: bool) -> list[list[str]]:
    """The first rows that are not blank; the last one, which may have been cut, is left out."""
    if delimiter == " ":
        text = re.sub(r"(?m)^ | $", "", re.sub(r"[ \t]+", " ", text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = list(itertools.islice((row for row in reader if row), _LOOKED_AT))
    return rows if complete or len(rows) in (1, _LOOKED_AT) else rows[:-1]


def _delimiter(text: str, complete: bool, suffix: list[str]) -> str:
    """What splits the most rows into as many cells as the first, more than one; a comma where nothing does."""
    best, chosen = 0.0, ","
    for candidate in DELIMITERS:
        rows = _rows(text, candidate, complete)
        if not rows or len(rows[0]) == 1:
            continue
        fits = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        if candidate == " " and suffix and suffix[0] in _FREE_TEXT:
            fits *= all(is_number(cell) for row in rows[1:] for cell in row)
        if fits > best and fits >= 0.5:
            best, chosen = fits, candidate
    return chosen


def _has_header(rows: list[list[str]], comma: bool) -> bool:
    """Whether the first row names the columns.

    Not if each of its cells is a number; nor if one is, and another that is none comes again below in its column.
    """
    first = [cell.strip() for cell in rows[0]]
    numbers = [is_number(_point(cell, comma)) for cell in first]
    if all(numbers) or not any(numbers):
        return not all(numbers)
    again = (
        cell == row[i].strip()
        for row in rows[1:]
        for i, cell in enumerate(first)
        if cell and not numbers[i] and len(row) == len(first) and row != rows[0]
    )
    return not any(again)


def _decimal_comma(rows: list[list[str]]) -> bool:
    """Whether some cells are numbers like 1,5, and none is one like 1.5 or 1,234,567."""
    cells = [cell.strip() for row in rows for cell in row]
    others = any(("." in cell and is_number(cell)) or _MILLIONS.fullmatch(cell) for cell in cells)
    return not others and any(map(_COMMA_NUMBER.fullmatch, cells))


def _point(cell: str, comma: bool) -> str:
    return cell.replace(",", ".") if comma else cell


def _with_points(data: Any) -> Any:
    pc = pyarrow().compute

    def with_points(cells: Any) -> Any:
        is_grouped = pc.match_substring_regex(cells, _GROUPED)
        cells = pc.if_else(is_grouped, pc.replace_substring_regex(cells, r"[.\s\x{a0}\x{202f}]", ""), cells)
        return pc.replace_substring_regex(cells, *_DECIMAL)

    return pyarrow().table([with_points(column) for column in data.columns], names=data.column_names)


def _checked(delimiter: str) -> str:
    character = _ALIASES.get(delimiter.lower(), delimiter)
    if len(character) != 1 or character in '"\r\n' or ord(character) > 127:
        raise ValueError(f"a delimiter is one ASCII character or {', '.join(_ALIASES)}; got {delimiter!r}")
    return character


def _checked_encoding(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise ValueError(f"unknown encoding {encoding!r}; expected one like utf-8, latin-1 or utf-16") from None
