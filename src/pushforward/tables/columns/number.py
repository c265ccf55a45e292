"""Columns of numbers: how values are counted on a lattice, bounded, mapped, encoded and decoded."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from ...io.notation import Notation, is_pattern
from .base import (
    Cells,
    Kind,
    Mask,
    Plain,
    Request,
    States,
    Values,
    each,
    fact,
    is_flag,
    is_number,
    log_logistic,
)
from .base import optional as _optional
from .lattice import Lattice
from .marginal import MarginalTransform
from .written import is_rounding, rounded

_ON_STEP = 1e-3  # of a step, from a bound: a step and an origin that were estimated are off by some of it
_REACH, _HEAVY_REACH = 3.0, 10.0  # extents of the data beyond which nothing is sampled
_SHORT_FLOATS = {"float": np.float32, "halffloat": np.float16}  # of Arrow, of numpy


@dataclass(frozen=True, kw_only=True)
class Number(Plain):
    """A kind of numbers. Each has its bounds, and may have a lattice: values are then a mass, not a density.

    Attributes:
        lattice: on which values lie; None where they are continuous.
        knots: of `marginal`; without any, the values have no number to model, but single values alone.
        heavy: see `MarginalTransform`.
        extent: the smallest and the largest value seen.
        roundings: that values went through, see `written.roundings`, but for what the lattice tells.
        form: how texts write them, see `io.notation`; None where they came as numbers.
        low: lower bound of the values, None for none: a continuous one lies strictly above it.
        high: upper bound.
        on_lattice_alone: whether values beside the lattice are impossible, not rounded.
        is_circular: whether the largest value lies next to the smallest.
    """

    lattice: Lattice | None = fact(lambda v: v is None or isinstance(v, Lattice), None, of=Lattice)
    knots: tuple[tuple[float, float, float], ...] = fact(each(each(is_number, 3)), ())
    heavy: tuple[bool, bool] = fact(each(is_flag, 2), (False, False))
    extent: tuple[float, float] | None = fact(_optional(each(is_number, 2)), None)
    roundings: tuple[str, ...] = fact(each(is_rounding), ())
    form: str | None = fact(_optional(is_pattern), None)

    low: ClassVar[float | None] = None
    high: ClassVar[float | None] = None
    on_lattice_alone: ClassVar[bool] = False
    is_circular: ClassVar[bool] = False
    has_sign: ClassVar[bool] = True  # whether zero is no value like any other

    @classmethod
    @abstractmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """The column as this kind, None where it is none."""

    def is_consistent(self) -> bool:
        """Whether the facts agree with each other."""
        knots = self.knots
        steady = all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(knots)) and all(k[2] > 0 for k in knots)
        return steady and len(knots) != 1 and (self.low is None or self.high is None or self.low < self.high)

    @property
    def is_complete(self) -> bool:
        """Whether there is a map of the values."""
        return self.has_number

    @property
    def step(self) -> float | None:
        """Distance of neighbouring values, None where they are continuous."""
        return None if self.lattice is None else self.lattice.step

    @property
    def coarse(self) -> Lattice | None:
        """The widest lattice that many values keep to; None by itself."""
        return None

    @property
    def atoms(self) -> tuple[float, ...]:
        """Values with a state of their own; none by itself."""
        return ()

    @property
    def num_values(self) -> int:
        """One state, of all values."""
        return 1

    @property
    def has_number(self) -> bool:
        """Whether values have a number to model."""
        return bool(self.knots)

    @property
    def num_numbered_states(self) -> int:
        """One state has a number."""
        return int(self.has_number)

    @property
    def cell(self) -> float:
        """Width of the cell of a value as `marginal` takes it; 0 for a continuous one."""
        return 0.0 if self.lattice is None else 1.0

    @property
    def is_dequantized(self) -> bool:
        """Whether numbers stand for cells."""
        return self.lattice is not None

    @property
    def marginal(self) -> MarginalTransform:
        """The map of values as `count` gives them to about a standard normal."""
        return MarginalTransform(*self.bounds, self.knots, self.heavy)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds of what `marginal` maps: values, or on a lattice the cells [k, k + 1) counted in steps from origin."""
        low, high = self.low, self.high
        if self.lattice is None:
            return low, high
        step, origin = self.lattice.step, self.lattice.origin
        return (
            None if low is None else float(math.ceil((low - origin) / step - _ON_STEP)),
            None if high is None else float(math.floor((high - origin) / step + _ON_STEP) + 1),
        )

    @property
    def limits(self) -> tuple[float, float]:
        """Between what values of the dtype lie, and of digits of one length."""
        width = 1 if self.form is None else Notation.of(self.form).width
        if width > 1:
            return 0, 10**width - 1
        if not self.dtype.startswith(("int", "uint")):
            return -math.inf, math.inf
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def reach(self) -> tuple[float, float]:
        """Between what a number is sampled, as `marginal` takes it."""
        return self.reach_of(self.cell)

    def reach_of(self, cell: float) -> tuple[float, float]:
        """What was seen and three times as much to both sides, for cells of a width; ten times where a tail is heavy.

        Within what the dtype can hold.
        """
        if self.extent is None:
            return -math.inf, math.inf
        first, last = self.extent
        if self.lattice is not None:
            first, last = ((v - self.lattice.origin) / self.lattice.step for v in self.extent)
        below, above = ((last - first + cell) * (_HEAVY_REACH if heavy else _REACH) for heavy in self.heavy)
        least, most = (float(self.count(np.array([v]))[0]) for v in self.limits)
        return max(first - below, least), min(last + above, most)

    def has_seen_sign(self, w: Values) -> Mask:
        """Which values, w (N,) as `count` gives them, are negative, zero or positive as some that were seen."""
        if self.extent is None or not self.has_sign:
            return np.ones(len(w), dtype=bool)
        zero, width = 0.0, 0.0
        if self.lattice is not None:
            zero, width = -float(self.lattice.origin) / self.lattice.step, _ON_STEP
        with np.errstate(invalid="ignore"):
            is_negative, is_positive = w < zero - width, w > zero + width
        smallest, largest = self.extent
        if smallest > 0 or largest < 0:
            return is_positive if smallest > 0 else is_negative
        return (~is_negative | (smallest < 0)) & (~is_positive | (largest > 0))

    def count(self, values: NDArray[Any]) -> Values:
        """Values (N,) as `marginal` takes them; they are not checked."""
        return values.astype(np.float64) if self.lattice is None else self.lattice.count(values)

    def places(self, values: NDArray[Any]) -> tuple[States, Values]:
        """-> which lattice values (N,) are on, by number, and their places on it, NaN for continuous ones."""
        place = np.full(len(values), np.nan) if self.lattice is None else self.count(values)
        return np.zeros(len(values), dtype=np.int64), place

    def grid(self, level: int) -> tuple[float, float]:
        """-> where the cell of place 0 of a lattice, by number, begins, and the distance to the next: 0 for no lattice.

        The cells of a lattice follow each other without gaps.
        """
        return 0.0, self.cell

    def key(self, values: NDArray[Any]) -> Values:
        """What is the same for values (N,) that are the same cell; NaN for what is none."""
        if self.lattice is None:
            return values.astype(np.float64)
        return np.where(self._is_on_lattice(values), self.count(values), np.nan)

    def fits(self, values: NDArray[Any], w: Values, bounds: tuple[float | None, float | None]) -> Mask:
        """Which values (N,), and w as `count` gives them, are possible within the bounds of what `marginal` maps."""
        low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
        if self.lattice is None:
            return (values > low) & (values < high)
        return (w >= low) & (w < high) & self._is_on_lattice(values)

    def _is_on_lattice(self, values: NDArray[Any]) -> Mask:
        """Which values (N,) the lattice holds; all where others are rounded to it."""
        if self.lattice is None or not self.on_lattice_alone:
            return np.ones(len(values), dtype=bool)
        is_exact = values.dtype == np.int64
        return (values - self.lattice.origin) % self.lattice.step == 0 if is_exact else self.lattice.holds(values)

    def read(self, column: Column) -> NDArray[Any]:
        """The values (N,) of cells, int64 or float64, of any value where missing.

        Raises:
            ValueError: they are no numbers, or infinite.
        """
        values = column.require_numbers(self.form)
        if self.dtype in _SHORT_FLOATS and values.dtype == np.float64:  # texts of them have their shortest digits
            with np.errstate(over="ignore"):
                return values.astype(_SHORT_FLOATS[self.dtype]).astype(np.float64)
        return values.astype(np.float64) if values.dtype == np.uint64 else values

    def write(self, values: NDArray[Any], is_missing: Mask) -> Column:
        """Values (N,) as a column of the dtype, written as the data were; none becomes a bound by it."""
        if self.roundings:
            shorter = rounded(values.astype(np.float64), self.roundings)
            values = np.where((shorter == self.low) | (shorter == self.high), values, shorter)
        return Column.of_numbers(self.name, values, is_missing, self.dtype, self.form)

    def encode_present(self, column: Column) -> Cells:
        """See `encode_values`."""
        return self.encode_column(column, self.encode_values)

    def encode_column(self, column: Column, encode_values: Callable[[NDArray[Any]], Cells]) -> Cells:
        """The cells of a column, whose values are encoded by this kind or by a wrapper around it."""
        return encode_values(self.read(column))

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """Values (N,), none missing, as cells."""
        w = self.count(values)
        good = self.fits(values, w, self.bounds)
        base = np.where(good, w, np.nan) if self.has_number else np.full(len(values), np.nan)
        return Cells(np.where(good, 0, -1), base, np.full(len(values), self.cell), np.zeros(len(values)))

    def describe_invalid(self, column: Column) -> str:
        """The first of the impossible values."""
        return f"values it cannot have, such as {self.show(self.read(column)[0].item())}"

    def log_unseen(self, column: Column) -> Values:
        """Half of what was never seen is missing cells, where none were seen; numbers follow `log_elsewhere`."""
        return among_unseen(self, column, self.log_elsewhere(self.read(column).astype(np.float64)))

    def log_elsewhere(self, values: Values) -> Values:
        """Log-mass (on a lattice) or log-density of values (N,) that none of those seen is like: it falls off wide."""
        low, high = (-1.0, 1.0) if self.extent is None else self.extent
        step = self.step or 0.0
        scale = max((high - low) / 2, step) or 1.0
        return log_logistic(values, (low + high) / 2, scale) + (math.log(step) if step else 0.0)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """See `decode_values`."""
        return self.write(self.decode_values(state, number), (state == self.num_values) & self.missing)

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values (N,) within the bounds and on the lattice, from any w (N,)."""
        low, high = self.bounds
        w = np.nan_to_num(w)
        if self.lattice is not None:
            w = np.floor(w)
            least, most = low, None if high is None else high - 1
        else:
            least = None if low is None else np.nextafter(low, np.inf)
            most = None if high is None else np.nextafter(high, -np.inf)
        w = w if least is None and most is None else np.clip(w, least, most)
        return w if self.lattice is None else self.lattice.value(w)

    def accepts(self, state: States, number: Values) -> Mask:
        """Which drawn numbers lie within `reach`, and stand for values of a sign that was seen."""
        if not self.has_number:
            return state != 0
        low, high = self.reach
        at = number if self.lattice is None else np.floor(number)
        with np.errstate(invalid="ignore"):
            good = (number >= low) & (number <= high) & self.has_seen_sign(at)
        return (state >= self.num_numbered_states) | good

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """The value, and whether it is missing where that may be."""
        return number_features(self)

    def features(self, column: Column) -> Values:
        """Values (N, 1), with missing cells in the middle; (N, 2) where there may be some, which are indicated."""
        if self.has_number:
            middle = float(self.decode_values(np.zeros(1, dtype=np.int64), self.marginal.inverse(np.zeros(1)))[0])
        else:
            middle = 0.0 if self.extent is None else sum(self.extent) / 2
        return with_indicator(self, self.read(column), column.is_missing, middle)

    def is_like(self, other: Kind) -> bool:
        """Whether the facts are the same but for those of the map."""
        if not isinstance(other, Number) or self.has_number != other.has_number:
            return False
        return self == other.with_map(self.knots, self.heavy)

    def without_spline(self) -> Kind:
        """The same with a line in place of the spline."""
        return replace(self, knots=self.marginal.straightened()) if self.has_number else self

    def parts(self) -> list[str]:
        """The extent, the bounds and the step."""
        return self.spans() + ([] if self.lattice is None else self.steps())

    def spans(self) -> list[str]:
        """The extent, and what bounds it."""
        written = f", written {self.form}" if self.form else ""
        if self.extent is None:
            return []
        low, high = map(self.show, self.extent)
        if low == high and self.extent[0] < self.extent[1]:  # they differ in digits that are not shown
            low, high = map(str, self.extent)
        return [f"{low} to {high}{written}"]

    def steps(self) -> list[str]:
        """The step of the lattice."""
        return [f"in steps of {self.step_text}"]

    @property
    def step_text(self) -> str:
        """The step of the lattice, for people."""
        return f"{self.step:.6g}"

    def with_map(self, knots: Any, heavy: tuple[bool, bool]) -> Self:
        """The same with a marginal map."""
        return replace(self, knots=knots, heavy=heavy)


def among_unseen(kind: Kind, column: Column, elsewhere: Values) -> Values:
    """Log-mass (N,) of cells of numbers among all that were never seen: `elsewhere` (N,) of those that hold one."""
    half = 0.0 if kind.missing else -math.log(2)
    return half + np.where(column.is_missing, 0.0, elsewhere)


def number_features(kind: Kind) -> list[tuple[str, bool]]:
    """The feature names of a column of numbers."""
    return [(kind.name, False)] + [(f"{kind.name} missing", True)] * kind.missing


def with_indicator(kind: Kind, values: NDArray[Any], is_missing: Mask, middle: float) -> Values:
    """Values (N,), a middle one where missing, and an indicator of these where cells may be: (N, 1 or 2)."""
    filled = np.where(is_missing, middle, values.astype(np.float64))
    return np.stack([filled, is_missing.astype(np.float64)], 1) if kind.missing else filled[:, None]


def as_number(kind: Kind) -> Number:
    """A kind of numbers, wrapped or not, as what has the contract of `Number`."""
    return cast(Number, kind)
