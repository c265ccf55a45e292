"""Wrappers around kinds of numbers: single values with a mass of their own, and a coarser lattice that many keep to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Cells, Facts, Kind, Mask, Request, States, Values, fact
from .lattice import spelled
from .marginal import MarginalTransform
from .number import Lattice, Number, as_number


def _is_kind(value: Any) -> bool:
    return isinstance(value, Kind)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Facts, Kind):
    """A kind around another, most of whose facts are that of the inner one."""

    inner: Kind = fact(_is_kind)

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """None: kinds wrap themselves."""
        return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def to_json(self) -> dict[str, Any]:
        """The tag as "kind", and the facts that differ from their defaults."""
        return {"kind": self.tag, **super().to_json()}

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the column."""
        return self.inner.name

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The Arrow type in which cells are given back."""
        return self.inner.dtype

    @property
    def missing(self) -> bool:  # type: ignore[override]
        """Whether missing cells have a probability."""
        return self.inner.missing

    @property
    def unseen(self) -> float:  # type: ignore[override]
        """The probability of what was never seen."""
        return self.inner.unseen

    @property
    def note(self) -> str:  # type: ignore[override]
        """What was decided and why."""
        return self.inner.note

    @property
    def kind(self) -> str:
        """That of the inner kind."""
        return self.inner.kind

    @property
    def num_values(self) -> int:
        """How many states its cells have, but for missing."""
        return self.inner.num_values

    @property
    def has_number(self) -> bool:
        """Whether cells of the first states have a number."""
        return self.inner.has_number

    @property
    def num_numbered_states(self) -> int:
        """How many of the first states have a number."""
        return self.inner.num_numbered_states

    @property
    def is_dequantized(self) -> bool:
        """Whether numbers stand for cells."""
        return self.inner.is_dequantized

    @property
    def marginal(self) -> MarginalTransform:
        """The map of the numbers."""
        return self.inner.marginal

    @property
    def unit(self) -> str:
        """What a factor of p(row) stands for."""
        return self.inner.unit

    def encode_present(self, column: Column) -> Cells:
        """As the inner kind."""
        return self.inner.encode_present(column)

    def log_unseen(self, column: Column) -> Values:
        """As the inner kind."""
        return self.inner.log_unseen(column)

    def describe_invalid(self, column: Column) -> str:
        """As the inner kind."""
        return self.inner.describe_invalid(column)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """As the inner kind."""
        return self.inner.decode(state, number, rng)

    def accepts(self, state: States, number: Values) -> Mask:
        """As the inner kind."""
        return self.inner.accepts(state, number)

    def is_like(self, other: Kind) -> bool:
        """Whether the inner kinds are alike, and all else is the same."""
        if not isinstance(other, Wrapper) or not self.inner.is_like(other.inner):
            return False
        return self == replace(other, inner=self.inner)

    def without_spline(self) -> Kind:
        """The same around a straight inner kind."""
        return replace(self, inner=self.inner.without_spline())

    @property
    def feature_names(self) -> list[tuple[str, bool]]:
        """As the inner kind."""
        return self.inner.feature_names

    def features(self, column: Column) -> Values:
        """As the inner kind."""
        return self.inner.features(column)

    def parts(self) -> list[str]:
        """As the inner kind."""
        return self.inner.parts()

    def show(self, value: float) -> str:
        """A value, for people."""
        return self.inner.show(value)


@dataclass(frozen=True, kw_only=True)
class NumberWrapper(Wrapper):
    """A wrapper around a kind of numbers, which is one, too: see `Number` for what its methods do."""

    @property
    def number(self) -> Number:
        """The inner kind."""
        return as_number(self.inner)

    def is_consistent(self) -> bool:
        """Whether it is around numbers."""
        inner = self.inner
        while isinstance(inner, Wrapper):
            inner = inner.inner
        return isinstance(inner, Number)

    def encode_present(self, column: Column) -> Cells:
        """See `encode_values`."""
        return self.number.encode_column(column, self.encode_values)

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """As the inner kind."""
        return self.number.encode_values(values)

    def decode(self, state: States, number: Values, rng: np.random.Generator) -> Column:
        """See `decode_values`."""
        return self.number.write(self.decode_values(state, number), (state == self.num_values) & self.missing)

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """As the inner kind."""
        return self.number.decode_values(state, w)

    def with_map(self, knots: Any, heavy: tuple[bool, bool]) -> Any:
        """The same with a marginal map."""
        return replace(self, inner=self.number.with_map(knots, heavy))


@dataclass(frozen=True, kw_only=True)
class WithCoarse(NumberWrapper):
    """Numbers of which many, but not all, keep to a lattice that is wider than their own.

    Such a value has a state of its own, the second, which tells that its number stands for a wider cell.

    Attributes:
        inner: the kind of numbers.
        coarse: the wider lattice; its origin is that of the inner lattice, if there is one.
    """

    tag = "with_coarse"

    coarse: Lattice = fact(lambda v: isinstance(v, Lattice), of=Lattice)

    def is_consistent(self) -> bool:
        """Whether the inner kind is one of numbers that are modelled."""
        return super().is_consistent() and isinstance(self.inner, Number) and self.inner.has_number

    @property
    def num_values(self) -> int:
        """Two states: of finer values, and of coarse ones."""
        return 2

    @property
    def num_numbered_states(self) -> int:
        """Both have numbers."""
        return 2

    @property
    def is_dequantized(self) -> bool:
        """Numbers stand for cells."""
        return True

    @property
    def unit(self) -> str:
        """The mass of a cell, or a density with single values."""
        return "mass" if self.number.lattice is not None else "density, mass of single values"

    @property
    def coarse_cell(self) -> float:
        """Width of the cell of a coarse value as `marginal` takes it."""
        return self.coarse.step / (self.number.step or 1)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Those of the inner kind: the cell of the highest value is a coarse one."""
        low, high = self.number.bounds
        return low, None if high is None else high - self.number.cell + self.coarse_cell

    @property
    def marginal(self) -> MarginalTransform:
        """The map of the numbers."""
        return MarginalTransform(*self.bounds, self.number.knots, self.number.heavy)

    @property
    def reach(self) -> tuple[float, float]:
        """Between what a number is sampled."""
        return self.number.reach_of(self.coarse_cell)

    def key(self, values: NDArray[Any]) -> Values:
        """As the inner kind."""
        return self.number.key(values)

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """Values (N,), none missing, as cells."""
        number = self.number
        w, on = number.count(values), self.coarse.holds(values)
        good = number.fits(values, w, self.bounds)
        if number.lattice is None:
            good |= on & np.isin(values, [v for v in (number.low, number.high) if v is not None])
        width = np.where(on, self.coarse_cell, number.cell)
        return Cells(np.where(good, on, -1).astype(np.int64), np.where(good, w, np.nan), width, np.zeros(len(values)))

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values (N,) of the first state as the inner kind has them, of the second on the coarse lattice."""
        fine, on = self.number.decode_values(state, w), state == 1
        if not on.any():
            return fine
        return np.where(on, self._values(np.clip(self._places(np.nan_to_num(w)), *self._ends)), fine)

    def accepts(self, state: States, number: Values) -> Mask:
        """Numbers whose cell, coarse or not, is that of the value they stand for."""
        low, high = self.reach
        with np.errstate(invalid="ignore"):
            good = (state > 1) | ((number >= low) & (number <= high))
        places = self._places(np.nan_to_num(number))
        within = (places >= self._ends[0]) & (places <= self._ends[1])
        fine = ~self.coarse.holds(self.number.decode_values(np.zeros_like(state), number))
        if self.number.bounds[1] is not None:
            fine &= np.nan_to_num(number) < self.number.bounds[1]
        return good & ((state > 1) | np.where(state == 1, within, fine))

    def _places(self, w: Values) -> Values:
        """Numbers of the coarse cells that w (N,) lies in."""
        return np.floor((w - self._start) / self.coarse_cell + 1e-9)

    def _values(self, places: Values) -> NDArray[Any]:
        w = places * self.coarse_cell + self._start
        if self.number.lattice is not None:
            return self.number.lattice.value(np.round(w))
        return np.round(w, 12) if self.coarse.digits is None else spelled(w, self.coarse.digits)

    @property
    def _start(self) -> float:
        return 0.0 if self.number.lattice is not None else self.coarse.origin

    @property
    def _ends(self) -> tuple[float, float]:
        """The first and the last of the coarse cells that lie within the bounds."""
        low, high = self.bounds
        return (
            -math.inf if low is None else math.ceil((low - self._start) / self.coarse_cell - 1e-9),
            math.inf if high is None else math.floor((high - self._start) / self.coarse_cell + 1e-9) - 1,
        )

    def parts(self) -> list[str]:
        """Both steps."""
        number = self.number
        other = "continuous" if number.lattice is None else f"of {number.step_text}"
        return [*number.spans(), f"often in steps of {self.coarse.step:g}, else {other}"]
