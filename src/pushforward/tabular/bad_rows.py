"""Rows whose cells cannot be what their column is: left out and counted, where that is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import _csv
from ..data.tables import Skipped, Table
from . import arrow
from .arrow import as_source
from .column import Column
from .schema import Schema


def drop_bad_rows(
    table: Any, schema: Schema | None = None, *, report: Skipped | None = None, start: int = 0
) -> tuple[Any, Skipped]:
    """Leaves out rows with text or infinity in a numeric column, or text that is no date in one of dates.

    Args:
        table: as `infer_schema` takes.
        schema: which columns are numbers and dates; None takes those columns of text for numbers of whose cells at
            least nine in ten are.
        report: counts on, over the batches of a file; None starts a new count.
        start: rows of the file before this table, for the row numbers of the report.

    Returns:
        The table without these rows, a `Table` where it was one, else a `Source`; and the report.

    Example:
        >>> rows, report = drop_bad_rows({"size": [0.5, float("inf"), 1.5]})
        >>> rows.data["size"].to_pylist(), str(report)
        ([0.5, 1.5], "1 row skipped: row 2 holds inf in column 'size'")
    """
    report = Skipped() if report is None else report
    source = as_source(table)
    facts: list[Column | None] = [None] * len(source.names)
    if schema is not None:
        by_place = not (schema.named and source.named) and len(schema.columns) == len(source.names)
        known = dict(zip(source.names, schema.columns, strict=True)) if by_place else {}
        known = known or {c.name: c for c in schema.columns}
        facts = [known.get(name) for name in source.names]
    why: dict[int, str] = {}
    for name, cells, column in zip(source.names, source.data.columns, facts, strict=True):
        if schema is None or (column is not None and column.kind not in ("category", "dropped", "empty")):
            for row in _bad(cells, column, source.text):
                why.setdefault(int(row), f"holds {_shown(cells[int(row)].as_py())} in column {name!r}")
    for row in sorted(why):
        report.add(f"row {start + row + 1} {why[row]}")
    if not why:
        return (table if isinstance(table, Table) else source), report
    good = np.setdiff1d(np.arange(len(source)), list(why))
    return (table.take(good) if isinstance(table, Table) else source.take(good)), report


def _bad(cells: Any, column: Column | None, text: bool) -> NDArray[np.int64]:
    """The numbers of the bad rows of one column."""
    pa = _csv.pyarrow()
    kind = arrow.decoded(cells).type
    nothing = np.empty(0, dtype=np.int64)
    if pa.types.is_floating(kind):
        return np.flatnonzero(np.isinf(pa.compute.cast(arrow.decoded(cells), pa.float64()).to_numpy()))
    if not arrow.is_text(kind) or not (text or column is not None):
        return nothing
    if column is not None and (column.form is not None or "timestamp" in column.dtype):
        if arrow.dates(cells, text, column.form) is not None:
            return nothing
        words = arrow.strings(cells, text)
        each = (arrow.dates(pa.chunked_array([words[i : i + 1]]), text, column.form) for i in range(len(words)))
        return np.flatnonzero([word.is_valid and one is None for word, one in zip(words, each, strict=True)])
    values, stray = _csv.parse(arrow.decoded(cells))
    rows = [] if stray is None else [row for row, _ in arrow.stray_cells(cells)]
    if column is None and not arrow.mostly(len(rows), arrow.held(cells)):
        return nothing
    # Up to a stray cell, `parse` gave no numbers: they are read off what is left.
    if rows:
        kept = np.setdiff1d(np.arange(len(cells)), rows)
        return np.union1d(rows, kept[np.isinf(_csv.parse(arrow.decoded(cells).take(kept))[0])])
    return np.flatnonzero(np.isinf(values))


def _shown(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 40 else f"{shown[:36]} ..."
