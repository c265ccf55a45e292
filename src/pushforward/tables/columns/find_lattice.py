"""Finding the lattice that rounded values lie on, and the single values that hold a large share of the rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .lattice import steps_from
from .written import is_single

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
_GAIN = 0.1  # nats a row, the least for which a coarse step is worth a state,
_FURTHER_GAIN = 0.03  # and for which others beside it are
_OFTEN = 0.2  # of the rows are on a coarse step
_SIGMAS, _OTHER_SIGMAS = 1.5, 3.0  # by which multiples stand out from chance, and lattices of other origins
_REPEATS = 3  # rows of a value
_ON_STEP = 1e-6  # of a step, from its values
_ON_FINER, _FINEST = 1e-3, 100  # of a finer step; the most of them in a coarse one
_NEARLY = 1e-9
_SUMS = 8  # units in the last place of the largest value, by which values may be off
_SENTINEL = 3  # rows of an isolated first or last value, such as 0
_NINES = (99.0, 999.0, 9999.0, 99999.0)  # as such a value, of either sign, one row is enough


def find_lattice(values: NDArray[Any]) -> tuple[float, float] | None:
    """The (step, origin) of the lattice that values (N,) lie on; None for continuous ones.

    Integers always lie on one; its step is more than 1 where at least 20 distinct values have a common divisor.
    Decimals do where they have ties, so that a density over them would grow without bound. They may be off by what
    adding up some numbers, or float32, leaves.

    Args:
        values: int64 or float64.
    """
    u = np.unique(values)
    if values.dtype == np.int64:
        return _whole(u)
    if len(values) < 20 or len(u) < 2:
        return None
    largest = max(abs(float(u[0])), abs(float(u[-1])))
    errors = [_SUMS * 2.0**-52 * largest] + [2 * 2.0**-23 * largest] * is_single(u)
    for error in errors:
        places = _decimal_places(u, error)
        if places is not None:
            decimals, whole = places
            whole = np.unique(whole)
            step, origin = _whole(whole)
            if decimals == 0:
                return step, origin
            return (step / 10**decimals, origin / 10**decimals) if len(whole) <= _TIES * len(values) else None
    is_tied = len(u) <= _TIES * len(values)
    return _any_step(u, errors[-1] / 2) if is_tied and len(u) >= _SURE else None


def _decimal_places(u: NDArray[np.float64], error: float) -> tuple[int, NDArray[np.int64]] | None:
    """-> the fewest decimals that distinct values (U,) have but for an error, and the values without their point."""
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = u * 10.0**decimals
        if error * 10.0**decimals > 0.04 or abs(scaled).max() > 2**53:
            break
        if np.abs(scaled - np.round(scaled)).max() <= error * 10.0**decimals:
            return decimals, np.round(scaled).astype(np.int64)
    return None


def find_coarse(values: NDArray[Any], step: float | None, origin: float) -> tuple[list[float], float] | None:
    """The (steps, origin) of wider lattices that many of the values (N,) keep to; None where none stands out.

    Examples are whole numbers among decimals, or prices that mostly end in 50, of which many end in 00. Each step is a
    multiple of the one before it.

    Args:
        values: int64 or float64.
        step: of their lattice, None for continuous ones.
        origin: of their lattice.
    """
    if len(values) < _MANY:
        return None
    if step is not None:
        return _heaps(values, step, origin, _GAIN)
    coarse = next((c for decimals in range(5) if (c := _decimals(values, decimals)) is not None), None)
    coarse = _repeated_step(values) if coarse is None else coarse
    if coarse is None:
        return None
    wider = _heaps(values[_is_on(values, *coarse)], *coarse, _FURTHER_GAIN)
    return ([coarse[0]], coarse[1]) if wider is None else ([coarse[0], *wider[0]], wider[1])


def _decimals(values: NDArray[Any], decimals: int) -> tuple[float, float] | None:
    """The lattice of so many decimals, where half of the values or more are on it and repeat."""
    step = 10.0**-decimals
    u, counts = np.unique(values, return_counts=True)
    few = counts <= _CROWD * len(values)  # a crowd is an atom, which makes no step
    u, counts = u[few], counts[few]
    on = _is_on(u, step, 0.0)
    rows = counts[on].sum()
    return (step, 0.0) if rows and rows >= 0.5 * counts.sum() and on.sum() <= _TIES * rows else None


def _heaps(values: NDArray[Any], step: float, origin: float, least: float) -> tuple[list[float], float] | None:
    """The (steps, origin) of the lattices that values (N,) of a lattice keep to, the first worth `least` nats a row.

    One after another, the lattice is taken that shortens the description of a row most: by the gaps that it leaves
    between the values of each lattice, less what it costs to say which lattice a value is on.
    """
    k = steps_from(values, step, origin)
    if np.abs(k).max(initial=0.0) > 2**53:  # what float64 holds are multiples of two there, and of more
        return None
    k = k.astype(np.int64)
    places, counts = np.unique(k, return_counts=True)
    few = counts <= _CROWD * len(k)  # a crowd is an atom, whatever it is a multiple of
    places, counts = places[few], counts[few]
    tens = [round(t / step) for t in (10.0**d for d in range(-6, 5)) if abs(round(t / step) * step / t - 1) < 1e-9]
    multiples = sorted({g for g in (*_MULTIPLES, *tens) if g > 1})
    chain: list[int] = []
    residue, gain = 0, 0.0
    while len(places):
        best = max((_tried(places, counts, chain, residue, g) for g in multiples), default=(0.0, [], 0))
        if best[0] < gain + (least if not chain else max(_FURTHER_GAIN, _CHANCE / len(k))):
            break
        gain, chain, residue = best
    if not chain:
        return None
    first, steps = origin + residue * step, [g * step for g in chain]
    return (steps, first) if isinstance(step, int) else ([_tidy(g) for g in steps], _tidy(first))


def _tried(
    places: NDArray[np.int64], counts: NDArray[np.int64], chain: list[int], residue: int, g: int
) -> tuple[float, list[int], int]:
    """-> the nats a row that lattices of multiples save with another one, they all, and the residue of the widest.

    Args:
        places: (U,), distinct.
        counts: (U,), rows of each.
        chain: multiples that there are, each of the one before.
        residue: of the widest of them.
        g: the multiple to be added.
    """
    wider = sorted({*chain, g})
    none = 0.0, chain, residue
    if g in chain or any(b % a for a, b in itertools.pairwise(wider)):
        return none
    if g == wider[-1]:
        on = (places - residue) % chain[-1] == 0 if chain else np.ones(len(places), dtype=bool)
        residues, at = np.unique(places[on] % g, return_inverse=True)
        residue = int(residues[np.bincount(at, weights=counts[on]).argmax()])
    level = np.zeros(len(places), dtype=np.int64)
    for multiple in wider:
        level += (places - residue) % multiple == 0
    rows = np.array([counts[level == k].sum() for k in range(len(wider) + 1)], dtype=float)
    # One frequent value makes no step.
    rows[1:] -= [counts[level == k].max(initial=0) for k in range(1, len(wider) + 1)]
    several = all((level == k).sum() >= _SEVERAL for k in range(1, len(wider) + 1))
    at, sigmas = wider.index(g) + 1, _SIGMAS if residue % g == 0 else _OTHER_SIGMAS
    if not several or rows[1:].sum() < _OFTEN * rows.sum() or rows[0] == 0:
        return none
    if _preference(level, counts, at, [1, *wider]) < sigmas:
        return none
    share = rows[rows > 0] / rows.sum()
    gaps = [b / (b // a - 1) for a, b in itertools.pairwise((1, *wider))] + [wider[-1]]
    gain = float((rows / rows.sum() * np.log(gaps)).sum() + (share * np.log(share)).sum())
    return gain, wider, residue


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


Places = Callable[[NDArray[Any]], tuple[NDArray[np.int64], NDArray[np.float64]]]


def find_atoms(
    values: NDArray[Any], low: float | None, high: float | None, places_of: Places | None = None
) -> tuple[tuple[float, ...], bool]:
    """Values that hold a large share of the rows, and whether others are left for the flow.

    Args:
        values: (N,), without missing cells.
        low: declared lower bound: a continuous density has no room on it, so values there are an atom.
        high: declared upper bound, likewise.
        places_of: `Number.places`; None where all are continuous.
    """
    u, counts = np.unique(values, return_counts=True)
    n = len(values)
    if len(u) <= _FEW and n >= _PER_VALUE * len(u):
        return _plain(u), False
    frequent = counts >= max(_LEAST, _SHARE * n)
    chosen = np.zeros(len(u), dtype=bool)
    level, place = (np.zeros(len(u)), np.full(len(u), np.nan)) if places_of is None else places_of(u)
    for k in np.unique(level):
        on = level == k
        if np.isnan(place[on]).any():
            chosen[on] = frequent[on] | np.isin(u[on], [bound for bound in (low, high) if bound is not None])
        else:
            chosen[on] = frequent[on] & _peaks(place[on], counts[on], n)
    chosen |= _sentinels(u, counts, values)
    if chosen.sum() > _MOST_ATOMS:
        chosen &= counts >= np.sort(counts[chosen])[-_MOST_ATOMS]
    rest = u[~chosen]
    too_few = len(rest) < 2 or counts[~chosen].sum() < max(3, min(_LEAST, 0.5 * n))
    if too_few and len(u) <= 2 * _MOST_ATOMS:
        return _plain(u), False
    return _plain(u[chosen]), True


def _preference(level: NDArray[np.int64], counts: NDArray[np.int64], at: int, multiples: list[int]) -> float:
    """By how many standard deviations a lattice has more, and more frequent, values than chance would put there.

    Args:
        level: (U,), the widest lattice of each distinct value.
        counts: (U,), rows of each.
        at: the lattice in question.
        multiples: of the finest lattice, from narrow to wide.
    """
    narrower, own = multiples[at - 1 : at + 1]
    chance = narrower / own
    if at + 1 < len(multiples):  # values on a wider one are no evidence
        chance = (multiples[at + 1] // own - 1) / (multiples[at + 1] // narrower - 1)
    # Square roots of counts, so that few frequent values neither make a preference nor hide one.
    either = (level == at) | (level == at - 1)
    excess = float(np.sqrt(counts[level == at]).sum() - chance * np.sqrt(counts[either]).sum())
    return excess / max(chance * (1 - chance) * float(counts[either].sum()), 1e-9) ** 0.5


def _is_on(values: NDArray[Any], step: float, origin: float) -> NDArray[np.bool_]:
    places = (values - origin) / step
    return np.abs(places - np.round(places)) < _ON_STEP


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
    """Distinct sorted integers -> step, origin, which is one of them where float64 does not hold them to the unit."""
    step = max(int(np.gcd.reduce(np.diff(u))), 1) if len(u) > 1 else 1
    if len(u) < _SURE and (len(u) - 1) * math.log(step) < _CHANCE:  # a common divisor by chance
        step = 1
    if max(-int(u[0]), int(u[-1])) > 2**53:
        return step, int(u[len(u) // 2])
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


def _tidy(value: float) -> float:
    """The decimal that a value is but for the rounding of products such as 3 * 0.1."""
    near = round(value, 12)
    return near if abs(near - value) <= 1e-14 * abs(value) else value


def _plain(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.tolist())
