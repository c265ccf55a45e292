"""Look: what the values of a column say about the kind of number that it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .atoms import WithAtoms
from .base import Kind, Request, unseen_share
from .coarse import WithCoarse
from .find_lattice import find_atoms, find_coarse, find_finer, find_lattice, snapped
from .lattice import Lattice
from .marginal import MarginalTransform
from .number import Number, as_number
from .uneven import Uneven
from .written import SINGLE, digits_of, roundings

Heaps = tuple[Lattice, ...]  # wider and wider lattices of one origin

_DECADE = 10.0  # a column that spans one above zero is a size: its logarithm is modelled


@dataclass(frozen=True)
class Look:
    """The values of a column of numbers that are not missing, and what they are like; each is found when asked for.

    Attributes:
        column: with two distinct values at least.
        values: (N,) int64 or float64, those that are there.
        request: what was asked of it.
    """

    column: Column
    values: NDArray[Any]
    request: Request

    @staticmethod
    def at(column: Column, request: Request, *asked: str) -> Look | None:
        """The look at a column of numbers, None for one of another kind.

        Args:
            column: whichever.
            request: what was asked of it.
            asked: the kinds for which it is to be taken; others that were asked for get None.

        Raises:
            ValueError: one of them was asked for, and the column holds no numbers, or infinite ones.
        """
        if request.kind not in (None, *asked) or (request.kind is None and column.holds != "numbers"):
            return None
        if column.times is not None and column.numbers is None:
            raise ValueError(f"column {column.name!r} holds {column.dtype}, it cannot be {request.kind}")
        if "look" in request.cache:
            return request.cache["look"]
        values = column.require_numbers()
        values = values.astype(np.float64) if values.dtype == np.uint64 else values
        request.cache["look"] = Look(column, values[~column.is_missing], request)
        return request.cache["look"]

    @property
    def facts(self) -> dict[str, Any]:
        """What any kind of number has."""
        column = self.column
        dtype = column.dtype
        if dtype == "text":
            dtype = "string" if column.form else "int64" if self.whole else "double"
        return {"name": column.name, "dtype": dtype, "form": column.form, "missing": bool(column.is_missing.any()),
                "unseen": unseen_share(0, len(column)),
                "extent": (plain(self.values.min()), plain(self.values.max()))}  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether values are integers by their dtype."""
        return self.values.dtype == np.int64

    @cached_property
    def lattice(self) -> Lattice | None:
        """The lattice that all values lie on."""
        lattice = find_lattice(self.values)
        return None if lattice is None else Lattice(*lattice)

    @cached_property
    def rounding(self) -> tuple[Lattice | None, Heaps]:
        """The lattice that all values lie on, and wider ones that many keep to."""
        return heaps_of(self.values, self.lattice)

    @cached_property
    def bare(self) -> bool:
        """Whether values are continuous, without any lattice."""
        return self.rounding == (None, ())

    def finished(self, kind: Number, heaps: Heaps = (), *, free: bool = False) -> Kind:
        """A kind without its map and wrappers, with them.

        Args:
            kind: with a lattice or not.
            heaps: wider lattices that many values keep to, from narrow to wide.
            free: whether it may be bounded below by zero, where sizes are: it then has a field `low`.
        """
        if heaps and kind.lattice is not None:
            kind = replace(kind, lattice=replace(kind.lattice, origin=heaps[-1].origin))
        ends = (None, None) if kind.is_circular else (kind.low, kind.high)
        if kind.lattice is None and not heaps and ends == (None, None):
            atoms, flows = self._free_atoms
        else:
            atoms, flows = find_atoms(self.values, *ends, _around(kind, heaps).places)
        if not flows:
            once = int((np.unique(self.values, return_counts=True)[1] == 1).sum())
            once += int(self.column.is_missing.sum() == 1)
            return WithAtoms(inner=replace(kind, unseen=unseen_share(once, len(self.column))), atoms=atoms)
        rest = self.values[~np.isin(self.values, atoms)]
        if free and self._is_size(rest, kind.lattice is not None):
            kind = replace(kind, low=0.0)  # type: ignore[call-arg]
        kind, heaps = self._written(kind, heaps)
        mapped = fitted(kind, heaps, rest, self.request.gaussian, atoms)
        return WithAtoms(inner=mapped, atoms=atoms) if atoms else mapped

    def _written(self, kind: Number, heaps: Heaps) -> tuple[Number, Heaps]:
        """The same with what is known of how values are written: on a lattice, and beside it."""
        if self.whole:
            return kind, heaps
        chain = roundings(self.values)
        if kind.lattice is not None:
            after = chain
            if kind.lattice.decimals is not None:  # the lattice says how values are written, but for float32
                after = chain[chain.index(SINGLE) :] if SINGLE in chain else ()
            return replace(kind, lattice=replace(kind.lattice, digits=digits_of(chain)), roundings=after), heaps
        if heaps:
            on = self.values[heaps[-1].holds(self.values)]
            heaps = (*heaps[:-1], replace(heaps[-1], digits=digits_of(roundings(on))))
        return replace(kind, roundings=chain), heaps

    @cached_property
    def is_size(self) -> bool:
        """Whether values are positive and span a decade, but for atoms."""
        atoms, flows = self._free_atoms
        return flows and self._is_size(self.values[~np.isin(self.values, atoms)], False)

    @cached_property
    def _free_atoms(self) -> tuple[tuple[float, ...], bool]:
        return find_atoms(self.values, None, None)

    @staticmethod
    def _is_size(rest: NDArray[Any], on_lattice: bool) -> bool:
        smallest, largest = float(rest.min()), float(rest.max())
        return (smallest > 0 and largest >= _DECADE * smallest) or (
            on_lattice and smallest >= 0 and largest > 4 * smallest
        )


def heaps_of(values: NDArray[Any], lattice: Lattice | None) -> tuple[Lattice | None, Heaps]:
    """-> the lattice of all values (N,), perhaps one found by a wider one; the wider ones that many keep to."""
    step, origin = (None, 0) if lattice is None else (lattice.step, lattice.origin)
    heaps = find_coarse(values, step, origin)
    if heaps is None:
        return lattice, ()
    steps, origin = heaps
    if step is None and (finer := find_finer(values, steps[0], origin)) is not None:
        parts = [round(wider / finer) for wider in steps]
        step, origin = snapped(finer, origin)
        steps = [n * step for n in parts]
    return None if step is None else Lattice(step, origin), tuple(Lattice(wider, origin) for wider in steps)


def fitted(
    kind: Number, heaps: Heaps, values: NDArray[Any], gaussian: bool | None, atoms: tuple[float, ...] = ()
) -> Kind:
    """A kind, and wider lattices around it, with the map of its ordinary values (N,), which are no atoms."""
    return _mapped(as_number(Uneven.around(as_number(_around(kind, heaps)), values, atoms)), values, gaussian)


def with_even_cells(kind: Kind, values: NDArray[Any], gaussian: bool | None) -> Kind:
    """A kind of numbers without uneven cells, and with the map of its values (N,), the atoms among them."""
    atoms = kind.atoms if isinstance(kind, WithAtoms) else ()
    number = kind.inner if isinstance(kind, WithAtoms) else kind
    while isinstance(number, Uneven):
        number = number.inner
    number = _mapped(as_number(number), values[~np.isin(values, atoms)], gaussian)
    return replace(kind, inner=number) if isinstance(kind, WithAtoms) else number


def _mapped(number: Number, values: NDArray[Any], gaussian: bool | None) -> Number:
    """A kind of numbers with the map of its values (N,)."""
    cells = number.encode_values(values)
    w = cells.base
    if number.is_dequantized:  # a random place in each cell, the same at each call
        w = w + cells.width * np.random.default_rng(0).uniform(size=len(w))
    gaussian = False if gaussian is None and number.is_dequantized else gaussian
    map = MarginalTransform.of(w, *number.bounds, gaussian=gaussian)
    return number.with_map(map.knots, map.heavy)


def _around(kind: Number, heaps: Heaps) -> Number:
    """A kind whose map is the identity, with wider lattices around it."""
    kind = kind.with_map(((0.0, 0.0, 1.0), (1.0, 1.0, 1.0)), (False, False))
    if not heaps:
        return kind
    between = tuple(lattice.step for lattice in heaps[:-1])
    is_even = kind.lattice is not None or bool(between)
    return as_number(WithCoarse(inner=kind, coarse=heaps[-1], between=between, is_even=is_even))


def plain(value: Any) -> float:
    """A number of numpy as one of Python."""
    return int(value) if isinstance(value, np.integer) else float(value)
