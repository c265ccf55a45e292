"""Columns of any kind as numbers to draw: categories as codes with labels, dates as days, missing cells as NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..density import Space
from ..io import frames
from ..io.frames import Column, Frame
from . import style
from .order import in_order

OTHER, MISSING = "other", "missing"
_FEW = 12  # values of a number, up to which it is drawn as bars
_DEPENDENT_ROWS = 4000  # on which it is judged how much columns tell of each other
_DAY = {"D": 1.0, "s": 1 / 86400, "ms": 1e-3 / 86400, "us": 1e-6 / 86400, "ns": 1e-9 / 86400}


@dataclass(frozen=True)
class Drawn:
    """A column of several tables, for drawing.

    Attributes:
        name: of the column.
        values: for each table (N,), NaN where missing; of a category its code; on a lattice spread over its step.
        labels: of a category's codes; empty for a number.
        date: whether values are days since 1970.
    """

    name: str
    values: tuple[NDArray[np.float64], ...]
    labels: tuple[str, ...] = ()
    date: bool = False

    def at_most(self, labels: int) -> Drawn:
        """The column with no more than so many categories: the rarest of the first table join `OTHER`."""
        if len(self.labels) <= labels:
            return self
        last = [MISSING] * (MISSING in self.labels)
        counts = np.bincount(self.values[0].astype(int), minlength=len(self.labels))
        common = [i for i in np.argsort(-counts, kind="stable") if self.labels[i] not in (OTHER, MISSING)]
        kept = [self.labels[i] for i in sorted(common[: labels - 1 - len(last)])]
        new = (*kept, OTHER, *last)
        code = np.array([new.index(name if name in new else OTHER) for name in self.labels], float)
        return Drawn(self.name, tuple(code[v.astype(int)] for v in self.values), new)


def drawn(tables: Sequence[Any], columns: Sequence[str] | None = None, space: Space | None = None) -> list[Drawn]:
    """The columns of some tables.

    Args:
        tables: rows of the space; without one, numbers (N, D), NaN for a missing cell. The first decides on the order
            of categories.
        columns: without a space D names; with one, those to draw, None for all that vary.
        space: what the rows are.

    Raises:
        ValueError: no such column, or the tables have other columns than each other.
    """
    if space is None:
        arrays = [style.rows(table, "rows") for table in tables]
        widths = [array.shape[1] for array in arrays]
        if len(set(widths)) > 1:
            raise ValueError(f"samples and data must have the same columns, got {widths[-1]} and {widths[0]}")
        names = style.axis_names(columns, arrays[0].shape[1])
        return [Drawn(name, tuple(rows[:, i] for rows in arrays)) for i, name in enumerate(names)]
    parts = [_frame(table, space) for table in tables]
    if columns is None:
        every = (_drawn([part.column(name) for part in parts]) for name in space.names)
        return [column for column in every if _varies(column)]
    absent = [name for name in columns if name not in space.names]
    if absent:
        raise ValueError(f"no column {absent[0]!r} to draw; there are {frames.quoted(space.names)}")
    return [_drawn([part.column(name) for part in parts]) for name in columns]


def informative(columns: Sequence[Drawn], most: int) -> list[int]:
    """The columns that tell most of the others and not the same again, at most so many, in their own order.

    They are taken one by one: the next is that with the largest sum of associations with all columns, less what those
    taken before tell already.
    """
    rows = np.random.default_rng(0).permutation(len(columns[0].values[0]))[:_DEPENDENT_ROWS]
    codes = [_binned(column, rows) for column in columns]
    associations = np.array([[_cramer(a, b) if a is not b else 0.0 for a in codes] for b in codes])
    total, taken = associations.sum(0), []
    while len(taken) < min(most, len(columns)):
        known = associations[taken].max(0) if taken else np.zeros(len(columns))
        worth = total * (1 - known)
        worth[taken] = -1
        taken.append(int(worth.argmax()))
    return sorted(taken)


def _frame(table: Any, space: Space) -> Frame:
    frame = frames.read(table)
    return frame if frame.named else frame.rename(space.names)


def _varies(column: Drawn) -> bool:
    values = np.concatenate(column.values)
    known = values[np.isfinite(values)]
    return len(known) > 0 and not (known == known[0]).all()


def _drawn(parts: Sequence[Column]) -> Drawn:
    """One column of several tables."""
    name, some = parts[0].name, [part for part in parts if part.holds != "nothing"]
    if some and all(part.times is not None for part in some):
        return Drawn(name, tuple(_days(part) for part in parts), date=True)
    if any(part.holds in ("texts", "truths") for part in some):
        texts = [[None] * len(part) if part.holds == "nothing" else part.texts for part in parts]
        return _category(name, texts, next((p.labels for p in parts if p.dtype.startswith("dictionary")), ()))
    values = tuple(np.where(part.is_missing, np.nan, part.require_numbers().astype(float)) for part in parts)
    known = np.concatenate(values)
    distinct = np.unique(known[np.isfinite(known)])
    if len(distinct) <= min(_FEW, len(known) / 2):
        return _category(name, [[None if np.isnan(v) else f"{v:.6g}" for v in part] for part in values])
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-9 * (distinct[-1] - distinct[0])]
    if len(distinct) > len(known) / 2 or not len(gaps):
        return Drawn(name, values)
    # Spread over their step, as values on a lattice beat with the bins of a histogram.
    noise = np.random.default_rng(0)
    return Drawn(name, tuple(v + gaps.min() * noise.uniform(-0.5, 0.5, len(v)) for v in values))


def _days(column: Column) -> NDArray[np.float64]:
    ticks, unit = column.require_times()
    return np.where(column.is_missing, np.nan, ticks * _DAY[unit])


def _category(name: str, parts: list[list[Any]], order: Sequence[str] = ()) -> Drawn:
    first: dict[str, int] = {}
    for cell in parts[0]:
        if cell is not None:
            first[cell] = first.get(cell, 0) + 1
    labels = in_order(first, order)
    known = {v: i for i, v in enumerate(labels)}
    extra = [OTHER] * any(c is not None and c not in known for part in parts for c in part)
    extra += [MISSING] * any(c is None for part in parts for c in part)
    places = {v: len(labels) + i for i, v in enumerate(extra)}

    def code(cell: Any) -> int:
        return places[MISSING] if cell is None else known[cell] if cell in known else places[OTHER]

    return Drawn(name, tuple(np.array([code(c) for c in part], float) for part in parts), (*labels, *extra))


def _binned(column: Drawn, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Some rows of the first table as bins of about equally many: codes of a category, tenths of a number."""
    values = column.values[0][rows]
    if column.labels:
        return values.astype(np.intp)
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9))) if len(known) else known
    return np.where(np.isfinite(values), np.searchsorted(edges, values), len(edges) + 1)


def _cramer(a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    """Cramer's V, squared: chi^2 of the table of two categories, as a part of its largest value."""
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    expected = np.outer(counts.sum(1), counts.sum(0)) / len(a)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return float(chi2 / (len(a) * max(min(counts.shape) - 1, 1)))
