"""Columns of any kind as numbers to draw: categories as codes with labels, dates as days, missing cells as NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tables import Column, Schema, arrow
from ..tables.column import unit_seconds

OTHER, MISSING = "other", "missing"
_FEW = 12  # values of a number, up to which it is drawn as bars
_DEPENDENT_ROWS = 4000  # on which it is judged how much columns tell of each other


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
        """The column with no more than so many categories: the last of them join `OTHER`."""
        if len(self.labels) <= labels:
            return self
        kept = [name for name in self.labels if name not in (OTHER, MISSING)][: labels - 1]
        new = (*kept, OTHER)
        code = np.array([new.index(name) if name in kept else len(kept) for name in self.labels], float)
        return Drawn(self.name, tuple(code[v.astype(int)] for v in self.values), new)


def drawn(schema: Schema, tables: Sequence[Any], names: Sequence[str] | None = None) -> list[Drawn]:
    """The columns of a schema in some tables.

    Args:
        schema: says what they are; constant, empty and dropped ones are left out.
        tables: as `infer_schema` takes them, or a `Source`; the first decides on the order of categories.
        names: of the columns; None takes all.

    Raises:
        ValueError: no such column, or cells that do not fit it.
    """
    sources = [arrow.as_source(table) for table in tables]
    columns = {c.name: c for c in schema.modelled if c.kind not in ("constant", "empty")}
    absent = [n for n in names or () if n not in columns]
    if absent:
        raise ValueError(f"no column {absent[0]!r} to draw; there are {', '.join(map(repr, columns))}")
    return [_drawn(columns[name], sources) for name in (columns if names is None else names)]


def informative(columns: Sequence[Drawn], most: int, seed: int = 0) -> list[int]:
    """The columns that tell most of the others and not the same again, at most so many, in their own order.

    They are taken one by one: the next is that with the largest sum of squared associations (rank correlations;
    categories by the ranks of their codes' means) with all columns, less what those taken before tell already.
    """
    n = len(columns[0].values[0])
    rows = np.random.default_rng(seed).permutation(n)[:_DEPENDENT_ROWS]
    squared = _associations([c.values[0][rows] for c in columns], [bool(c.labels) for c in columns])
    total, taken = squared.sum(0), []
    while len(taken) < min(most, len(columns)):
        known = squared[taken].max(0) if taken else np.zeros(len(columns))
        worth = total * (1 - known)
        worth[taken] = -1
        taken.append(int(worth.argmax()))
    return sorted(taken)


def _drawn(column: Column, sources: Sequence[arrow.Source]) -> Drawn:
    parts = [(source.data.column(column.name), source.text) for source in sources]
    if column.kind == "category":
        return _category(column.name, [arrow.strings(cells, text).to_pylist() for cells, text in parts])
    if column.kind == "date":
        return Drawn(column.name, tuple(_days(column, cells, text) for cells, text in parts), date=True)
    values = tuple(_numbers(column, cells, text) for cells, text in parts)
    if column.flows or len(column.atoms) > _FEW:
        # Spread over their step, as values on a lattice beat with the bins of a histogram.
        step, noise = column.coarse or column.step or 0.0, np.random.default_rng(0)
        return Drawn(column.name, tuple(v + step * noise.uniform(-0.5, 0.5, len(v)) for v in values))
    return _category(column.name, [[None if np.isnan(v) else f"{v:.6g}" for v in part] for part in values], True)


def _category(name: str, parts: list[list[Any]], ordered: bool = False) -> Drawn:
    first: dict[str, int] = {}
    for cell in parts[0]:
        if cell is not None:
            first[cell] = first.get(cell, 0) + 1
    labels = sorted(first, key=(lambda v: float(v)) if ordered else (lambda v: (-first[v], v)))
    known = {v: i for i, v in enumerate(labels)}
    extra = [OTHER] * any(c is not None and c not in known for part in parts for c in part)
    extra += [MISSING] * any(c is None for part in parts for c in part)
    places = {v: len(labels) + i for i, v in enumerate(extra)}

    def code(cell: Any) -> int:
        return places[MISSING] if cell is None else known[cell] if cell in known else places[OTHER]

    return Drawn(name, tuple(np.array([code(c) for c in part], float) for part in parts), (*labels, *extra))


def _numbers(column: Column, cells: Any, text: bool) -> NDArray[np.float64]:
    values, missing = arrow.numbers(cells, column.name, text)
    return np.where(missing, np.nan, values.astype(np.float64))


def _days(column: Column, cells: Any, text: bool) -> NDArray[np.float64]:
    if arrow.is_text(arrow.decoded(cells).type):
        found = arrow.dates(cells, text, column.form)
        if found is None:
            raise ValueError(arrow.not_dates(cells, column.name, text, column.form))
        cells = found[0]
    kind = str(arrow.decoded(cells).type)
    return _numbers(column, cells, False) * unit_seconds(kind) / 86400


def _associations(values: list[NDArray[np.float64]], category: list[bool]) -> NDArray[np.float64]:
    """Squared associations (D, D) of columns, 0 on the diagonal."""
    out = np.zeros((len(values), len(values)))
    ranks = [_ranks(v) for v in values]
    for i in range(len(values)):
        for j in range(i):
            if category[i] and category[j]:
                found = _cramer(values[i], values[j])
            elif category[i] or category[j]:
                found = _explained(values[i], ranks[j]) if category[i] else _explained(values[j], ranks[i])
            else:
                found = _squared(ranks[i], ranks[j])
            out[i, j] = out[j, i] = found
    return out


def _cramer(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cramer's V, squared: chi^2 of the table of two categories, as a part of its largest value."""
    (one, i), (two, j) = (np.unique(v, return_inverse=True) for v in (a, b))
    least = min(len(one), len(two)) - 1
    if least == 0:
        return 0.0
    table = np.zeros((len(one), len(two)))
    np.add.at(table, (i, j), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / len(a)
    return float(((table - expected) ** 2 / expected).sum() / (len(a) * least))


def _explained(code: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    """The part of the variance of ranks that a category explains, corrected for how many it has."""
    at, counts = np.unique(code, return_inverse=True, return_counts=True)[1:]
    means = np.bincount(at, ranks) / counts
    spread = ranks.var() * len(ranks)
    if spread == 0 or len(counts) >= len(ranks):
        return 0.0
    left = ((ranks - means[at]) ** 2).sum() / (len(ranks) - len(counts))
    return float(max(0.0, 1 - left * (len(ranks) - 1) / spread))


def _squared(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    spread = a.std() * b.std()
    return 0.0 if spread == 0 else float((((a - a.mean()) * (b - b.mean())).mean() / spread) ** 2)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks with ties in the middle; missing values are the middle one."""
    filled = np.where(np.isnan(values), np.nanmedian(values) if np.isfinite(values).any() else 0.0, values)
    ordered = np.sort(filled)
    return (np.searchsorted(ordered, filled, "left") + np.searchsorted(ordered, filled, "right")) / 2
