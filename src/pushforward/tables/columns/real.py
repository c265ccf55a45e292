"""Columns of numbers that are continuous by nature: real, positive and bounded ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Kind, Request, fact, is_number
from .look import Look
from .number import Number

_NEAR_END = 0.001  # of the rows within a fiftieth of either end, for a share


@dataclass(frozen=True, kw_only=True)
class Real(Number):
    """Any number."""

    tag = "real"
    aliases = ("float",)
    usage = "real"

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Any numbers; those that were asked for are continuous whatever they look like."""
        look = Look.at(column, request, cls.tag)
        return None if look is None else look.finished(cls(**look.facts))


@dataclass(frozen=True, kw_only=True)
class Positive(Number):
    """Sizes: numbers above zero, of which the logarithm is modelled. Zero itself is a point mass, if it comes."""

    tag = "positive"
    aliases = ("log",)
    usage = "positive"

    low = 0.0

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Numbers above zero that span a decade.

        Raises:
            ValueError: it was asked for, and there are negative numbers.
        """
        look = Look.at(column, request, cls.tag)
        if look is None:
            return None
        if request.kind is None:
            return look.finished(cls(**look.facts)) if look.bare and look.is_size else None
        if (look.values < 0).any():
            raise ValueError(f"column {column.name!r} was declared positive, but holds {look.values.min():g}")
        lattice, heaps = look.rounding
        return look.finished(cls(**look.facts, lattice=lattice), heaps)


@dataclass(frozen=True, kw_only=True)
class Bounded(Number):
    """Numbers between two bounds, of which the logit is modelled. The bounds themselves are point masses, if they come.

    Attributes:
        low: the lower bound.
        high: the upper bound.
    """

    tag = "bounded"
    aliases = ("logit",)
    usage = "bounded:LOW:HIGH"
    arity = (2,)

    low: float = fact(is_number)  # type: ignore[assignment]
    high: float = fact(is_number)  # type: ignore[assignment]

    @classmethod
    def accepts_request(cls, values: tuple[float, ...]) -> bool:
        """Two bounds, the lower first."""
        return len(values) == 2 and values[0] < values[1]

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Numbers that are plainly shares.

        Raises:
            ValueError: it was asked for, and there are numbers beyond the bounds.
        """
        look = Look.at(column, request, cls.tag)
        if look is None:
            return None
        if request.kind is None:
            if not look.bare or not _fills_unit(look.values):
                return None
            kind = look.finished(cls(**look.facts, low=0.0, high=1.0))
            return kind if kind.has_number else None
        (low, high), values = request.values, look.values
        if (values < low).any() or (values > high).any():
            raise ValueError(
                f"column {column.name!r} was declared within {low:g} and {high:g}, but holds values from "
                f"{values.min():g} to {values.max():g}"
            )
        lattice, heaps = look.rounding
        return look.finished(cls(**look.facts, lattice=lattice, low=low, high=high), heaps)

    def spans(self) -> list[str]:
        """The extent and the bounds."""
        return [*super().spans(), f"within {self.low:g} and {self.high:g}"]


def _fills_unit(values: NDArray[Any]) -> bool:
    """Whether values are plainly shares: within 0 and 1, with rows near both ends (a column that was scaled to 0 and 1
    has one row on each of them, and those near it by chance alone)."""
    if len(values) < 100 or values.min() < 0 or values.max() > 1:
        return False
    near = max(3.0, _NEAR_END * len(values))
    return bool(np.sum(values < 0.02) >= near and np.sum(values > 0.98) >= near)
