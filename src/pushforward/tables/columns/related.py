"""Columns that are sums or differences of others, but for a few values, or never above or below another one.

Totals are the sums of their parts, with or without a tax; a loan is never above the price of what it pays. A flow blurs
such a relation, for it knows numbers on a lattice only within their cells, and has no edges. So the column itself is
not modelled, but what it is more than the sum: a number of few values, each with a mass of its own, or one that is
nowhere negative.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Cells, Kind, Mask, States, Values, fact, is_positive, is_text
from .number import Number, as_number
from .wrappers import NumberWrapper

Parts = tuple[tuple[str, int], ...]
_SHOWN = 4
_LARGEST = 2.0**51


def _are_parts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(
        isinstance(part, list | tuple) and len(part) == 2 and is_text(part[0]) and part[1] in (1, -1) for part in value
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Dependent(NumberWrapper):
    """A column of numbers of which only what columns before it do not tell is modelled: the rest.

    Attributes:
        inner: the column by itself, as which it is used where it is given.
        rest: what remains.
    """

    rest: Kind = fact(lambda v: isinstance(v, Kind))

    def is_consistent(self) -> bool:
        """Whether the rest is of this column, and can be counted."""
        rest = self.rest
        return (
            super().is_consistent() and not self.inner.missing and not isinstance(rest, Dependent)
            and rest.name == self.name and rest.dtype == "int64" and not rest.missing and rest.modelled
            and rest.is_complete
        )  # fmt: skip

    @property
    def coded(self) -> Kind:
        """The rest."""
        return self.rest

    @property
    @abstractmethod
    def others(self) -> set[str]:
        """The names of the columns before it that it depends on."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """How, for people."""

    @abstractmethod
    def can_follow(self, other: Kind) -> bool:
        """Whether another column may be one of `others`."""

    @abstractmethod
    def rest_of(self, columns: Mapping[str, Column]) -> tuple[NDArray[np.int64], Mask]:
        """What remains of each row (N,); where a cell of any column is missing (N,)."""

    def encode_in(self, columns: Mapping[str, Column]) -> Cells:
        """The cells of the rest; those of the column itself must be possible, too."""
        own = self.inner.encode(columns[self.name])
        rest, is_missing = self.rest_of(columns)
        cells = self.rest.encode(Column.of_numbers(self.name, rest, is_missing, "int64"))
        unseen = np.zeros(len(rest), dtype=bool) if cells.is_unseen is None else cells.is_unseen
        possible = (own.state >= 0) & (own.state < self.inner.num_states)
        lost, broken = possible & is_missing, possible & ~is_missing & (unseen | (cells.state < 0))
        error = own.error
        if not error and broken.any():
            error = f"column {self.name!r}: {int(broken.sum()):,} that are not {self._claim}, as all were"
        elif not error and lost.any():
            error = f"column {self.name!r}: {int(lost.sum()):,} without a part of {self._claim}"
        if not self.rest.unseen:
            return replace(cells, state=np.where(possible, cells.state, -1), error=error)
        odd = ~possible & ~unseen  # a value that the column cannot have, though its rest is a common one
        state, base = np.where(odd, self.rest.num_states, cells.state), np.where(odd, np.nan, cells.base)
        log_mass = np.where(odd, own.log_mass, cells.log_mass)
        return Cells(state, base, np.where(odd, 0.0, cells.width), log_mass, error, unseen | odd)

    def without_spline(self) -> Kind:
        """The column by itself: where it is given, its parts may not be."""
        return self.inner.without_spline()

    def parts(self) -> list[str]:
        """Those of the column, and the formula."""
        return [*self.inner.parts(), self.formula]

    @property
    def _claim(self) -> str:
        return self.formula.removeprefix("= ")


@dataclass(frozen=True, kw_only=True)
class Related(Dependent):
    """column = sum of sign * part, rounded down to the column's own lattice, +- rest; the rest is modelled.

    Attributes:
        inner: the column by itself, as which it is used where it is given.
        summands: (name, sign) of columns that stand before it in the schema; none has missing cells.
        grain: a step of which all of them are whole multiples.
        rest: what remains, counted in steps of the column.
        rest_sign: 1 where the rest is added, -1 where it is taken away.
    """

    tag = "related"

    summands: Parts = fact(_are_parts)
    grain: float = fact(is_positive)
    rest_sign: int = fact(lambda v: v in (1, -1), 1)

    def is_consistent(self) -> bool:
        """Whether the column, and its rest, can be counted in its grain."""
        lattice = self.number.lattice
        return (
            super().is_consistent() and lattice is not None and self.inner.has_number and is_part(self.inner)
            and lattice.step >= 0.5 * self.grain
            and is_whole(lattice.step / self.grain) and is_whole(lattice.origin / self.grain)
        )  # fmt: skip

    @property
    def others(self) -> set[str]:
        """The names of the parts."""
        return {name for name, _ in self.summands}

    def can_follow(self, other: Kind) -> bool:
        """See `is_part`."""
        return is_part(other)

    def rest_of(self, columns: Mapping[str, Column]) -> tuple[NDArray[np.int64], Mask]:
        """What the column is more than its parts -> (N,) in its steps; where a cell of any is missing (N,)."""
        own = columns[self.name]
        total, is_missing = self._total(columns)
        rest = self.rest_sign * (self.number.count(self.number.read(own)) - total)
        return np.clip(rest, -_LARGEST, _LARGEST).astype(np.int64), own.is_missing | is_missing

    def decode_in(
        self, state: States, number: Values, rng: np.random.Generator, columns: Mapping[str, Column]
    ) -> tuple[Column, Mask]:
        """The sum of the parts and the rest, within the bounds of the column; where it lay within them (N,).

        It is missing where a part is, which only a given one can be.
        """
        rest = self.rest.decode(state, number, rng)
        assert rest.numbers is not None
        total, is_missing = self._total(columns)
        places = self.rest_sign * rest.numbers.astype(np.float64) + total
        low, high = self.number.bounds
        within = (places >= (-np.inf if low is None else low)) & (places < (np.inf if high is None else high))
        plain = self.innermost  # to which places of the lattice are values, whatever cells wrappers give them
        whole = plain.decode(np.zeros(len(places), dtype=np.int64), places, rng)
        assert whole.numbers is not None
        whole = as_number(plain).write(whole.numbers, is_missing) if is_missing.any() else whole
        return whole, (within | is_missing) & self.rest.accepts(state, number)

    def _total(self, columns: Mapping[str, Column]) -> tuple[Values, Mask]:
        """The sum of the parts, as a place (N,) on the column's lattice; where one is missing (N,)."""
        total, is_missing = np.zeros(1), np.zeros(1, dtype=bool)
        for name, sign in self.summands:
            column = columns[name]
            total = total + sign * np.round(column.require_numbers() / self.grain)
            is_missing = is_missing | column.is_missing
        return rounded_down(self.number, total, self.grain), is_missing

    @property
    def formula(self) -> str:
        """As "= fare + tip + (0, 0.5 or 3.3)", or "at least fare"."""
        if self.rest.has_number and len(self.summands) == 1:
            return f"at {'least' if self.rest_sign > 0 else 'most'} {self.summands[0][0]}"
        return f"= {self._sum}"

    @property
    def _sum(self) -> str:
        ordered = sorted(self.summands, key=lambda part: part[1] < 0)  # what is added first
        shown = " ".join(("- " if sign < 0 else "+ ") + name for name, sign in ordered).removeprefix("+ ")
        rest, step = self.rest, self.number.step or 1.0
        few = getattr(rest, "atoms", None) or [getattr(rest, "value", 0)]
        values = [f"{value * step:.6g}" for value in sorted(few)]
        if len(values) == 1:
            return shown if values == ["0"] else f"{shown} + {values[0]}".replace("+ -", "- ")
        if rest.has_number or len(values) > _SHOWN:
            return f"{shown} + {'mostly ' if rest.has_number else ''}one of {len(values)} values"
        return f"{shown} + ({', '.join(values[:-1])} or {values[-1]})"


def is_part(kind: Kind) -> bool:
    """Whether a column can be a part of a sum, or one: whole multiples of a step, in each row."""
    number = as_number(kind)
    return kind.kind in ("integer", "quantised") and number.lattice is not None and not kind.missing


def rounded_down(kind: Number, grains: Values, grain: float) -> Values:
    """Numbers of grains (N,) as places on the column's lattice."""
    assert kind.lattice is not None
    return np.floor((grains - round(kind.lattice.origin / grain)) / round(kind.lattice.step / grain))


def is_whole(value: float) -> bool:
    """Whether a number is an integer but for rounding."""
    return abs(value - round(value)) < 1e-6
