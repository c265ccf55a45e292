"""Rows whose cells cannot be what their column is: left out and counted, where that is asked for."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..io.frames import Column, Frame, read
from ..io.reader import Skipped
from ..io.tables import TableFile
from ..io.times import is_form
from .columns import OF_TEXTS, Date, Kind, Request, read_as, request_of
from .schema import Schema

View: TypeAlias = Literal["numbers", "times", "texts"]
_LOOKED_AT = 20_000  # rows that tell what the columns of a file are


def drop_bad_rows(
    table: Any, schema: Schema | None = None, *, kinds: Mapping[str, Any] | None = None, report: Skipped | None = None,
    start: int = 0,
) -> tuple[Frame, Skipped]:  # fmt: skip
    """Leaves out rows with text or infinity in a numeric column, or text that is no date in one of dates.

    Args:
        table: as `infer_schema` takes.
        schema: which columns are numbers and dates; None takes those columns of text for numbers, or dates, of whose
            cells at least nine in ten are.
        kinds: what columns were declared to be, where there is no schema yet; see `infer_schema`.
        report: counts on, over the batches of a file; None starts a new count.
        start: rows of the file before this table, for the row numbers of the report.

    Returns:
        The rows without these; and the report.

    Example:
        >>> rows, report = drop_bad_rows({"size": [0.5, float("inf"), 1.5]})
        >>> rows.matrix().tolist(), str(report)
        ([[0.5], [1.5]], "1 row skipped: row 2 holds inf in column 'size'")
    """
    report = Skipped() if report is None else report
    frame = read(table)
    good = _good(frame, start + np.arange(len(frame)), schema, kinds, report)
    return (frame if good.all() else read_again(frame[good])), report


def good_rows(file: TableFile, schema: Schema | None = None, *, kinds: Mapping[str, Any] | None = None) -> TableFile:
    """A file without its bad rows, which each pass counts in `skipped`.

    Args:
        file: of `open_table`.
        schema: as `drop_bad_rows`; without it, a sample of the rows tells what the columns are, the same for all
            batches.
        kinds: as `drop_bad_rows`.
    """
    views = {} if schema is not None else _views(copy.copy(file).sample(_LOOKED_AT))
    return file.where(lambda numbers, frame: _good(frame, numbers, schema, kinds, file.skipped, views))


def _views(frame: Frame) -> dict[str, View]:
    """What the cells of each column must be: what most are, as its rows tell."""
    views: dict[str, View] = {}
    for column in frame.columns:
        holds: View = "numbers" if column.numbers is not None else "times" if column.times is not None else "texts"
        views[column.name] = column.mostly() or holds
    return views


def read_again(frame: Frame) -> Frame:
    """The rows, typed as if they had been all: without its stray cells, a column of text may be one of numbers."""
    from ..io.frames import of_arrow

    columns = []
    for column in frame.columns:
        if column.cells is None or column.holds != "texts":
            columns.append(column)
            continue
        text = column.dtype == "text"
        data = {column.name: column.cells.cast("string") if text else column.cells}
        again = of_arrow(_table(data), text=text)
        columns.append(again.columns[0])
    return Frame(tuple(columns), frame.named, frame.source, frame.kind)


def _table(data: Mapping[str, Any]) -> Any:
    from ..io.cells import pyarrow

    return pyarrow().table(data)


def _good(
    frame: Frame, numbers: NDArray[np.int64], schema: Schema | None, kinds: Mapping[str, Any] | None, report: Skipped,
    views: Mapping[str, View] = MappingProxyType({}),
) -> NDArray[np.bool_]:  # fmt: skip
    """Which rows (N,) have no bad cell; the others are reported, with their numbers from 0.

    Args:
        views: of columns that neither a schema nor kinds tell.
    """
    why: dict[int, str] = {}
    for column, kind in zip(frame.columns, _kinds(frame, schema), strict=True):
        asked = (kinds or {}).get(column.name)
        tag, view, form = _view(kind, asked)
        column = column if tag is None else read_as(column, tag, form)
        for row in _bad(column, view or views.get(column.name), form, schema is not None).tolist():
            why.setdefault(row, f"holds {column.shown(row)} in column {column.name!r}")
    good = np.ones(len(frame), dtype=bool)
    good[list(why)] = False
    for row in sorted(why):
        report.add(f"row {numbers[row] + 1} {why[row]}")
    return good


def _kinds(frame: Frame, schema: Schema | None) -> list[Kind | None]:
    """What each column of a frame is, None where that is not known."""
    if schema is None:
        return [None] * len(frame.columns)
    if not (schema.named and frame.named) and len(schema.columns) == len(frame.columns):
        return list(schema.columns)
    known = {c.name: c for c in schema.columns}
    return [known.get(name) for name in frame.names]


def _view(kind: Kind | None, asked: Any) -> tuple[str | None, View | None, str | None]:
    """The tag of a column's kind, and what its cells must be, None where that is not known; how they are written."""
    request = Request() if asked is None else request_of(asked)
    tag, form = (request.kind, request.form) if kind is None else (kind.kind, getattr(kind, "form", None))
    if tag is None:
        return None, None, None
    if tag in OF_TEXTS:
        return tag, "texts", None
    dated = tag == "date" or is_form(form) or (kind is not None and Date.is_temporal(kind.dtype))
    return tag, ("times" if dated else "numbers"), form


def _bad(column: Column, view: View | None, form: str | None, known: bool) -> NDArray[np.int64]:
    """The numbers of the rows whose cells do not fit; all cells of a column that a schema does not know do."""
    if view is None and known:
        return np.empty(0, np.int64)
    return column.stray_rows(view, form)
