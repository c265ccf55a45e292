"""What a text file looks like, from its beginning: what separates its cells, its header, its decimal point."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from . import _csv

DELIMITERS = ("\t", ";", "|", ",", " ")  # in the order of trust where several fit; a blank stands for any run of them
_ALIASES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "whitespace": " "}
_HEAD = 2**20  # bytes that are looked at
_LOOKED_AT = 2000  # rows, at most
_FREE_TEXT = (".csv", ".tsv", ".tab")  # where blanks are rather part of a cell than between cells
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


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


def detect(path: Path, delimiter: str | None = None, header: bool | None = None) -> Dialect:
    """Looks at the beginning of a text file.

    Args:
        path: of the file.
        delimiter: where it is known: one character, or "whitespace".
        header: whether the first line names the columns, where it is known.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty, holds no rows, is not UTF-8, or the delimiter is none.
    """
    text, complete = _head(path)
    lines = text.split("\n")
    comments = list(itertools.takewhile(lambda line: line.startswith("#") or not line.strip(), lines))
    while comments and not comments[-1].startswith("#"):
        comments.pop()
    body = "\n".join(lines[len(comments) :])
    suffix = path.suffix.lower() if path.suffix.lower() not in _csv.PACKED else Path(path.stem).suffix.lower()
    try:
        chosen = _delimiter(body, complete, suffix) if delimiter is None else _checked(delimiter)
        rows = _rows(body, chosen, complete)
        comment = [] if not comments else _rows(comments[-1].removeprefix("#").lstrip(" "), chosen, True)
    except csv.Error as error:
        raise ValueError(f"{path} is no readable CSV in UTF-8: {_csv.one_line(error)}") from None
    if not rows:
        raise ValueError(f"{path} is empty" if not comments else f"{path} has no rows, only comments")
    comma = chosen != "," and _decimal_comma(rows)
    # A first line like "#,name" or "# x y" is a header where it is as wide as the rows.
    told = comment and len(comment[0]) == len(rows[0])
    if told and header is not False and not all(_csv.is_number(_point(c, comma)) for c in comment[0]):
        names = tuple(c.strip() or "#" for c in comment[0])
        return Dialect(chosen, names, len(rows[0]), len(comments), False, comma)
    named = _has_header(rows, comma) if header is None else header
    if named and complete and len(rows) == 1:
        raise ValueError(f"{path} has no rows, only a header")
    names = tuple(c.strip() for c in rows[0]) if named else None
    return Dialect(chosen, names, len(rows[0]), len(comments), named, comma)


def _head(path: Path) -> tuple[str, bool]:
    """-> the first MiB as text, whether that is all of it."""
    pa = _csv.pyarrow()
    try:
        with pa.input_stream(str(path)) as file:
            raw = file.read(_HEAD)
            complete = len(raw) < _HEAD or not file.read(1)
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=complete)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no readable CSV in UTF-8: {_csv.one_line(error)}") from None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged: {_csv.one_line(error)}") from None
    return text.replace("\r\n", "\n"), complete


def _rows(text: str, delimiter: str, complete: bool) -> list[list[str]]:
    """The first rows that are not blank; the last one, which may have been cut, is left out."""
    if delimiter == " ":
        text = re.sub(r"(?m)^ | $", "", re.sub(r"[ \t]+", " ", text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = list(itertools.islice((row for row in reader if row), _LOOKED_AT))
    return rows if complete or len(rows) in (1, _LOOKED_AT) else rows[:-1]


def _delimiter(text: str, complete: bool, suffix: str) -> str:
    """What splits the most rows into as many cells as the first, more than one; a comma where nothing does."""
    best, found = 0.0, ","
    for candidate in DELIMITERS:
        rows = _rows(text, candidate, complete)
        if not rows or len(rows[0]) == 1:
            continue
        fits = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        if candidate == " " and suffix in _FREE_TEXT:
            fits *= all(_csv.is_number(cell) for row in rows[1:] for cell in row)
        if fits > best and fits >= 0.5:
            best, found = fits, candidate
    return found


def _has_header(rows: list[list[str]], comma: bool) -> bool:
    """Whether the first row names the columns.

    Not if each of its cells is a number; nor if one is, and another that is none comes again below in its column.
    """
    first = [cell.strip() for cell in rows[0]]
    numbers = [_csv.is_number(_point(cell, comma)) for cell in first]
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
    """Whether some cells are numbers like 1,5 and none is one like 1.5."""
    cells = [cell.strip() for row in rows for cell in row]
    return any(map(_COMMA_NUMBER.fullmatch, cells)) and not any("." in c and _csv.is_number(c) for c in cells)


def _point(cell: str, comma: bool) -> str:
    return cell.replace(",", ".") if comma else cell


def _checked(delimiter: str) -> str:
    found = _ALIASES.get(delimiter.lower(), delimiter)
    if len(found) != 1 or found in '"\r\n' or ord(found) > 127:
        raise ValueError(f"a delimiter is one ASCII character or {', '.join(_ALIASES)}; got {delimiter!r}")
    return found
