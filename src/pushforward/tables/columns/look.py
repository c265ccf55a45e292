"""Look: what the values of a column say about the kind of number that it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .atoms import WithAtoms
from .base import Kind, Request, unseen_share
from .lattice import find_atoms, find_coarse, find_finer, find_lattice, snapped, spelled
from .marginal import MarginalTransform
from .number import Lattice, Number
from .wrappers import WithCoarse

_DECADE = 10.0  # a column that spans one above zero is a size: its logarithm is modelled
_LOOKED_AT = 2000  # distinct values, to see how they are written
_ALIKE = 0.98  # of them are given back to the last bit


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
            dtype = "int64" if self.whole else "double"
        return {"name": column.name, "dtype": dtype, "missing": bool(column.is_missing.any()),
                "unseen": unseen_share(0, len(column)),
                "extent": (plain(self.values.min()), plain(self.values.max()))}  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether values are integers by their dtype."""
        return self.values.dtype == np.int64

    @cached_property
    def lattice(self) -> Lattice | None:
        """The lattice that all values lie on."""
        lattice = find_lattice(self.values, self.column.dtype in ("float", "halffloat"))
        return None if lattice is None else Lattice(*lattice)

    @cached_property
    def rounding(self) -> tuple[Lattice | None, Lattice | None]:
        """The lattice that all values lie on, and the coarser one that many keep to."""
        return coarse_of(self.values, self.lattice)

    @cached_property
    def bare(self) -> bool:
        """Whether values are continuous, without any lattice."""
        return self.rounding == (None, None)

    def finished(self, kind: Number, coarse: Lattice | None = None, *, free: bool = False) -> Kind:
        """A kind without its map and wrappers, with them.

        Args:
            kind: with a lattice or not.
            coarse: a coarser lattice that many values keep to.
            free: whether it may be bounded below by zero, where sizes are: it then has a field `low`.
        """
        circular = kind.is_circular
        ends = (None, None) if circular else (kind.low, kind.high)
        step, origin = (None, 0) if kind.lattice is None else (kind.lattice.step, kind.lattice.origin)
        origin = origin if coarse is None else coarse.origin
        if step is None and coarse is None and ends == (None, None):
            atoms, flows = self._free_atoms
        else:
            wide = None if coarse is None else coarse.step
            atoms, flows = find_atoms(self.values, step, origin, *ends, coarse=wide)
        if not flows:
            once = int((np.unique(self.values, return_counts=True)[1] == 1).sum())
            once += int(self.column.is_missing.sum() == 1)
            return WithAtoms(inner=replace(kind, unseen=unseen_share(once, len(self.column))), atoms=atoms)
        rest = self.values[~np.isin(self.values, atoms)]
        if free and self._is_size(rest, kind.lattice is not None):
            kind = replace(kind, low=0.0)  # type: ignore[call-arg]
        kind, coarse = self._spelled(kind, coarse)
        mapped = fitted(kind, coarse, rest, self.request.gaussian)
        return WithAtoms(inner=mapped, atoms=atoms) if atoms else mapped

    @cached_property
    def is_size(self) -> bool:
        """Whether values are positive and span a decade, but for atoms."""
        atoms, flows = self._free_atoms
        return flows and self._is_size(self.values[~np.isin(self.values, atoms)], False)

    @cached_property
    def _free_atoms(self) -> tuple[tuple[float, ...], bool]:
        return find_atoms(self.values, None, 0, None, None)

    @staticmethod
    def _is_size(rest: NDArray[Any], on_lattice: bool) -> bool:
        smallest, largest = float(rest.min()), float(rest.max())
        return (smallest > 0 and largest >= _DECADE * smallest) or (
            on_lattice and smallest >= 0 and largest > 4 * smallest
        )

    def _spelled(self, kind: Number, coarse: Lattice | None) -> tuple[Number, Lattice | None]:
        """The lattices with the significant digits with which they give back the values.

        Values that were scaled and then written as decimals lie on their lattice to the last digit only.
        """
        lattice = kind.lattice or coarse
        if lattice is None or self.whole or kind.is_circular:
            return kind, coarse
        digits = _digits(lattice, self.values if kind.lattice else self.values[lattice.holds(self.values)], kind)
        if digits is None:
            return kind, coarse
        lattice = replace(lattice, digits=digits)
        return (replace(kind, lattice=lattice), coarse) if kind.lattice else (kind, lattice)


def coarse_of(values: NDArray[Any], lattice: Lattice | None) -> tuple[Lattice | None, Lattice | None]:
    """-> the lattice of all values (N,), perhaps one found by the coarse one; the coarser one that many keep to."""
    step, origin = (None, 0) if lattice is None else (lattice.step, lattice.origin)
    coarse_lattice = find_coarse(values, step, origin)
    if coarse_lattice is None:
        return lattice, None
    coarse, origin = coarse_lattice
    if step is None and (finer := find_finer(values, coarse, origin)) is not None:
        parts = round(coarse / finer)
        step, origin = snapped(finer, origin)
        coarse = parts * step
    return None if step is None else Lattice(step, origin), Lattice(coarse, origin)


def fitted(kind: Number, coarse: Lattice | None, values: NDArray[Any], gaussian: bool | None) -> Kind:
    """A kind, and its coarse lattice around it, with the map of its ordinary values (N,)."""
    w, width = kind.count(values), np.full(len(values), kind.cell)
    bounds: Any = kind.bounds
    if coarse is not None:
        wrapped = WithCoarse(inner=replace(kind, knots=_PLACEHOLDER), coarse=coarse)
        bounds, width = wrapped.bounds, np.where(coarse.holds(values), wrapped.coarse_cell, kind.cell)
    is_dequantized = kind.is_dequantized or coarse is not None
    if is_dequantized:  # a random place in each cell, the same at each call
        w = w + width * np.random.default_rng(0).uniform(size=len(w))
    map = MarginalTransform.of(w, *bounds, gaussian=False if gaussian is None and is_dequantized else gaussian)
    kind = kind.with_map(map.knots, map.heavy)
    return kind if coarse is None else WithCoarse(inner=kind, coarse=coarse)


_PLACEHOLDER = ((0.0, 0.0, 1.0), (1.0, 1.0, 1.0))  # the knots of the identity


def _digits(lattice: Lattice, values: NDArray[np.float64], kind: Number) -> int | None:
    u = np.unique(values)
    u = u[:: math.ceil(len(u) / _LOOKED_AT)]
    places = lattice.origin + np.round((u - lattice.origin) / lattice.step) * lattice.step
    given_back = lattice.value(lattice.count(u)) if kind.lattice is not None else np.round(places, 12)
    alike = float((given_back == u).mean())
    if alike == 1:
        return None
    return next((d for d in range(6, 16) if (spelled(places, d) == u).mean() > max(alike, _ALIKE)), None)


def plain(value: Any) -> float:
    """A number of numpy as one of Python."""
    return int(value) if isinstance(value, np.integer) else float(value)
