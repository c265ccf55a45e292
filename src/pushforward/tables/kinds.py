"""What a column is: a category or a number, on which lattice, with which atoms, within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io import _csv
from . import arrow
from .column import Column, unit_seconds
from .lattice import find_atoms, find_coarse, find_finer, find_lattice, snapped
from .marginal import Marginal

_ALIASES = {
    "quantized": "quantised", "int": "integer", "float": "real", "cat": "category", "categorical": "category",
    "datetime": "date", "time": "date", "log": "positive", "logit": "bounded", "drop": "dropped", "ignore": "dropped",
    "periodic": "circular",
}  # fmt: skip
_ARGUMENTS = {"real": (0,), "integer": (0,), "quantised": (0, 1), "positive": (0,), "bounded": (2,), "circular": (1,),
              "category": (0,), "date": (0,), "dropped": (0,)}  # fmt: skip
_ID_SHARE = 0.9  # of the cells of a text column being unique, it names rows
_NEAR_END = 0.001  # of the rows within a fiftieth of either end, for a share
_DECADE = 10.0  # a column that spans one above zero is a size: its logarithm is modelled


@dataclass(frozen=True)
class Request:
    """A kind that was asked for, with its numbers; None infers it."""

    kind: str | None
    values: tuple[float, ...] = ()


def requested(text: Any) -> Request:
    """Reads "integer", "quantised:0.5", "bounded:0:1", "circular:360", ... or a tuple such as ("bounded", 0, 1).

    Raises:
        ValueError: the kind is unknown or has the wrong numbers.
    """
    parts = list(text) if isinstance(text, (tuple, list)) else str(text).split(":")
    kind = _ALIASES.get(str(parts[0]).strip().lower(), str(parts[0]).strip().lower()) if parts else ""
    if kind not in _ARGUMENTS:
        raise ValueError(
            f"unknown kind {text!r}; expected one of {', '.join(k for k in _ARGUMENTS if k != 'dropped')}, drop"
        )
    try:
        values = tuple(float(v) for v in parts[1:])
    except (TypeError, ValueError):
        values = (np.nan,)
    form = {"bounded": "bounded:LOW:HIGH", "circular": "circular:PERIOD", "quantised": "quantised or quantised:STEP"}
    good = len(values) in _ARGUMENTS[kind] and all(np.isfinite(v) for v in values)
    if kind == "bounded":
        good = good and values[:1] < values[1:]
    elif values:
        good = good and values[0] > 0
    if not good:
        raise ValueError(f"kind {text!r}: expected {form.get(kind, kind)}")
    return Request(kind, values)


def categorical(name: str, column: Any, request: Request, text: bool, named: bool, most: int) -> Column | None:
    """The column as a category (or as left out), None where it is a number or a date.

    Raises:
        ValueError: a column of numbers or dates holds some other text.
    """
    pa = _csv.pyarrow()
    kind = arrow.decoded(column).type
    as_text = arrow.is_text(kind)
    if request.kind != "category":
        if not (as_text or pa.types.is_boolean(kind) or pa.types.is_dictionary(column.type)):
            return None
        if as_text and text:
            filled = arrow.decoded(column)
            truth = _only_truth(filled)
            if not truth and _csv.parse(filled)[1] is None:
                return None
            if not truth and arrow.mostly(len(arrow.stray_cells(filled)), arrow.held(filled)):
                raise ValueError(f"{arrow.not_numbers(filled, name)}; mend them, or say that it is a category")
        if as_text and not pa.types.is_dictionary(column.type):
            if arrow.dates(column, text) is not None:
                return None
            if arrow.stray_dates(column, text) is not None:
                raise ValueError(f"{arrow.not_dates(column, name, text)}; mend them, or say that it is a category")
    cells = arrow.strings(column, text)
    missing = cells.null_count > 0
    present = len(cells) - cells.null_count
    dtype = str(column.type)
    if text:
        dtype = "bool" if _only_truth(cells) else "string"
        cells = _lower(cells) if dtype == "bool" else cells
    if present == 0:
        return Column(name, "empty", dtype, missing=True, note="no cell holds anything")
    counted = cells.drop_null().value_counts()
    values = counted.field(0).to_pylist()
    counts = counted.field(1).to_numpy()
    if request.kind is None and as_text and named and present >= 20 and len(values) >= _ID_SHARE * present:
        unique = "unique" if len(values) == present else "nearly unique"
        return Column(name, "dropped", dtype, missing=missing, note=f"its text is {unique} in each row, as of an id")
    order = sorted(range(len(values)), key=lambda i: (-counts[i], values[i]))
    own = len(values) if len(values) <= most + 1 else most
    return Column(
        name, "category", dtype, missing=missing, categories=tuple(values[i] for i in order),
        counts=tuple(int(counts[i]) for i in order), own=own,
    )  # fmt: skip


def numerical(name: str, column: Any, request: Request, text: bool, named: bool, gaussian: bool | None) -> Column:
    """The column as a number or date.

    Raises:
        ValueError: its cells do not fit the kind that was asked for.
    """
    pa = _csv.pyarrow()
    kind = arrow.decoded(column).type
    form, dtype = None, str(kind)
    if arrow.is_text(kind) and request.kind in (None, "date"):
        dated = arrow.dates(column, text)
        if dated is None and request.kind == "date":
            raise ValueError(arrow.not_dates(column, name, text))
        if dated is not None:
            column, form = dated
            column = _days(column) if text else column
            kind = column.type
            dtype, form = (str(kind), None) if text else (dtype, form)
    if arrow.is_text(kind) and not text:
        raise ValueError(f"column {name!r} holds text, it cannot be {request.kind or 'a number'}")
    values, missing = arrow.numbers(column, name, text)
    if arrow.is_text(kind):
        dtype = "int64" if values.dtype == np.int64 else "double"
    present = values[~missing]
    some = bool(missing.any())
    if len(present) == 0:
        return Column(name, "empty", dtype, missing=True, note="no cell holds anything")
    extent = (_plain(present.min()), _plain(present.max()))
    if extent[0] == extent[1]:
        return Column(name, "constant", dtype, missing=some, atoms=(extent[0],), extent=extent, form=form)
    temporal = pa.types.is_temporal(kind)
    if temporal and request.kind not in (None, "date"):
        raise ValueError(f"column {name!r} holds {kind}, it cannot be {request.kind}")
    if request.kind == "date" and not temporal:
        raise ValueError(f"column {name!r} holds {kind}, which is no date")
    whole = values.dtype == np.int64
    if request.kind is None and not temporal and whole and named and _is_row_number(values, missing):
        return Column(name, "dropped", dtype, missing=some, note="it counts the rows")
    single = pa.types.is_float32(kind) or pa.types.is_float16(kind)
    facts = _facts(name, present, request, whole, str(kind) if temporal else None, single)
    found = Column(name, dtype=dtype, missing=some, extent=extent, form=form, **facts)
    return _with_marginal(found, present, gaussian)


def _facts(
    name: str, present: NDArray[Any], request: Request, whole: bool, clock: str | None, single: bool
) -> dict[str, Any]:
    """Kind, lattice, atoms and bounds of the values; clock is the dtype of times."""
    temporal = clock is not None
    step, origin, kind = None, 0, request.kind or "real"
    if request.kind == "quantised" and request.values:
        step, origin = request.values[0], float(np.sort(present)[len(present) // 2]) % request.values[0]
        off = np.abs((present - origin) / step - np.round((present - origin) / step)) > 1e-3
        if off.any():
            raise ValueError(
                f"column {name!r}: {int(off.sum()):,} values are no multiples of {step:g} apart, as declared"
            )
    elif clock is not None:
        step, origin = _clock(present, clock)
    elif request.kind != "real" or whole:
        found = find_lattice(present, single)
        if found is not None:
            step, origin = found
        if request.kind == "integer" and not (whole or (present == np.floor(present)).all()):
            row = int(np.flatnonzero(present != np.floor(present))[0])
            raise ValueError(f"column {name!r} was declared integer, but holds {present[row]:g}")
        if request.kind == "integer" and step is None:
            step, origin = 1, 0
        if request.kind == "quantised" and step is None:
            raise ValueError(f"column {name!r} was declared quantised, but its values lie on no common step: give one")
    if request.kind == "real":
        step, origin = None, 0
    if step is not None and request.kind in (None, "quantised"):
        kind = (
            "date" if temporal else "integer" if whole or (step == int(step) and origin == int(origin)) else "quantised"
        )
        kind = "quantised" if request.kind == "quantised" else kind
    low, high, period, cut = _bounds(name, present, request, kind, step)
    coarse = None
    if request.kind in (None, "integer", "quantised", "positive", "bounded") and not temporal:
        found = find_coarse(present, step, origin)
        if found is not None:
            coarse, origin = found
            if step is None and (finer := find_finer(present, coarse, origin)) is not None:
                parts = round(coarse / finer)
                step, origin = snapped(finer, origin)
                coarse = parts * step
            kind = "quantised" if kind == "real" else kind
    if request.kind is None and not temporal and step is None and coarse is None and _fills_unit(present):
        low, high, kind = 0.0, 1.0, "bounded"
    ends = (None, None) if period is not None else (low, high)
    atoms, flows = find_atoms(present, step, origin, *ends, coarse=coarse)
    coarse = coarse if flows else None
    if period is not None:
        cut = _widest_gap(present % period, period) if step is None else float(origin) % period
    rest = present[~np.isin(present, atoms)] if flows else present
    if request.kind is None and kind == "bounded" and not flows:
        low, high, kind = None, None, "real"
    if request.kind is None and kind != "bounded" and flows and not temporal:
        smallest, largest = float(rest.min()), float(rest.max())
        if (smallest > 0 and largest >= _DECADE * smallest) or (
            step is not None and smallest >= 0 and largest > 4 * smallest
        ):
            low, kind = 0.0, "positive" if step is None and coarse is None else kind
    return {"kind": kind, "step": step, "coarse": coarse, "origin": origin, "low": low, "high": high, "period": period,
            "cut": cut, "atoms": atoms, "flows": flows}  # fmt: skip


def _clock(values: NDArray[np.int64], dtype: str) -> tuple[int, int]:
    """The coarsest of day, hour, minute, second, ... that all times are whole numbers of."""
    unit = unit_seconds(dtype)
    for seconds in (86400.0, 3600.0, 60.0, 1.0, 1e-3, 1e-6):
        step = round(seconds / unit)
        if step >= 1 and not (values % step).any():
            return step, 0
    return 1, 0


def _bounds(
    name: str, present: NDArray[Any], request: Request, kind: str, step: float | None
) -> tuple[float | None, float | None, float | None, float]:
    """-> low, high, period, cut, as declared."""
    if request.kind == "positive":
        if (present < 0).any():
            raise ValueError(f"column {name!r} was declared positive, but holds {present.min():g}")
        return 0.0, None, None, 0.0
    if request.kind == "bounded":
        low, high = request.values
        if (present < low).any() or (present > high).any():
            raise ValueError(
                f"column {name!r} was declared within {low:g} and {high:g}, but holds values from {present.min():g} to "
                f"{present.max():g}"
            )
        return low, high, None, 0.0
    if request.kind == "circular":
        period = request.values[0]
        if step is not None and abs(period / step - round(period / step)) > 1e-6:
            raise ValueError(f"column {name!r}: a period of {period:g} is no multiple of its step {step:g}")
        low = 0.0 if present.min() >= 0 else -period / 2
        return low, low + period, period, 0.0
    return None, None, None, 0.0


def _with_marginal(column: Column, present: NDArray[Any], gaussian: bool | None) -> Column:
    """Fits the map of the ordinary values."""
    from dataclasses import replace

    from .cells import counted, digits_of, is_coarse

    if not column.flows:
        return column
    column = replace(column, digits=digits_of(column, present))
    rest = present[~np.isin(present, column.atoms)]
    w = counted(column, rest)
    if column.noisy:  # a random place in each cell, the same at each call
        width = np.where(is_coarse(column, rest), column.coarse_cell, column.cell)
        w = w + width * np.random.default_rng(0).uniform(size=len(w))
    gaussian = False if gaussian is None and column.noisy else gaussian
    fitted = Marginal.of(w, *column.bounds, gaussian=gaussian)
    return replace(column, knots=fitted.knots, heavy=fitted.heavy)


def _widest_gap(angle: NDArray[np.float64], period: float) -> float:
    """Where to cut a circle open: in the middle of the widest gap between values, where the density is least."""
    at = np.unique(angle)
    gaps = np.diff(np.append(at, at[0] + period))
    widest = int(gaps.argmax())
    return float((at[widest] + gaps[widest] / 2) % period)


def _days(times: Any) -> Any:
    """Times as days, where none has a time of day."""
    pa = _csv.pyarrow()
    days = times.cast(pa.date32())
    return days if days.cast(times.type).equals(times) else times


def _fills_unit(values: NDArray[Any]) -> bool:
    """Whether values are plainly shares: within 0 and 1, with rows near both ends (a column that was scaled to 0 and 1
    has one row on each of them, and those near it by chance alone)."""
    if len(values) < 100 or values.min() < 0 or values.max() > 1:
        return False
    near = max(3.0, _NEAR_END * len(values))
    return bool((values < 0.02).sum() >= near and (values > 0.98).sum() >= near)


def _is_row_number(values: NDArray[np.int64], missing: NDArray[np.bool_]) -> bool:
    if len(values) < 50 or missing.any():
        return False
    steps = np.diff(values)
    if (steps == 1).mean() >= 0.99:
        return True
    return bool(values.max() - values.min() + 1 == len(values) and len(np.unique(values)) == len(values))


def _only_truth(cells: Any) -> bool:
    """Whether all cells of text say true or false."""
    pc = _csv.pyarrow().compute
    seen = {str(v).strip().lower() for v in pc.unique(cells).to_pylist()[:10] if v is not None}
    return bool(seen - set(arrow.MISSING_TEXT)) and seen <= {"true", "false", *arrow.MISSING_TEXT}


def _lower(cells: Any) -> Any:
    pc = _csv.pyarrow().compute
    return pc.utf8_lower(pc.utf8_trim_whitespace(cells))


def _plain(value: Any) -> float:
    return int(value) if isinstance(value, np.integer) else float(value)
