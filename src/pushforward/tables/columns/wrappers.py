"""Wrappers around kinds of numbers: single values with a mass of their own, and a coarser lattice that many keep to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Cells, Facts, Kind, Mask, Request, States, Values, each, fact, is_number, log_logistic
from .lattice import spelled
from .marginal import MarginalTransform
from .number import Lattice, Number, among_unseen, as_number


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


@dataclass(frozen=True, kw_only=True)
class WithAtoms(NumberWrapper):
    """Numbers of which single values hold a large share of the rows: such a point mass (atom) has its own state.

    Where all values that were seen are atoms, the inner kind has no numbers to model: values never seen have the mass
    `unseen`, which falls off far and wide, and are not sampled. In older files, where there is no such mass, they are
    the first state.

    Attributes:
        inner: the kind of numbers.
        atoms: the values.
    """

    tag = "with_atoms"

    atoms: tuple[float, ...] = fact(each(is_number))

    def is_consistent(self) -> bool:
        """Whether there are atoms, all different, and more than one where there is nothing else."""
        return super().is_consistent() and len(set(self.atoms)) == len(self.atoms) > (0 if self.has_number else 1)

    @property
    def num_values(self) -> int:
        """Those of the inner kind, where it has any, then one for each atom."""
        return self._first + len(self.atoms)

    @property
    def _first(self) -> int:
        """The state of the first atom."""
        return self.inner.num_values if self.has_number or not self.unseen else 0

    @property
    def unit(self) -> str:
        """A density is mixed with single values."""
        return "density, mass of single values" if self.inner.unit.startswith("density") else self.inner.unit

    def encode_values(self, values: NDArray[Any]) -> Cells:
        """Values (N,), none missing, as cells."""
        cells, first = self.number.encode_values(values), self._first
        keys = self.number.key(values)
        state = cells.state if first else np.full(len(values), -1)
        for i, atom in enumerate(self.number.key(np.asarray(self.atoms))):
            state[keys == atom] = first + i
        cells.base[state >= first] = np.nan
        log_mass = cells.log_mass
        if first and not self.has_number:
            rest = state == 0
            log_mass[rest] = self._log_wide(values[rest].astype(np.float64))
        return Cells(state, cells.base, cells.width, log_mass)

    def log_unseen(self, column: Column) -> Values:
        """As the inner kind; where there are atoms alone, of all numbers that are none of them."""
        if self.has_number:
            return self.inner.log_unseen(column)
        elsewhere = self._log_wide(self.number.read(column).astype(np.float64))
        if self.number.step:  # the atoms' own places are not among them
            elsewhere = elsewhere - math.log1p(-float(np.exp(self._log_wide(np.asarray(self.atoms))).sum()))
        return among_unseen(self, column, elsewhere)

    def describe_invalid(self, column: Column) -> str:
        """The first of the values, or what the inner kind says of those that it rules out."""
        if self.has_number or not self.unseen or (self.inner.encode_present(column).state < 0).any():
            return self.inner.describe_invalid(column)
        return f"a value never seen ({self.show(float(self.number.read(column)[0]))})"

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values (N,) of the inner kind, and atoms."""
        at, atoms = state - self._first, np.asarray(self.atoms)
        values = atoms[np.clip(at, 0, len(atoms) - 1)]
        return np.where(at < 0, self.number.decode_values(state, w), values) if self.has_number else values

    def accepts(self, state: States, number: Values) -> Mask:
        """What the inner kind does, but for numbers that stand for the cell of an atom."""
        rest = state < self._first
        if not self.has_number:
            return ~rest
        good = self.inner.accepts(state, number)
        if self.is_dequantized:
            keys = self.number.key(self.number.decode_values(np.where(rest, state, 0), number))
            good &= ~np.isin(keys, self.number.key(np.asarray(self.atoms)))
        return ~rest | good

    def _log_wide(self, values: Values) -> Values:
        """Log-mass (on a lattice) or log-density of a wide logistic around the atoms."""
        low, high, step = min(self.atoms), max(self.atoms), self.number.step
        scale = max((high - low) / 2, step or 0.0)
        return log_logistic(values, (low + high) / 2, scale) + (math.log(step) if step else 0.0)

    def parts(self) -> list[str]:
        """The first atoms, or how many values there are."""
        if not self.has_number:
            return [*self.inner.parts(), f"{len(self.atoms)} values"]
        shown = ", ".join(self.show(a) for a in self.atoms[:4])
        more = ", ..." if len(self.atoms) > 4 else ""
        return [*self.inner.parts(), f"atom{'s' if len(self.atoms) > 1 else ''} at {shown}{more}"]
