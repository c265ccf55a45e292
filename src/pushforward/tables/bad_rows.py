"""Rows whose cells cannot be what their column is: left out and counted, where that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from ..io.old_tables import Skipped, Table, TableFile
from . import arrow
from .arrow import Source, as_source
from .column import Column
from .kinds import requested
from .schema import Schema


def drop_bad_rows(
    table: Any, schema: Schema | None = None, *, kinds: Mapping[str, Any] | None = None, report: Skipped | None = None,
    start: int = 0,
) -> tuple[Any, Skipped]:  # fmt: skip
    """Leaves out rows with text or infinity in a numeric column, or text that is no date in one of dates.

    Args:
        table: as `infer_schema` takes.
        schema: which columns are numbers and dates; None takes those columns of text for numbers, or dates, of whose
            cells at least nine in ten are.
        kinds: what columns were declared to be, where there is no schema yet; see `infer_schema`.
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
    why = _found(source, schema, kinds)
    for row in sorted(why):
        report.add(f"row {start + row + 1} {why[row]}")
    if not why:
        return (table if isinstance(table, Table) else source), report
    good = np.setdiff1d(np.arange(len(source)), list(why))
    return (table.take(good) if isinstance(table, Table) else source.take(good)), report


class GoodRows(TableFile):
    """A file without its bad rows, which each pass counts in `skipped`.

    Args:
        file: of `open_table`.
        schema: as `drop_bad_rows`; without it, each batch tells what its columns are.
        kinds: as `drop_bad_rows`.
    """

    def __init__(
        self, file: TableFile, schema: Schema | None = None, *, kinds: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(file.path, file.names, file.named)
        self.text, self.packed, self.skipped = file.text, file.packed, file.skipped
        self._file, self._schema, self._kinds = file, schema, kinds

    @property
    def rows(self) -> int | None:
        """The number of rows of the file; how many of them are bad only a pass tells."""
        return self._file.rows

    def _pieces(self, rows: int, order: np.random.Generator | None) -> Iterator[tuple[int, Any]]:
        for first, batch in self._file._numbered(rows, order):
            why = _found(as_source(batch), self._schema, self._kinds)
            for row in sorted(why):
                self.skipped.add(f"row {first + row + 1} {why[row]}")
            for start, end in itertools.pairwise([-1, *sorted(why), len(batch)]):
                if end > start + 1:
                    yield first + start + 1, batch.data[start + 1 : end]


def _found(source: Source, schema: Schema | None, kinds: Mapping[str, Any] | None) -> dict[int, str]:
    """Numbers of bad rows -> what is wrong with them."""
    facts: list[Column | None] = [None] * len(source.names)
    if schema is not None:
        by_place = not (schema.named and source.named) and len(schema.columns) == len(source.names)
        known = dict(zip(source.names, schema.columns, strict=True)) if by_place else {}
        known = known or {c.name: c for c in schema.columns}
        facts = [known.get(name) for name in source.names]
    why: dict[int, str] = {}
    for name, cells, column in zip(source.names, source.data.columns, facts, strict=True):
        kind, form = _declared(column, (kinds or {}).get(name))
        if kind is not None or schema is None:
            for row in _bad(cells, kind, form, source.text):
                why.setdefault(int(row), f"holds {_shown(cells[int(row)].as_py())} in column {name!r}")
    return why


def _declared(column: Column | None, kind: Any) -> tuple[str | None, str | None]:
    """-> "numbers", "dates" or "other" where that is known; how dates are written, where that is known."""
    if column is not None:
        if column.kind in ("category", "dropped", "empty"):
            return "other", None
        dated = column.form is not None or column.dtype.startswith(("timestamp", "date"))
        return ("dates", column.form) if dated else ("numbers", None)
    found = None if kind is None else requested(kind).kind
    if found is None:
        return None, None
    return {"category": "other", "dropped": "other", "date": "dates"}.get(found, "numbers"), None


def _bad(cells: Any, kind: str | None, form: str | None, text: bool) -> NDArray[np.int64]:
    """The numbers of the bad rows of one column."""
    pa = _csv.pyarrow()
    held = arrow.decoded(cells)
    nothing = np.empty(0, dtype=np.int64)
    if pa.types.is_floating(held.type) and kind != "other":
        return np.flatnonzero(np.isinf(pa.compute.cast(held, pa.float64()).to_numpy()))
    if kind == "other" or not arrow.is_text(held.type) or not (text or kind is not None):
        return nothing
    if kind in (None, "dates"):
        dated = arrow.stray_dates(held, text, form, always=kind == "dates")
        if dated is not None:
            return np.array([row for row, _ in dated[1]], dtype=np.int64)
    values, stray = _csv.parse(held)
    if stray is None:
        return np.flatnonzero(np.isinf(values))
    rows = [row for row, _ in arrow.stray_cells(held)]
    if kind is None and not arrow.mostly(len(rows), arrow.held(held)):
        return nothing
    # Up to a stray cell, `parse` gave no numbers: they are read off what is left.
    kept = np.setdiff1d(np.arange(len(held)), rows)
    return np.union1d(rows, kept[np.isinf(_csv.parse(held.take(kept))[0])])


def _shown(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 40 else f"{shown[:36]} ..."
