"""Lattices: values at equal distances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Facts, Mask, Values, fact, is_number, is_positive, optional
from .written import spelled

LARGEST = 2.0**63 - 1024  # float64 that an int64 holds
_MOST_DECIMALS, _ON_DECIMAL = 10, 1e-12  # of a lattice of decimals, and of its step, from them


@dataclass(frozen=True)
class Lattice(Facts):
    """The values origin + k step.

    Attributes:
        step: distance of neighbouring values. Dates count in the unit of their dtype.
        origin: one of the values.
        digits: significant ones of the values, where decimals of the step do not tell them.
    """

    step: float = fact(is_positive)
    origin: float = fact(is_number, 0)
    digits: int | None = fact(optional(lambda v: type(v) is int and 1 <= v <= 17), None)

    @property
    def whole(self) -> bool:
        """Whether all values are integers."""
        return float(self.step).is_integer() and float(self.origin).is_integer()

    def count(self, values: NDArray[Any]) -> Values:
        """Values (N,) on the lattice -> their number of steps from the origin."""
        return steps_from(values, self.step, self.origin)

    def value(self, k: Values) -> NDArray[Any]:
        """The inverse of `count`, for whole numbers k (N,)."""
        if not self.whole:
            return self.decimal(self.origin + k * self.step)
        step, origin = int(self.step), int(self.origin)
        ends = (-(2**63) - origin) // step + 1, (2**63 - 1 - origin) // step
        if ((k >= max(ends[0], -LARGEST)) & (k <= min(ends[1], LARGEST))).all():
            return origin + k.astype(np.int64) * step
        return self.origin + k * self.step  # no int64 holds them all

    def decimal(self, values: Values) -> Values:
        """Values (N,) as the nearest decimals, which are what the data held: a step such as 0.1 is no binary number."""
        if self.digits is not None:
            return spelled(values, self.digits)
        places = self.decimals
        return np.round(values, min(max(6, 10 - math.ceil(math.log10(self.step))), 15) if places is None else places)

    @property
    def decimals(self) -> int | None:
        """How many the values have; None where the step is no decimal."""
        ends = np.array([self.step, self.origin])
        off = (float(np.abs(np.round(ends, d) - ends).max()) for d in range(_MOST_DECIMALS))
        return next((d for d, error in enumerate(off) if error <= _ON_DECIMAL * self.step), None)

    def holds(self, values: NDArray[Any]) -> Mask:
        """Which values (N,) are on the lattice."""
        places = (values - self.origin) / self.step
        return np.abs(places - np.round(places)) < 1e-6


def steps_from(values: NDArray[Any], step: float, origin: float) -> NDArray[np.float64]:
    """Values (N,) on a lattice -> their whole number of steps from its origin, exact for integers as far as 2^53 steps.

    Args:
        values: int64 or float64.
        step: of the lattice.
        origin: one of its values.
    """
    gaps = values.astype(np.float64) - origin
    whole = values.dtype == np.int64 and float(step).is_integer() and float(origin).is_integer()
    if whole and np.abs(gaps).max(initial=0.0) <= LARGEST:
        return ((values - int(origin)) // int(step)).astype(np.float64)
    return np.round(gaps / step)
