"""Finding the lattice that rounded values lie on, and the single values that hold a large share of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_TIES = 0.9  # at most this share of distinct values makes decimals rounded ones
_MOST_DECIMALS = 8
_SURE = 20  # distinct values that make a common divisor of theirs no accident
_FEW = 32  # as many values, each held by `_PER_VALUE` rows on average, are modelled one by one
_PER_VALUE = 10
_MOST_ATOMS = 32
_SHARE = 0.01  # of the rows, to be an atom, which is a point mass
_PEAK = 2.0  # times as frequent as its neighbours on a lattice, to be an atom,
_PEAK_GAIN = 0.005  # which must be worth so many nats a row
_CHANCE = 10.0  # nats that a peak by chance among a hundred values is not worth
_LEAST = 10  # rows of an atom
_MANY = 200  # rows from which a coarse step can be told from chance
_MULTIPLES = (2, 4, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2500, 5000, 10_000)
_CROWD = 0.3  # of the rows on one value
_SEVERAL = 6  # distinct values on a coarse step, at least
_GAIN = 0.1  # nats a row, the least for which a coarse step is worth a state
_REPEATS = 3  # rows of a value
_ON_STEP = 1e-6  # of a step, from its values
_ON_FINER, _FINEST = 1e-3, 100  # of a finer step; the most of them in a coarse one
_NEARLY = 1e-9
_SENTINEL = 3  # rows of an isolated first or last value, such as 0
_NINES = (99.0, 999.0, 9999.0, 99999.0)  # as such a value, of either sign, one row is enough


def find_lattice(values: NDArray[Any], single: bool = False) -> tuple[float, float] | None:
    """The (step, origin) of the lattice that values (N,) lie on; None for continuous ones.

    Integers always lie on one; its step is more than 1 where at least 20 distinct values have a common divisor.
    Decimals do where they have ties, so that a density over them would grow without bound.

    Args:
        values: int64 or float64.
        single: whether they had float32's rounding before.
    """
    u = np.unique(values)
    if values.dtype == np.int64:
        return _whole(u)
    if len(values) < 20 or len(u) < 2:
        return None
    exact = float(np.finfo(np.float32 if single else np.float64).eps) * max(abs(float(u[0])), abs(float(u[-1])))
    tied = len(u) <= _TIES * len(values)
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = u * 10.0**decimals
        if exact * 10.0**decimals > 0.02 or abs(scaled).max() > 2**53:
            break
        if np.abs(scaled - np.round(scaled)).max() <= 2 * exact * 10.0**decimals:
            if decimals > 0 and not tied:
                return None
            step, origin = _whole(np.round(scaled).astype(np.int64))
            return (step, origin) if decimals == 0 else (step / 10**decimals, origin / 10**decimals)
    return _any_step(u, exact) if tied and len(u) >= _SURE else None


def find_coarse(values: NDArray[Any], step: float | None, origin: float) -> tuple[float, float] | None:
    """The (coarse step, origin) that many of the values (N,) keep to beyond their lattice; None where none stands out.

    Examples are whole numbers among decimals, or prices that mostly end in 50.

    Args:
        values: int64 or float64.
        step: of their lattice, None for continuous ones.
        origin: of their lattice.
    """
    if len(values) < _MANY:
        return None
    if step is None:
        for decimals in range(5):
            scaled = values * 10.0**decimals
            on = np.abs(scaled - np.round(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1.0)
            if on.mean() >= 0.5 and len(np.unique(values[on])) <= _TIES * on.sum():
                return 10.0**-decimals, 0.0
        return _repeated_step(values)
    k = np.round((values - origin) / step).astype(np.int64)
    places, counts = np.unique(k, return_counts=True)
    k = k[~np.isin(k, places[counts > _CROWD * len(k)])]  # a crowd is an atom, whatever it is a multiple of
    tens = [round(t / step) for t in (10.0**d for d in range(-6, 5)) if abs(round(t / step) * step / t - 1) < 1e-9]
    best = (_GAIN, 0, 0)
    for g in sorted({*_MULTIPLES, *tens}):
        residues, counts = np.unique(k % max(g, 1), return_counts=True)
        if len(residues) < 2:
            continue
        residue = residues[counts.argmax()]
        on = np.unique(k[k % g == residue], return_counts=True)[1]
        share = (on.sum() - on.max()) / (len(k) - on.max())  # one frequent value makes no step
        if share >= 0.2 and len(on) >= _SEVERAL:
            # What knowing the wider cell saves, less what it costs to say which values have it.
            gain = share * np.log(g) + share * np.log(share) + (1 - share) * np.log1p(-share)
            best = max(best, (float(gain), g, int(residue)))
    _, g, residue = best
    if g == 0:
        return None
    first = origin + residue * step
    return (g * step, first) if isinstance(step, int) else (_tidy(g * step), _tidy(first))


def find_finer(values: NDArray[Any], coarse: float, origin: float) -> float | None:
    """The step that all values (N,) keep to where many keep to the coarse one; None where the others are continuous."""
    places = (values - origin) / coarse
    between = np.unique(places[np.abs(places - np.round(places)) >= _ON_STEP])
    if len(between) < 2:
        return None
    fits = (m for m in _MULTIPLES if np.abs(between * m - np.round(between * m)).max() < _ON_FINER)
    multiple = next(fits, None)
    return None if multiple is None or multiple > _FINEST else coarse / multiple


def snapped(step: float, origin: float) -> tuple[float, float]:
    """A step that was estimated is one part of 1, and the origin a multiple of it, where they are nearly so.

    Columns that were scaled to 0 and 1 have such lattices.
    """
    parts = 1 / step
    if parts < 2 or abs(parts / round(parts) - 1) > _NEARLY:
        return step, origin
    step, at = 1 / round(parts), origin / step
    return step, round(at) * step if abs(at - round(at)) < _ON_STEP else origin


def find_atoms(
    values: NDArray[Any], step: float | None, origin: float, low: float | None, high: float | None,
    coarse: float | None = None,
) -> tuple[tuple[float, ...], bool]:  # fmt: skip
    """Values that hold a large share of the rows, and whether others are left for the flow.

    Args:
        values: (N,), without missing cells.
        step: of their lattice, None for continuous ones.
        origin: of their lattice.
        low: declared lower bound: a continuous density has no room on it, so values there are an atom.
        high: declared upper bound, likewise.
        coarse: step of `find_coarse`.
    """
    u, counts = np.unique(values, return_counts=True)
    n = len(values)
    if len(u) <= _FEW and n >= _PER_VALUE * len(u):
        return _plain(u), False
    frequent = counts >= max(_LEAST, _SHARE * n)
    on = np.zeros(len(u), dtype=bool)
    chosen = np.zeros(len(u), dtype=bool)
    if coarse is not None:
        places = (u - origin) / coarse
        on = np.abs(places - np.round(places)) < 1e-6
        chosen[on] = frequent[on] & _peaks(np.round(places[on]), counts[on], n)
    if step is None:
        chosen |= frequent & ~on
        for bound in (low, high):
            if bound is not None:
                chosen |= u == bound
    else:
        chosen[~on] = frequent[~on] & _peaks(np.round((u[~on] - origin) / step), counts[~on], n)
    chosen |= _sentinels(u, counts, values)
    if chosen.sum() > _MOST_ATOMS:
        chosen &= counts >= np.sort(counts[chosen])[-_MOST_ATOMS]
    rest = u[~chosen]
    too_few = len(rest) < 2 or counts[~chosen].sum() < max(3, min(_LEAST, 0.5 * n))
    if too_few and len(u) <= 2 * _MOST_ATOMS:
        return _plain(u), False
    return _plain(u[chosen]), True


def _peaks(k: NDArray[np.float64], counts: NDArray[Any], rows: int) -> NDArray[np.bool_]:
    """Which places k of a lattice stand out from the ten around them; rows of the whole column."""
    total = np.concatenate([[0], np.cumsum(counts)])
    around = total[np.searchsorted(k, k + 5, "right")] - total[np.searchsorted(k, k - 5, "left")]
    usual = np.maximum((around - counts) / 10, 0.1)
    # What a smooth mass loses on the peak, less what it could give elsewhere.
    gain = counts * np.log(counts / usual) - (counts - usual)
    return (counts > _PEAK * usual) & (gain > max(_PEAK_GAIN * rows, _CHANCE))


def _sentinels(u: NDArray[Any], counts: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """First or last values, repeated or all nines, far from all others: such as -999 for "unknown"."""
    chosen = np.zeros(len(u), dtype=bool)
    if len(u) < _SURE:
        return chosen
    quarter, half = np.quantile(values, [0.25, 0.75])
    for end, gap in ((0, float(u[1] - u[0])), (-1, float(u[-1] - u[-2]))):
        usual = float(np.median(np.diff(u)))
        known = abs(float(u[end])) in _NINES
        chosen[end] = (known or counts[end] >= _SENTINEL) and gap > 0.5 * float(half - quarter) and gap > 10 * usual
    return chosen


def _whole(u: NDArray[np.int64]) -> tuple[int, int]:
    """Distinct sorted integers -> step, origin."""
    step = 1
    if len(u) >= _SURE:
        step = max(int(np.gcd.reduce(np.diff(u))), 1)
    return step, int(u[0]) % step if step > 1 else 0


def _any_step(u: NDArray[np.float64], exact: float) -> tuple[float, float] | None:
    """A lattice of any step and origin, such as that of whole numbers that were standardised."""
    gaps = np.diff(u)
    gaps = gaps[gaps > 20 * exact]
    if len(gaps) < _SURE - 1:
        return None
    # From the small gaps to the wide ones: each tells the step more precisely.
    gaps = np.sort(gaps)
    step = float(gaps[0])
    for _ in range(6):
        near = gaps[gaps < 20 * step]
        multiples = np.round(near / step)
        if np.abs(near / step - multiples).max() > 0.1:
            return None
        step = float((near * multiples).sum() / (multiples**2).sum())
    k = np.concatenate([[0.0], np.cumsum(np.round(np.diff(u) / step))])
    for _ in range(3):
        slope, start = np.polyfit(k, u, 1)
        if slope <= 0:
            return None
        k = np.round((u - start) / slope)
    slope, start = (float(v) for v in np.polyfit(k, u, 1))
    if np.abs(u - start - slope * k).max() > 0.02 * slope + 4 * exact or len(np.unique(k)) < len(u) * 0.99:
        return None
    return snapped(slope, start)


def _repeated_step(values: NDArray[Any]) -> tuple[float, float] | None:
    """The lattice of most of the values that repeat, where it holds half of the rows and others lie between."""
    u, counts = np.unique(values, return_counts=True)
    repeated = u[counts >= _REPEATS]
    if len(repeated) < _SURE or u[0] == u[-1]:
        return None
    gaps = np.diff(repeated)
    ordered = np.sort(gaps)
    # The commonest gap, to a thousandth of itself; where it is found first, the lattice has a value.
    ends = np.searchsorted(ordered, 1.001 * ordered, "right")
    step = float(ordered[int((ends - np.arange(len(gaps))).argmax())])
    origin = float(repeated[int(np.abs(gaps - step).argmin())])
    for tolerance in (0.1, 0.02, 0.005):
        k = np.round((repeated - origin) / step)
        on = np.abs((repeated - origin) / step - k) < tolerance
        if on.sum() < _SURE:
            return None
        step, origin = (float(v) for v in np.polyfit(k[on], repeated[on], 1))
        if not step > 0:
            return None
    places = (values - origin) / step
    return (step, origin) if (np.abs(places - np.round(places)) < _ON_STEP).mean() >= 0.5 else None


def spelled(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values rounded to so many significant digits."""
    u, at = np.unique(values, return_inverse=True)
    return np.array([float(f"{v:.{digits}g}") for v in u.tolist()])[at.reshape(values.shape)]


def _tidy(value: float) -> float:
    """The decimal that a value is but for the rounding of products such as 3 * 0.1."""
    near = round(value, 12)
    return near if abs(near - value) <= 1e-14 * abs(value) else value


def _plain(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.tolist())
