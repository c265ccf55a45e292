"""Finding columns that are functions of another one; see `Function`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..io.frames import Column, Frame
from .columns import Kind, Request, infer_kind
from .columns.base import Mask, Values
from .columns.function import Function, is_argument
from .columns.number import as_number

_LEAST_ROWS = 100
_LEAST_VALUES = 20  # of either column: of fewer, states tell what holds between them
_FIRST_ROWS = 50  # that are looked at before all others
_MONOTONE = 0.95  # correlation of the ranks, at least: rounding makes ties
_TOLERANCE = 1e-6  # of a value, on no lattice
_MOST_TIES = 10_000  # values that a schema keeps
_DIGITS = (2, 3, 4, 6, 17)  # of slope and intercept, the shortest that fit: those of a formula, not of rounding


def functions(columns: Sequence[Kind], frame: Frame, asked: Sequence[str] = ()) -> list[Kind]:
    """The columns of a schema, with those that are a function of one before them as `Function`.

    Args:
        columns: of the table.
        frame: its rows; all of them must keep to it.
        asked: names of those whose kind was declared: they stay as they are.
    """
    if len(frame) < _LEAST_ROWS:
        return list(columns)
    cells = {c.name: c for c in frame.columns}
    some = {n: c[np.linspace(0, len(frame) - 1, _FIRST_ROWS).astype(np.int64)] for n, c in cells.items()}
    usable = [c for c in columns if is_argument(c) and _varies(c, cells[c.name])]
    out = {c.name: c for c in columns}
    if len(usable) < 2:
        return list(columns)
    is_monotone = _are_monotone(np.stack([_values(c, some) for c in usable]))
    for k, column in enumerate(usable):
        if column.name in asked:
            continue
        others = (usable[i] for i in np.flatnonzero(is_monotone[k, :k]))
        function = next((f for other in others for f in _fitted(column, other, some, cells)), None)
        out[column.name] = function or column
    return list(out.values())


def _values(kind: Kind, columns: Mapping[str, Column]) -> Values:
    return np.asarray(as_number(kind).read(columns[kind.name]), np.float64)


def _are_monotone(values: Values) -> Mask:
    """Which of C rows of values (C, n) are ordered, but for rounding, as others are or the other way round: (C, C)."""
    ranks = np.stack([np.unique(row, return_inverse=True)[1] for row in values])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(np.corrcoef(ranks)) > _MONOTONE


def _varies(kind: Kind, column: Column) -> bool:
    return len(np.unique(as_number(kind).read(column)[:2000])) >= _LEAST_VALUES


def _fitted(
    column: Kind, other: Kind, some: Mapping[str, Column], every: Mapping[str, Column]
) -> Iterator[Function]:  # fmt: skip
    """The functions of another column that all rows keep to."""
    y, x = (_values(c, some) for c in (column, other))
    zeros = Column.of_numbers(column.name, np.zeros(len(every[column.name]), np.int64), None, "int64")
    for of_log, own_log in itertools.product((False, True), repeat=2):
        fits = (x > 0) & (y > 0) if of_log and own_log else np.ones(len(x), dtype=bool)  # powers of 0 are 0
        if (of_log and x[fits].min(initial=1) <= 0) or (own_log and y[fits].min(initial=1) <= 0) or fits.sum() < 3:
            continue
        for slope, intercept in _lines(np.log(x[fits]) if of_log else x[fits], np.log(y[fits]) if own_log else y[fits]):
            candidate = Function(
                inner=column, of=other.name, of_log=of_log, own_log=own_log, slope=slope, intercept=intercept,
                tolerance=_TOLERANCE, rest=infer_kind(zeros, Request(named=False)),
            )  # fmt: skip
            if not any(candidate.rest_of(rows)[0].any() for rows in (some, every)):
                ties = _ties(_values(column, every)) if as_number(column).lattice is None else ()
                yield replace(candidate, ties=ties)


def _ties(values: Values) -> tuple[float, ...]:
    """Those of values (N,) that come several times, in order; none where they are too many to be kept."""
    values, counts = np.unique(values, return_counts=True)
    tied = values[counts > 1]
    return tuple(tied.tolist()) if len(tied) <= _MOST_TIES else ()


def _lines(x: Values, y: Values) -> Iterator[tuple[float, float]]:
    """Slopes and intercepts of the line through y (N,) over x (N,), from few digits to all."""
    spread = x.std()
    if spread == 0 or y.std() == 0:
        return
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / spread**2)
    if np.abs(y - y.mean() - slope * (x - x.mean())).max() > 0.01 * y.std():
        return
    for digits in _DIGITS:
        short = float(f"{slope:.{digits}g}")
        intercept = float(np.median(y - short * x))
        if abs(intercept) < 0.01 * y.std():
            yield short, 0.0
        yield short, float(f"{intercept:.{digits}g}")
