"""Columns of numbers on a lattice: integers, and decimals that were rounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...io.frames import Column
from .base import Kind, Request, fact, optional
from .lattice import Lattice
from .look import Look, heaps_of
from .number import Number


@dataclass(frozen=True, kw_only=True)
class Integer(Number):
    """Whole numbers.

    Attributes:
        low: zero where none may be negative, None for no bound.
    """

    tag = "integer"
    aliases = ("int",)
    usage = "integer"
    on_lattice_alone = True

    low: float | None = fact(optional(lambda v: v == 0), None)  # type: ignore[assignment]

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Numbers of an integer type, and others that lie on a lattice of whole numbers.

        Raises:
            ValueError: it was asked for, and some number is not whole.
        """
        look = Look.at(column, request, cls.tag)
        if look is None:
            return None
        if request.kind is None:
            if look.lattice is None or not (look.whole or look.lattice.whole):
                return None
            lattice, heaps = look.rounding
            return look.finished(cls(**look.facts, lattice=lattice), heaps, free=True)
        broken = look.values[look.values != np.floor(look.values)]
        if len(broken):
            raise ValueError(f"column {column.name!r} was declared integer, but holds {broken[0]:g}")
        lattice, heaps = heaps_of(look.values, look.lattice or Lattice(1, 0))
        return look.finished(cls(**look.facts, lattice=lattice), heaps)

    def is_consistent(self) -> bool:
        """Whether there is a lattice."""
        return self.lattice is not None and super().is_consistent()

    def steps(self) -> list[str]:
        """The step, where it is not one."""
        return [] if self.step_text == "1" else super().steps()


@dataclass(frozen=True, kw_only=True)
class Rounded(Number):
    """Decimals on a lattice, or of which many are on one.

    Attributes:
        low: zero where none may be negative, None for no bound.
    """

    tag = "quantised"
    aliases = ("quantized", "rounded")
    usage = "quantised or quantised:STEP"
    arity = (0, 1)

    low: float | None = fact(optional(lambda v: v == 0), None)  # type: ignore[assignment]

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Decimals with many ties at a fixed step.

        Raises:
            ValueError: it was asked for, and the numbers lie on no lattice, or not on that of the given step.
        """
        look = Look.at(column, request, cls.tag)
        if look is None:
            return None
        if request.kind is None:
            if look.bare:
                return None
            lattice, heaps = look.rounding
            return look.finished(cls(**look.facts, lattice=lattice), heaps, free=True)
        lattice = _declared(look, request.values[0]) if request.values else look.lattice
        if lattice is None:
            raise ValueError(
                f"column {column.name!r} was declared quantised, but its values lie on no common step: give one"
            )
        lattice, heaps = heaps_of(look.values, lattice)
        return look.finished(cls(**look.facts, lattice=lattice), heaps)


def _declared(look: Look, step: float) -> Lattice:
    values = look.values
    lattice = Lattice(step, float(np.sort(values)[len(values) // 2]) % step)
    places = (values - lattice.origin) / step
    off = np.abs(places - np.round(places)) > 1e-3
    if off.any():
        raise ValueError(
            f"column {look.column.name!r}: {int(off.sum()):,} values are no multiples of {step:g} apart, as declared"
        )
    return lattice
