"""Columns of numbers on a lattice some of whose values come far more often than their neighbours."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .base import Cells, Mask, States, Values, each, fact, is_number, is_positive
from .number import Number, as_number
from .wrappers import NumberWrapper

_NEIGHBOURS = (40, 20, 10, 5, 2)  # values to each side, over which frequencies are averaged
_WIDE = 5  # of them at least for the average that is left to the inner density, which must be smooth
_PRIORS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)  # rows that the average counts as
_DISCOUNTS = (0.0, 0.25, 0.5, 0.75, 0.9)  # rows of each value that are left to all, so that new ones have their share
_GAIN, _CHANCE, _SIGMAS = 0.02, 10.0, 1.25  # nats a row, in all, and standard errors, that unequal widths must gain
_CLOSED = 1e-3  # of the width of other cells, that of values with a state of their own
_FEWEST, _MOST = 20, 10_000  # distinct values
_LARGEST = 2.0**51  # places beyond which float64 has no middle of a cell


class _Cells(NamedTuple):
    """Where the cells of values stand: those that were seen, with all others between them of one width.

    Attributes:
        first: the place of the first value that was seen.
        last: that of the last.
        places: (U,) of those that were seen.
        starts: (U,) of their cells.
        widths: (U,) of their cells.
        gap: the width of the cells between.
    """

    first: float
    last: float
    places: Values
    starts: Values
    widths: Values
    gap: float


@dataclass(frozen=True, kw_only=True)
class Uneven(NumberWrapper):
    """Numbers on a lattice whose cells are as wide as their values are frequent, compared with their neighbours.

    The inner density then sees a smooth column, and the mass of a value is its density times the width of its cell:
    identifiers with many rows each, distances on a grid, or sums that are mostly multiples of one price. Values that
    have a state of their own (`WithAtoms`) get next to no width, so that they leave no gap in what the density sees.
    All values together keep the range that they had, and beyond it cells keep their width. Of numbers that keep to
    several lattices (`WithCoarse`), the values of one are meant; each may be wrapped in turn.

    Attributes:
        inner: the kind of numbers, with a lattice.
        places: of the values that were seen on the lattice, counted in steps, in order.
        widths: of their cells, up to a factor.
        gap: width of the cells of the values between them, up to the same factor.
        level: the state of the values.
        gain: nats that the widths are worth for a row of these values that was left out; 0 for equal ones.
    """

    tag = "uneven"

    places: tuple[int, ...] = fact(each(lambda v: type(v) is int))
    widths: tuple[float, ...] = fact(each(is_positive))
    gap: float = fact(is_positive)
    level: int = fact(lambda v: type(v) is int and v >= 0, 0)
    gain: float = fact(is_number, 0.0)

    @classmethod
    def around(cls, number: Number, values: NDArray[Any], atoms: tuple[float, ...] = ()) -> Number | Uneven:
        """A kind of numbers with cells as wide as the frequencies of values (N,) say, where that gains something.

        Args:
            number: of each of its lattices whose cells leave no gaps, the cells are made uneven or left as they are.
            values: (N,), without atoms.
            atoms: values with a state of their own.
        """
        if number.is_circular:
            return number
        level, places = number.places(values)
        atom_level, atom_places = number.places(np.asarray(atoms))
        kind: Number | Uneven = number
        for k in range(number.num_numbered_states):
            if number.grid(k)[1] > 0 and (level == k).any():
                on, gaps = places[level == k], np.sort(atom_places[atom_level == k])
                kind = cls._around(as_number(kind), k, *np.unique(on, return_counts=True), gaps)
        return kind

    @classmethod
    def _around(
        cls, number: Number, level: int, places: Values, counts: NDArray[np.int64], gaps: Values
    ) -> Number | Uneven:
        """The same for the values of one lattice.

        Args:
            number: has the lattice.
            level: the state of its values.
            places: (U,) of the values that were seen, in order.
            counts: (U,), rows of each.
            gaps: places of the atoms on the lattice, in order.
        """
        if not _FEWEST <= len(places) <= _MOST or abs(places).max() > _LARGEST:
            return number
        gaps = gaps[(gaps > places[0]) & (gaps < places[-1])]
        estimate = _estimated(places - np.searchsorted(gaps, places), counts)  # with no gaps where atoms are
        if estimate is None:
            return cls._without_gaps(number, level, places, gaps)
        widths, gap, gain = estimate
        return cls(
            inner=number, places=tuple(int(k) for k in places), widths=tuple(float(f"{width:.4g}") for width in widths),
            gap=gap, level=level, gain=round(gain, 4),
        )  # fmt: skip

    @classmethod
    def _without_gaps(cls, number: Number, level: int, places: Values, gaps: Values) -> Number | Uneven:
        """A kind of numbers with cells of one width from the first of places (U,) to the last, but for gaps (G,)."""
        first, last = places[0], places[-1]
        if not len(gaps) or last - first > _MOST:
            return number
        others = np.setdiff1d(np.arange(first, last + 1), gaps)
        widths = (1.0,) * len(others)
        return cls(inner=number, places=tuple(int(k) for k in others), widths=widths, gap=_CLOSED, level=level)

    def is_consistent(self) -> bool:
        """Whether the state has a lattice without gaps, and there is a width for each of its places, in order."""
        if not (super().is_consistent() and self.inner.has_number and self.level < self.num_numbered_states):
            return False
        ordered = all(a < b for a, b in itertools.pairwise(self.places))
        has_grid = self.number.grid(self.level)[1] > 0 and not self.number.is_circular
        return has_grid and ordered and len(self.places) == len(self.widths) >= 2

    @cached_property
    def _cells(self) -> _Cells:
        places, widths = np.array(self.places, dtype=np.float64), np.array(self.widths)
        between = np.diff(places) - 1
        length = widths.sum() + self.gap * between.sum()
        scale = (places[-1] - places[0] + 1) / length
        widths, gap = widths * scale, self.gap * scale
        starts = places[0] + np.concatenate([[0.0], np.cumsum(widths[:-1] + gap * between)])
        return _Cells(float(places[0]), float(places[-1]), places, starts, widths, float(gap))

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """Values (N,), none missing, as cells."""
        cells = self.number.encode_values(values)
        on = (cells.state == self.level) & ~np.isnan(cells.base)
        start, step = self.number.grid(self.level)
        base, width = self._wide(np.round((cells.base[on] - start) / step))
        cells.base[on], cells.width[on] = start + step * base, step * width
        return cells

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values (N,) in whose cells the numbers lie."""
        return self.number.decode_values(state, self._inner_numbers(state, w))

    def accepts(self, state: States, number: Values) -> Mask:
        """Numbers of values that the inner kind takes."""
        return self.inner.accepts(state, self._inner_numbers(state, number))

    def _inner_numbers(self, state: States, w: Values) -> Values:
        """Numbers w (N,) as the inner kind takes them: in the middle of its cells."""
        start, step = self.number.grid(self.level)
        middle = start + step * (self._even((np.nan_to_num(w) - start) / step) + 0.5)
        return np.where(state == self.level, middle, w)

    def _wide(self, k: Values) -> tuple[Values, Values]:
        """Places k (N,) -> the lower ends of their cells, and their widths."""
        c = self._cells
        at = np.clip(np.searchsorted(c.places, k, "right") - 1, 0, len(c.places) - 1)
        is_seen = c.places[at] == k
        after = c.starts[at] + c.widths[at] + (k - c.places[at] - 1) * c.gap
        is_inside = (k >= c.first) & (k <= c.last)
        base = np.where(is_inside, np.where(is_seen, c.starts[at], after), k)
        return base, np.where(is_inside, np.where(is_seen, c.widths[at], c.gap), 1.0)

    def _even(self, w: Values) -> Values:
        """The place of each cell in which numbers w (N,) lie."""
        c = self._cells
        at = np.clip(np.searchsorted(c.starts, w, "right") - 1, 0, len(c.places) - 1)
        over = w - c.starts[at] - c.widths[at]
        following = np.append(c.places[1:], c.last + 1)[at] - 1
        between = np.minimum(c.places[at] + 1 + np.floor(np.maximum(over, 0.0) / c.gap), following)
        inside = np.where((over < 0) | (following == c.places[at]), c.places[at], between)
        return np.where((w < c.first) | (w >= c.last + 1), np.floor(w), inside)

    def parts(self) -> list[str]:
        """Those of the inner kind, and that values differ in frequency."""
        parts, text = self.number.parts(), "some values more often than others"
        return parts if len(set(self.widths)) == 1 or text in parts else [*parts, text]


def _estimated(places: Values, counts: NDArray[np.int64]) -> tuple[Values, float, float] | None:
    """Widths of cells as the frequencies of values say, or None where they predict rows little better than equal ones.

    The frequency of a value is estimated as (its rows - discount + (prior + discount x U) x average) / (N + prior) for
    U values seen (Pitman and Yor 1997), with the average over the places around it, by the discount, the prior and the
    number of neighbours that predict each row best from all others.

    Args:
        places: (U,) of the values that were seen, in order.
        counts: (U,), rows of each.

    Returns:
        the widths (U,), that of the cells between, and the nats that a row which was left out gains.
    """
    total = int(counts.sum())
    averages = {n: _averages(places, counts, n) for n in _NEIGHBOURS if 4 * n <= len(places)}
    smooth = max((np.log(without) for _, without in averages.values()), key=lambda scores: float(counts @ scores))
    rows, others = total - 1, len(places) - (counts == 1)  # rows and values seen, without one row of each
    tried = [
        (np.log((np.maximum(counts - 1 - d, 0) + (prior + d * others) * without) / (rows + prior)), prior, d, n)
        for n, (_, without) in averages.items() if n >= _WIDE for prior in _PRIORS for d in _DISCOUNTS
    ]  # fmt: skip
    scores, prior, discount, n = max(tried, key=lambda each: float(counts @ each[0]))
    gains = scores - smooth
    gain = float(counts @ gains) / total
    error = float(np.sqrt(np.square(counts * (gains - gain)).sum())) / total
    if gain < max(_GAIN, _CHANCE / total, _SIGMAS * error):
        return None
    gap = (prior + discount * len(places)) / (total + prior)
    return (counts - discount) / averages[n][0] / (total + prior) + gap, gap, gain


def _averages(places: Values, counts: NDArray[np.int64], neighbours: int) -> tuple[Values, Values]:
    """The mean share of the rows that the places around each have, with one row spread over all places.

    Args:
        places: (U,) of the values that were seen, in order.
        counts: (U,), rows of each.
        neighbours: of the values that were seen, how many to each side.

    Returns:
        the shares (U,), and the same without one row of the place in the middle (U,).
    """
    at, sums = np.arange(len(places)), np.concatenate([[0], np.cumsum(counts)])
    lower, upper = np.maximum(at - neighbours, 0), np.minimum(at + neighbours, len(places) - 1)
    rows, around = sums[upper + 1] - sums[lower], places[upper] - places[lower] + 1
    spread = around / (places[-1] - places[0] + 1)
    total = int(sums[-1])
    return (rows + spread) / around / (total + 1), (rows - 1 + spread) / around / total
