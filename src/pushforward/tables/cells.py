"""The cells of a column as its discrete part and its number, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from . import arrow
from .column import Column
from .lattice import spelled
from .restoring import cast, restored

Values = NDArray[np.float64]
_LOOKED_AT = 2000  # distinct values, to see how they are written
_ALIKE = 0.98  # of them are given back to the last bit


@dataclass(frozen=True)
class Cells:
    """N cells of one column, encoded.

    Attributes:
        state: (N,) int64, the discrete part; -1 for a cell that the schema makes impossible.
        base: (N,) float64, the ordinary value as `Column.marginal` takes it (on a lattice the cell's lower end), and
            NaN where there is none.
        width: (N,) float64, the width of the cell that the value stands for, counted as base is; 0 where continuous.
        log_mass: (N,) float64, log-mass of the cell given its state, for what the flow does not model.
        trouble: what is impossible, in words, or "".
    """

    state: NDArray[np.int64]
    base: Values
    width: Values
    log_mass: Values
    trouble: str = ""


def encode(column: Column, cells: Any, text: bool) -> Cells:
    """An Arrow column -> its discrete part and its numbers.

    Raises:
        ValueError: text among numbers, infinities, or cells of another kind than the column's.
    """
    if column.kind == "category":
        return _encode_category(column, cells, text)
    if column.kind == "empty":
        held = np.array([not c for c in _is_missing(cells, text)])
        return _encoded(column, np.where(held, -1, 0), "a value in a column that had none", int(held.sum()))
    if arrow.is_text(arrow.decoded(cells).type) and (column.form or column.dtype.startswith(("timestamp", "date"))):
        dated = arrow.dates(cells, text, column.form)
        if dated is None and not all(_is_missing(cells, text)):
            raise ValueError(arrow.not_dates(cells, column.name, text, column.form))
        cells = cells if dated is None else dated[0]
    kind = arrow.decoded(cells).type
    temporal = _csv.pyarrow().types.is_temporal(kind)
    if temporal != _is_temporal(column) and cells.null_count < len(cells):
        raise ValueError(f"column {column.name!r} is {column.dtype} in the model, but holds {kind}")
    timed = None
    if temporal and column.form is None and str(kind) != column.dtype:
        pc, finer = _csv.pyarrow().compute, arrow.decoded(cells)
        cells = pc.cast(finer, arrow.arrow_type(column.dtype), safe=False)
        if column.dtype.startswith("date32"):
            timed = pc.not_equal(cells.cast(kind), finer).fill_null(False).to_numpy(zero_copy_only=False)
    if arrow.is_text(kind) and not text:
        raise ValueError(arrow.not_numbers(cells, column.name))
    found = encode_numbers(column, *arrow.numbers(cells, column.name, text))
    if timed is None or not timed.any():
        return found
    trouble = f"column {column.name!r}: {int(timed.sum()):,} with a time of day, where it had dates alone"
    return replace(found, state=np.where(timed, -1, found.state), trouble=trouble)


def _encode_category(column: Column, cells: Any, text: bool) -> Cells:
    pa = _csv.pyarrow()
    words = arrow.strings(cells, text)
    if column.dtype == "bool":
        words = pa.compute.utf8_lower(pa.compute.utf8_trim_whitespace(words)) if text else words
    known = pa.array(column.categories, pa.string())
    index = pa.compute.index_in(words, value_set=known).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    missing = words.is_null().to_numpy(zero_copy_only=False)
    unseen = (index < 0) & ~missing
    names = ", ".join(map(repr, words.filter(pa.array(unseen)).unique().to_pylist()[:3])) if unseen.any() else ""
    state = np.where(index >= column.own, column.own, index)
    log_mass = np.zeros(len(state))
    if column.grouped:
        rare = index >= column.own
        counts = np.asarray(column.counts, dtype=np.float64)
        log_mass[rare] = np.log(counts[index[rare]] / counts[column.own :].sum())
    if missing.any():
        state[missing] = column.states - 1 if column.missing else -1
    found = _encoded(column, state, f"a category never seen ({names})" if names else "missing cells, which it had not",
                     int((state < 0).sum()))  # fmt: skip
    return Cells(found.state, found.base, found.width, log_mass, found.trouble)


def encode_numbers(column: Column, values: NDArray[Any], missing: NDArray[np.bool_]) -> Cells:
    """Numbers (N,), where `missing` (N,) of any value, -> as `encode`."""
    base, good = _placed(column, values)
    state = np.where(good, 0, -1) if column.open else np.full(len(values), -1, dtype=np.int64)
    at = counted(column, values) if column.on_lattice else values.astype(np.float64)
    coarse = is_coarse(column, values)
    state[coarse & good & (state == 0)] = 1
    for i, atom in enumerate(counted(column, np.asarray(column.atoms)) if column.on_lattice else column.atoms):
        state[at == atom] = i + column.ordinary
    state[missing] = column.states - 1 if column.missing else -1
    bad = state < 0
    log_mass = np.zeros(len(values))
    ordinary = (state >= 0) & (state < column.ordinary)
    if column.open and not column.flows:
        log_mass[ordinary] = _log_elsewhere(column, values[ordinary].astype(np.float64))
    base = np.where(ordinary if column.flows else False, base, np.nan)
    trouble = ""
    if bad.any():
        held = values[bad & ~missing]
        what = "missing cells, which it had not" if len(held) == 0 else f"values it cannot have, such as {held[0]:g}"
        trouble = f"column {column.name!r}: {int(bad.sum()):,} with {what}"
    return Cells(state, base, np.where(coarse, column.coarse_cell, column.cell), log_mass, trouble)


def counted(column: Column, values: NDArray[Any]) -> Values:
    """Values as `Column.marginal` takes them: on a lattice their number of steps from the origin, on a circle their
    way from the cut. They are not checked."""
    if column.period is not None:
        way = (values - column.cut) % column.period
        if column.step is None:
            return way
        return np.round(way / column.step) % round(column.period / column.step)
    if column.step is None:
        return values.astype(np.float64)
    if values.dtype == np.int64 and float(column.step).is_integer() and float(column.origin).is_integer():
        return ((values - int(column.origin)) // int(column.step)).astype(np.float64)
    return np.round((values - column.origin) / column.step)


def is_coarse(column: Column, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values (N,) keep to the column's coarse step."""
    if column.coarse is None or not column.flows:
        return np.zeros(len(values), dtype=bool)
    places = (values - column.origin) / column.coarse
    return np.abs(places - np.round(places)) < 1e-6


def uncounted(column: Column, w: Values) -> Values:
    """The inverse of `counted`, for values w that are whole on a lattice."""
    if column.period is not None:
        way = w if column.step is None else w * column.step
        low = column.low or 0.0
        return (way + column.cut - low) % column.period + low
    if column.step is None:
        return w
    value = column.origin + w * column.step
    if column.digits is not None:
        return spelled(value, column.digits)
    # A decimal step such as 0.1 is no binary number: the nearest decimal is what the data held.
    digits = max(0, 10 - math.ceil(math.log10(max(abs(column.step), 1e-300) + 1e-300)))
    return np.round(value, min(digits, 15)) if column.step < 1 else value


def digits_of(column: Column, values: NDArray[Any]) -> int | None:
    """The significant digits with which the lattice of a column gives back its values (N,); None where it needs none.

    Values that were scaled and then written as decimals lie on their lattice to the last digit only.
    """
    if not column.noisy or column.period is not None or values.dtype == np.int64:
        return None
    u = np.unique(values if column.on_lattice else values[is_coarse(column, values)])
    u = u[:: math.ceil(len(u) / _LOOKED_AT)]
    step = column.step or column.coarse or 1
    places = column.origin + np.round((u - column.origin) / step) * step
    plain = uncounted(column, counted(column, u)) if column.on_lattice else np.round(places, 12)
    alike = float((plain == u).mean())
    if alike == 1:
        return None
    return next((d for d in range(6, 16) if (spelled(places, d) == u).mean() > max(alike, _ALIKE)), None)


def _placed(column: Column, values: NDArray[Any]) -> tuple[Values, NDArray[np.bool_]]:
    """-> values as the marginal takes them, and which of them are possible as ordinary values."""
    w = counted(column, values)
    good = np.ones(len(values), dtype=bool)
    if column.period is not None:
        low = column.low or 0.0
        good &= (values >= low) & (values <= low + column.period)
    elif column.on_lattice:
        low, high = column.bounds
        good &= w >= (-np.inf if low is None else low)
        good &= w < (np.inf if high is None else high)
    else:
        on = is_coarse(column, values)
        low, high = (-np.inf if column.low is None else column.low), (np.inf if column.high is None else column.high)
        good &= (values > low) | (on & (values == low))
        good &= (values < high) | (on & (values == high))
    if column.on_lattice and column.kind in ("integer", "date"):
        off = (values - column.origin) % column.step if column.step else np.zeros(len(values))
        good &= off == 0
    return w, good


def _log_elsewhere(column: Column, values: Values) -> Values:
    """Log-mass (on a lattice) or log-density of values never seen, in a column of few values: a wide logistic."""
    low, high = min(column.atoms), max(column.atoms)
    scale = max((high - low) / 2, column.step or 0.0)
    t = np.abs(values - (low + high) / 2) / scale
    return -t - 2 * np.log1p(np.exp(-t)) - math.log(scale) + (math.log(column.step) if column.step else 0.0)


def _encoded(column: Column, state: NDArray[np.int64], what: str, bad: int) -> Cells:
    nothing = np.full(len(state), np.nan)
    trouble = f"column {column.name!r}: {bad:,} with {what}" if bad else ""
    return Cells(state.astype(np.int64), nothing, np.zeros(len(state)), np.zeros(len(state)), trouble)


def decode(column: Column, state: NDArray[np.int64], w: Values | None, generator: np.random.Generator) -> Any:
    """States (N,) and values w (N,) within the bounds -> an Arrow array of the column's dtype.

    Args:
        column: of a schema.
        state: (N,).
        w: values as `Column.marginal` gives them, used where the state is that of an ordinary value.
        generator: picks one of the rare categories that share a state.
    """
    pa = _csv.pyarrow()
    dtype = arrow.arrow_type(column.dtype)
    missing = (state == column.states - 1) & column.missing
    if column.kind == "empty":
        return pa.nulls(len(state), dtype)
    if column.kind == "category":
        index = state.copy()
        if column.grouped:
            rare = state == column.own
            counts = np.asarray(column.counts[column.own :], dtype=np.float64)
            index[rare] = column.own + generator.choice(len(counts), int(rare.sum()), p=counts / counts.sum())
        words = pa.array(column.categories, pa.string()).take(pa.array(index, mask=missing))
        return cast(words, dtype)
    facts = (column.origin, column.step or 0.5, column.coarse or 1, *column.atoms)
    whole = all(float(v).is_integer() for v in facts) and not column.period
    values = np.zeros(len(state), dtype=np.int64 if whole else np.float64)
    ordinary = state < column.ordinary
    if column.flows and w is not None:
        values[ordinary] = _valid(column, w[ordinary], state[ordinary] == 1, whole)
    if column.atoms:
        here = ~missing & ~ordinary
        values[here] = np.asarray(column.atoms)[state[here] - column.ordinary]
    return restored(column, values, missing, dtype)


def _valid(column: Column, w: Values, coarse: NDArray[np.bool_], whole: bool) -> NDArray[Any]:
    """Values within the bounds and on the lattice (or its coarse step), from any w."""
    low, high = column.bounds
    if column.coarse is not None:
        cell, start = column.coarse_cell, 0.0 if column.on_lattice else column.origin
        at = np.floor((w - start) / cell + 1e-9)
        at = at if low is None else np.maximum(at, np.ceil((low - start) / cell - 1e-9))
        at = at if high is None else np.minimum(at, np.floor((high - start) / cell + 1e-9) - 1)
        w = np.where(coarse, at * cell + start, w)
    if not column.on_lattice:
        if column.period is None:
            least = None if column.low is None else np.nextafter(column.low, np.inf)
            most = None if column.high is None else np.nextafter(column.high, -np.inf)
            inside = w if least is None and most is None else np.clip(w, least, most)
            on = np.round(w, 12) if column.digits is None else spelled(w, column.digits)
            return np.where(coarse, on, inside)
        return uncounted(column, w)
    k = np.where(coarse, np.round(w), np.floor(w))
    if low is not None or high is not None:
        k = np.clip(k, low, None if high is None else high - 1)
    if whole:
        step = int(column.step or 1)
        return int(column.origin) + np.clip(k, -(2.0**62) / step, 2.0**62 / step).astype(np.int64) * step
    return uncounted(column, k)


def _is_temporal(column: Column) -> bool:
    return column.form is not None or _csv.pyarrow().types.is_temporal(arrow.arrow_type(column.dtype))


def _is_missing(cells: Any, text: bool) -> list[bool]:
    return [c is None or c != c for c in arrow.strings(cells, text).to_pylist()]
