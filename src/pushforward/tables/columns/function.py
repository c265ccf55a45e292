"""Columns that are functions of another one: its logarithm, its square, or the same in another unit.

A flow knows such a curve only as a narrow ridge, and samples lie beside it. So the column itself is not modelled: it is
calculated, and a row that breaks the relation is scored as a value that the training never saw.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Kind, Mask, States, Values, each, fact, is_flag, is_number, is_positive, is_text
from .related import Dependent

_NUMBERS = ("integer", "quantised", "real", "positive")
_SAME = 1e-12  # of a value: how far apart two are that are the same but for rounding


@dataclass(frozen=True, kw_only=True)
class Function(Dependent):
    """column = slope * of + intercept, where either side may be a logarithm, but for rounding.

    Attributes:
        inner: the column by itself, as which it is used where it is given.
        of: a column that stands before it in the schema; it has no missing cells.
        of_log: whether it is the logarithm of that column.
        own_log: whether the equation is of this column's logarithm.
        slope: of the line.
        intercept: of the line.
        tolerance: how far a value may be off, as a share of it; on a lattice half a step.
        ties: values on no lattice that came several times, in order. Those calculated that are the same but for
            rounding are given back as they were.
        rest: 0 where the column keeps to it.
    """

    tag = "function"

    of: str = fact(is_text)
    of_log: bool = fact(is_flag)
    own_log: bool = fact(is_flag)
    slope: float = fact(is_number)
    intercept: float = fact(is_number)
    tolerance: float = fact(is_positive)
    ties: tuple[float, ...] = fact(each(is_number), ())

    def is_consistent(self) -> bool:
        """Whether the column is one of numbers, and varies with the other."""
        is_ordered = all(a < b for a, b in itertools.pairwise(self.ties))
        return super().is_consistent() and is_argument(self.inner) and self.slope != 0 and is_ordered

    @property
    def others(self) -> set[str]:
        """The name of the other column."""
        return {self.of}

    def can_follow(self, other: Kind) -> bool:
        """See `is_argument`."""
        return is_argument(other)

    def rest_of(self, columns: Mapping[str, Column]) -> tuple[NDArray[np.int64], Mask]:
        """Whether the column is off (N,), 1 or 0; where a cell of either is missing (N,)."""
        own = columns[self.name]
        values = self.number.read(own).astype(np.float64)
        expected, is_missing = self._expected(columns)
        step = self.number.step
        reach = self.tolerance * np.abs(expected) if step is None else np.full(len(values), (0.5 + 1e-3) * step)
        with np.errstate(invalid="ignore"):
            keeps = np.abs(values - expected) <= reach
        return (~keeps).astype(np.int64), own.is_missing | is_missing

    def decode_in(
        self, state: States, number: Values, rng: np.random.Generator, columns: Mapping[str, Column]
    ) -> tuple[Column, Mask]:
        """The function of the other column, missing where that is; where it is within the bounds of this one (N,)."""
        (expected, is_missing), plain = self._expected(columns), self.number
        values = np.nan_to_num(expected, nan=0.0)
        places = values if plain.lattice is None else plain.lattice.count(values)
        low, high = plain.bounds
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        within = ~np.isnan(expected) & (places < high)
        within &= places > low if plain.lattice is None else places >= low
        values = self._as_seen(values) if plain.lattice is None else plain.lattice.value(places)
        return plain.write(values, is_missing), within | is_missing

    def _as_seen(self, values: Values) -> Values:
        """Calculated values (N,), to the last digit as the data held them where these are known."""
        known = np.array([-np.inf, *self.ties, np.inf])
        at = np.searchsorted(known, values).clip(1)
        below, above = known[at - 1], known[at]
        nearest = np.where(values - below < above - values, below, above)
        return np.where(np.abs(nearest - values) <= _SAME * np.abs(values), nearest, values)

    def _expected(self, columns: Mapping[str, Column]) -> tuple[Values, Mask]:
        """The function of the other column (N,), NaN where it has none; where that is missing (N,)."""
        other = columns[self.of]
        return applied(
            np.asarray(other.require_numbers(), np.float64), self.of_log, self.own_log, self.slope, self.intercept
        ), other.is_missing

    @property
    def formula(self) -> str:
        """As "= exp(logwage)", "= 2.54 inches" or "= age^2"."""
        slope, intercept, of = f"{self.slope:.6g}", f"{self.intercept:.6g}", self.of
        if self.own_log and self.of_log:
            factor = "" if intercept == "0" else f"{np.exp(self.intercept):.6g} "
            return f"= {factor}{of}^{slope}"
        line = f"log({of})" if self.of_log else of
        line = line if slope == "1" else f"{slope} {line}"
        line = line if intercept == "0" else f"{line} + {intercept}".replace("+ -", "- ")
        return f"= exp({line})" if self.own_log else f"= {line}"


def is_argument(kind: Kind) -> bool:
    """Whether a column can be a function of another, or another of it: numbers, none of them missing."""
    return kind.kind in _NUMBERS and not kind.missing and kind.modelled


def applied(values: Values, of_log: bool, own_log: bool, slope: float, intercept: float) -> Values:
    """The function (N,) of values (N,), NaN where there is none.

    Example:
        >>> applied(np.array([0.0, 1.0]), False, True, 1.0, 0.0).round(3)
        array([1.   , 2.718])
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        line = slope * (np.log(values) if of_log else values) + intercept
        result = np.exp(line) if own_log else line
    return np.where(np.isfinite(result), result, np.nan)
