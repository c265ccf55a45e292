"""Columns of numbers that often keep to wider lattices than their own, as people round them: heaping."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Cells, Mask, States, Values, each, fact, is_flag, is_positive
from .lattice import Lattice
from .marginal import MarginalTransform
from .number import Number
from .wrappers import NumberWrapper

_NEAR = 1e-6  # of a step: what is a whole number of them


@dataclass(frozen=True, kw_only=True)
class WithCoarse(NumberWrapper):
    """Numbers that often keep to lattices wider than their own, each of them a part of the one before.

    Sums of money are whole numbers, many of them tens, many of these hundreds. The state of a value is the widest
    lattice that it is on. The values of a state leave out those of the next wider one: in each step of it, their cells
    are as many equal parts as there are values of them, so that any number stands for a value of its state.

    Attributes:
        inner: the kind of numbers.
        coarse: the widest lattice; its origin is that of the inner lattice, if there is one.
        between: steps of the lattices between the inner one and the widest, from narrow to wide.
        is_even: whether cells are equal parts as above; in older files they are those of each lattice, and draws whose
            cell belongs to a wider one are rejected.
    """

    tag = "with_coarse"

    coarse: Lattice = fact(lambda v: isinstance(v, Lattice), of=Lattice)
    between: tuple[float, ...] = fact(each(is_positive), ())
    is_even: bool = fact(is_flag, False)

    def is_consistent(self) -> bool:
        """Whether the inner kind is one of numbers that are modelled, and the lattices are parts of each other."""
        if not (super().is_consistent() and isinstance(self.inner, Number) and self.inner.has_number):
            return False
        widths = [width for width in self._widths if width]
        return all(b / a > 1.5 and abs(b / a - round(b / a)) < _NEAR * b / a for a, b in itertools.pairwise(widths))

    @property
    def num_values(self) -> int:
        """A state for each lattice: the first of values on none of the wider ones, the last of those on the widest."""
        return len(self.between) + 2

    @property
    def num_numbered_states(self) -> int:
        """All of them have numbers."""
        return self.num_values

    @property
    def is_dequantized(self) -> bool:
        """Numbers stand for cells."""
        return True

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Those of the inner kind, widened to where the cells of the first and the last value end."""
        low, high = self.number.bounds
        last = None if high is None else high - self.number.cell
        widest = self._widths[-1]
        if not self.is_even:
            return low, None if last is None else last + widest
        low, last = (None if w is None else float(self._floor(np.array(w), widest)) for w in (low, last))
        return low, None if last is None else last + widest

    @property
    def marginal(self) -> MarginalTransform:
        """The map of the numbers."""
        return MarginalTransform(*self.bounds, self.number.knots, self.number.heavy)

    @property
    def reach(self) -> tuple[float, float]:
        """Between what a number is sampled."""
        return self.number.reach_of(self._widths[-1])

    def key(self, values: NDArray[Any]) -> Values:
        """As the inner kind."""
        return self.number.key(values)

    def places(self, values: NDArray[Any]) -> tuple[States, Values]:
        """As `Number`: the place of a value among those of its state."""
        w = self.number.count(values)
        level = self._level(w)
        base, width = self._cells(level, w)
        return level, np.where(width > 0, np.round((base - self._start) / np.where(width > 0, width, 1.0)), np.nan)

    def grid(self, level: int) -> tuple[float, float]:
        """As `Number`; in older files the cells of all lattices but the widest leave gaps."""
        if self._has_parts(level):
            wider, _, parts = self._parts(level)
            return self._start, wider / parts
        return self._start, self._widths[-1] if level == self.num_values - 1 else 0.0

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """Values (N,), none missing, as cells."""
        w = self.number.count(values)
        level = self._level(w)
        base, width = self._cells(level, w)
        good = self._is_within(level, w)
        if self.number.lattice is not None:
            good &= self.number.fits(values, w, self.number.bounds)
        return Cells(np.where(good, level, -1), np.where(good, base, np.nan), width, np.zeros(len(values)))

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values (N,) of the lattice that a state tells, within the bounds."""
        level = np.clip(state, 0, self.num_values - 1)
        at = self._values(level, np.nan_to_num(w))
        plain = self.number.decode_values(np.zeros_like(level), at)  # which keeps to the bounds
        if self.number.lattice is not None:
            return plain
        narrowest = replace(self.coarse, step=min(self.between, default=self.coarse.step))
        return np.where(level > 0, np.clip(narrowest.decimal(at), *_open(self.number.bounds)), plain)

    def accepts(self, state: States, number: Values) -> Mask:
        """Numbers whose cell is that of a value of the state, within the bounds."""
        low, high = self.reach
        level = np.minimum(state, self.num_values - 1)
        at = self._values(level, np.nan_to_num(number))
        with np.errstate(invalid="ignore"):
            good = (number >= low) & (number <= high)
        good &= self._is_within(level, at) & (self._level(at) == level) & self.number.has_seen_sign(at)
        return good | (state >= self.num_values)

    @property
    def _widths(self) -> list[float]:
        """Steps of the lattices, 0 for continuous values, counted as `marginal` takes them."""
        step = self.number.step
        wider = (*self.between, self.coarse.step)
        return [self.number.cell, *(width if step is None else float(round(width / step)) for width in wider)]

    @property
    def _start(self) -> float:
        return 0.0 if self.number.lattice is not None else self.coarse.origin

    def _floor(self, w: Values, width: float) -> Values:
        """The value of a lattice at or below w."""
        return np.floor((w - self._start) / width + 1e-9) * width + self._start

    def _level(self, w: Values) -> States:
        """The widest lattice that values w (N,), as `count` gives them, are on; 0 for the inner kind's own."""
        level = np.zeros(len(w), dtype=np.int64)
        for k, width in enumerate(self._widths[1:], 1):
            places = (w - self._start) / width
            off = w % width if self.number.lattice is not None else abs(places - np.round(places)) // _NEAR
            level[off == 0] = k
        return level

    def _is_within(self, level: States, w: Values) -> Mask:
        """Which values w (N,) lie within the bounds; a continuous one lies strictly above the lower one."""
        low, high = _open(self.number.bounds)
        inside = (w > low) & (w < high)
        if self.number.lattice is not None:
            return inside | (w == low)
        return inside | ((level > 0) & ((w == low) | (w == high)))

    def _parts(self, level: int) -> tuple[float, float, int]:
        """Of a level whose cells fill the steps of the next: that step, its own, and how many cells fill one."""
        own, wider = self._widths[level : level + 2]
        return wider, own, round(wider / own) - 1

    def _has_parts(self, level: int) -> bool:
        return self.is_even and level < self.num_values - 1 and self._widths[level] > 0

    def _cells(self, level: States, w: Values) -> tuple[Values, Values]:
        """Values w (N,) as `count` gives them -> the lower ends of their cells, and their widths."""
        base, width = w.astype(np.float64), np.asarray(self._widths)[level]
        for k in filter(self._has_parts, range(self.num_values)):
            on = level == k
            wider, own, parts = self._parts(k)
            start = self._floor(w[on], wider)
            base[on] = start + (np.round((w[on] - start) / own) - 1) * (wider / parts)
            width[on] = wider / parts
        return base, width

    def _values(self, level: States, w: Values) -> Values:
        """The inverse of `_cells`, of any number in them."""
        at = w.astype(np.float64)
        for k, width in enumerate(self._widths):
            on = level == k
            if self._has_parts(k):
                wider, own, parts = self._parts(k)
                start = self._floor(w[on], wider)
                part = np.clip(np.floor((w[on] - start) / (wider / parts) + 1e-9), 0, parts - 1)
                at[on] = start + (part + 1) * own
            elif width:
                at[on] = self._floor(w[on], width)
        return at

    def parts(self) -> list[str]:
        """All steps, from wide to narrow."""
        number = self.number
        other = "continuous" if number.lattice is None else f"of {number.step_text}"
        steps = [f"{step:g}" for step in (self.coarse.step, *reversed(self.between))]
        often = steps[0] if len(steps) == 1 else f"{', '.join(steps[:-1])} or {steps[-1]}"
        return [*number.spans(), f"often in steps of {often}, else {other}"]


def _open(bounds: tuple[float | None, float | None]) -> tuple[float, float]:
    """Bounds, infinite where there are none."""
    return -math.inf if bounds[0] is None else bounds[0], math.inf if bounds[1] is None else bounds[1]
