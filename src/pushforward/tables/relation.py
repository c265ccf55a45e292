"""Columns that are sums or differences of others, but for a few values: a total and its parts, with or without a tax.

A flow blurs such a relation, for it knows numbers on a lattice only within their cells. So the column itself is not
modelled, but what it is more than the sum: a number of few values, each with a mass of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from . import arrow, cells
from .arrow import Source
from .column import Column
from .kinds import Request, numerical

Values = NDArray[np.float64]
Parts = tuple[tuple[str, int], ...]
_LEAST_ROWS = 1_000
_LOOKED_AT = 5_000  # rows, to find a relation; it must hold in all
_MOST_PARTS = 4
_FEW, _HELD = 10, 0.95  # so many values of the rest must hold this share of the rows
_GAIN = 0.5  # nats that it must save over the column's own frequencies
_PART_GAIN = 0.05  # nats that a further part must save
_BEAM = 8
_SHOWN = 4
_LARGEST = 2.0**51


@dataclass(frozen=True)
class Relation:
    """column = sum of sign * part, rounded down to the column's own lattice, + rest.

    Attributes:
        parts: (name, sign) of columns that stand before it in the schema; none has missing cells.
        unit: a step of which all of them are whole multiples.
        rest: a column of what remains, counted in steps of the column.
    """

    parts: Parts
    unit: float
    rest: Column

    def fits(self, step: float, origin: float) -> bool:
        """Whether a column of this step and origin can be counted in its unit."""
        return step >= 0.5 * self.unit and is_whole(step / self.unit) and is_whole(origin / self.unit)

    def text(self, step: float) -> str:
        """As "fare + tip + (0, 0.5 or 3.3)", where the column has this step."""
        ordered = sorted(self.parts, key=lambda part: part[1] < 0)  # what is added first
        signs = [("- " if sign < 0 else "+ ") + name for name, sign in ordered]
        shown = " ".join(signs).removeprefix("+ ")
        values = [f"{value * step:.6g}" for value in sorted(self.rest.atoms)]
        if len(values) == 1:
            return shown if values == ["0"] else f"{shown} + {values[0]}".replace("+ -", "- ")
        if self.rest.flows or len(values) > _SHOWN:
            return f"{shown} + {'mostly ' if self.rest.flows else ''}one of {len(values)} values"
        return f"{shown} + ({', '.join(values[:-1])} or {values[-1]})"


def rest_of(column: Column, found: Mapping[str, Any], text: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What a column with a relation is more than the sum of its parts -> (N,) in its steps; where a cell is missing.

    Args:
        column: with a relation.
        found: Arrow columns by name, of it and of its parts.
        text: whether they are cells of a CSV.
    """
    values, missing = arrow.numbers(found[column.name], column.name, text)
    total, gone = _total(column, found, dict.fromkeys(found, text))
    rest = cells.counted(column, values) - total
    return np.clip(rest, -_LARGEST, _LARGEST).astype(np.int64), missing | gone


def whole_of(
    column: Column, rest: Any, found: Mapping[str, Any], texts: Mapping[str, bool]
) -> tuple[Any, NDArray[np.bool_]]:
    """The inverse of `rest_of`: the Arrow column, from an Arrow column of the rest and those of the parts.

    -> cells within the column's bounds; where the sum lay beyond them (N,).

    Args:
        column: with a relation.
        rest: in steps of the column.
        found: Arrow columns by name, of its parts.
        texts: which of these are cells of a CSV.
    """
    places = arrow.numbers(rest, column.name, False)[0] + _total(column, found, texts)[0]
    low, high = column.bounds
    beyond = (places < (-np.inf if low is None else low)) | (places >= (np.inf if high is None else high))
    return cells.decode(column, np.zeros(len(places), dtype=np.int64), places, np.random.default_rng(0)), beyond


def related(columns: Sequence[Column], source: Source, asked: Sequence[str] = ()) -> list[Column]:
    """The columns of a schema, with a relation where there is one to columns before it.

    Args:
        columns: of the table.
        source: its rows.
        asked: names of those whose kind was declared: they stay as they are.
    """
    n = len(source)
    usable = [c for c in columns if _counts(c)]
    if n < _LEAST_ROWS or len(usable) < 2:
        return list(columns)
    sample = source.take(np.linspace(0, n - 1, min(n, _LOOKED_AT)).astype(np.int64))
    at = {c.name: i for i, c in enumerate(columns)}
    out = list(columns)
    for k, column in enumerate(usable):
        if not column.flows or column.name in asked:
            continue
        parts = _parts(column, usable[:k], sample)
        if parts is None:
            continue
        candidate = replace(column, relation=Relation(*parts, rest=Column(column.name, "real", "int64")))
        rest, missing = rest_of(candidate, dict(zip(source.names, source.data.columns, strict=True)), source.text)
        if missing.any() or not _is_plain(rest):
            continue
        found = numerical(column.name, _csv.pyarrow().array(rest), Request(None), False, False, None)
        out[at[column.name]] = replace(column, relation=Relation(*parts, rest=found))
    return out


def _counts(column: Column) -> bool:
    """Whether a column can be a part of a sum, or one: whole multiples of a step, in each row."""
    return (
        column.kind in ("integer", "quantised") and column.step is not None and not column.missing
        and column.form is None and column.period is None
    )  # fmt: skip


def _total(column: Column, found: Mapping[str, Any], texts: Mapping[str, bool]) -> tuple[Values, NDArray[np.bool_]]:
    """The sum of the parts, as a place (N,) on the column's lattice; where one is missing (N,)."""
    relation = column.relation
    assert relation is not None
    total, missing = np.zeros(1), np.zeros(1, dtype=bool)
    for name, sign in relation.parts:
        values, gone = arrow.numbers(found[name], name, texts.get(name, False))
        total, missing = total + sign * np.round(values / relation.unit), missing | gone
    return _down(column, total, relation.unit), missing


def _down(column: Column, ticks: Values, unit: float) -> Values:
    """Numbers of units as places on the column's lattice, rounded down."""
    return np.floor((ticks - round(column.origin / unit)) / round((column.step or 1.0) / unit))


def _parts(column: Column, others: Sequence[Column], sample: Source) -> tuple[Parts, float] | None:
    """-> the best parts of a column among others, and the unit; None where there are none."""
    assert column.step is not None
    steps = [c.step for c in others if c.step is not None and _divides(c.step, column.step)]
    unit = min([column.step, *steps])
    others = [c for c in others if all(is_whole(v / unit) for v in (c.step or 0.0, c.origin))]
    if not others or not all(is_whole(v / unit) for v in (column.step, column.origin)):
        return None
    values = [arrow.numbers(sample.data.column(c.name), c.name, sample.text)[0] for c in (column, *others)]
    own, *ticks = (np.round(v / unit) for v in values)
    if max(np.abs(t).max() for t in (own, *ticks)) > _LARGEST:
        return None
    places = cells.counted(column, values[0])
    x = np.stack([sign * t for t in ticks for sign in (1, -1)], 1)  # (n, 2 m)

    def rest(chosen: tuple[int, ...]) -> Values:
        return places - _down(column, x[:, list(chosen)].sum(1), unit)

    candidates = _candidates(own, x)
    costs = [_entropy(rest(chosen)) + _PART_GAIN * len(chosen) for chosen in candidates]
    best = candidates[int(np.argmin(costs))]
    if min(costs) > _entropy(places) - _GAIN or not _is_plain(rest(best)):
        return None
    return tuple((others[i // 2].name, 1 if i % 2 == 0 else -1) for i in sorted(best)), unit


def _candidates(own: Values, x: Values) -> list[tuple[int, ...]]:
    """Sets of columns of x (n, 2 m) after whose sum little of own (n,) varies, the best of each size."""
    own, x = own - own.mean(), x - x.mean(0)
    width = x.shape[1]
    cross, gram = own @ x, x.T @ x
    alone = gram.diagonal() - 2 * cross  # what is added to the squares of own
    pairs = alone[:, None] + alone[None, :] + 2 * gram
    pairs[np.arange(width) // 2 >= np.arange(width)[:, None] // 2] = np.inf  # each once, and none with itself
    found: list[tuple[int, ...]] = [(int(i),) for i in np.argsort(alone)[:_BEAM]]
    first = np.argsort(pairs, axis=None)[:_BEAM]
    beam = [(int(i), int(j)) for i, j in zip(*np.unravel_index(first, pairs.shape), strict=True) if i // 2 != j // 2]
    found += beam
    for _ in range(2, _MOST_PARTS):
        longer: dict[tuple[int, ...], float] = {}
        for chosen in beam:
            squares = (((own - x[:, list(chosen)].sum(1))[:, None] - x) ** 2).sum(0)
            for i in np.argsort(squares)[:_BEAM]:
                if int(i) // 2 not in {j // 2 for j in chosen}:
                    longer[tuple(sorted((*chosen, int(i))))] = float(squares[i])
        beam = sorted(longer, key=longer.__getitem__)[:_BEAM]
        found += beam
    return found


def _is_plain(rest: NDArray[Any]) -> bool:
    """Whether few values hold nearly all rows."""
    counts = np.unique(rest, return_counts=True)[1]
    return float(np.sort(counts)[-_FEW:].sum()) >= _HELD * len(rest)


def _entropy(values: NDArray[Any]) -> float:
    """Of the frequencies, in nats."""
    p = np.unique(values, return_counts=True)[1] / len(values)
    return -float((p * np.log(p)).sum())


def _divides(a: float, b: float) -> bool:
    return is_whole(a / b) or is_whole(b / a)


def is_whole(value: float) -> bool:
    """Whether a number is an integer but for rounding."""
    return abs(value - round(value)) < 1e-6
