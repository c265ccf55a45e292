"""Columns of numbers of which single values (point masses, "atoms") hold many cells each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Cells, Mask, States, Values, each, fact, is_number, log_logistic
from .number import among_unseen
from .wrappers import NumberWrapper


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
