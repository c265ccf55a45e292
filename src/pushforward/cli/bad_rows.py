"""Rows that cannot be read: text in a numeric column, infinities, dates that are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import _csv
from ..data.tables import Table
from ..diagnostics.subject import take
from ..tabular import arrow
from ..tabular.kinds import requested

_NUMBERS = ("real", "integer", "quantised", "positive", "bounded", "circular", "constant")


def picked(table: Table, rows: NDArray[np.integer]) -> Table:
    """Some rows of a table, by their numbers."""
    return replace(table, data=take(table.data, rows))


def find(table: Table, kinds: Mapping[str, str]) -> dict[str, NDArray[np.bool_]]:
    """Column -> which of its cells (N,) cannot be read, for the columns that have any.

    Args:
        table: any.
        kinds: of columns; that of others is inferred, as `infer_schema` does.
    """
    found = {}
    for name, column in zip(table.names, arrow.as_source(table).data.columns, strict=True):
        kind = requested(kinds[name]).kind if name in kinds else None
        bad = None if kind in ("category", "dropped") else _bad_cells(column, table.text, kind)
        if bad is not None and bad.any():
            found[name] = bad
    return found


def left_out(table: Table, kinds: Mapping[str, str]) -> tuple[Table, dict[str, int]]:
    """-> the table without its bad rows; column -> how many of its cells made a row bad."""
    found = find(table, kinds)
    if not found:
        return table, {}
    keep = ~np.logical_or.reduce(list(found.values()))
    return picked(table, np.flatnonzero(keep)), {name: int(bad.sum()) for name, bad in found.items()}


def told(skipped: int, columns: Mapping[str, int]) -> str:
    """What was left out, in words."""
    where = ", ".join(f"{name!r} ({n:,})" for name, n in list(columns.items())[:8])
    return f"{skipped:,} row{'' if skipped == 1 else 's'} left out, for cells that cannot be read in {where}"


def _bad_cells(column: Any, text: bool, kind: str | None) -> NDArray[np.bool_] | None:
    pa = _csv.pyarrow()
    cells = arrow.decoded(column)
    if pa.types.is_floating(cells.type):
        return np.isinf(cells.to_numpy())
    if not arrow.is_text(cells.type) or (kind is None and pa.types.is_dictionary(column.type)):
        return None
    if kind in (None, "date"):
        dated = arrow.stray_dates(cells, text)
        if dated is not None or kind == "date":
            return None if dated is None else _mask(len(cells), dated[1])
    if not text:  # words of a typed file: none of its cells is a number
        return None
    values, stray = _csv.parse(cells)
    if stray is None:
        return np.isinf(values)
    bad = _mask(len(cells), arrow.stray_cells(cells))
    if kind is None and not arrow.mostly(int(bad.sum()), arrow.held(cells)):
        return None
    readable, _ = _csv.parse(pa.compute.if_else(pa.array(bad), pa.scalar(None, pa.string()), cells))
    return bad | np.isinf(readable)


def _mask(n: int, stray: list[tuple[int, str]]) -> NDArray[np.bool_]:
    mask = np.zeros(n, dtype=bool)
    mask[[row for row, _ in stray]] = True
    return mask
