"""Columns of angles, hours of the day and the like, whose ends meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...io.frames import Column
from .base import Kind, Mask, Request, States, Values, fact, is_number, is_positive
from .look import Look
from .number import Number


@dataclass(frozen=True, kw_only=True)
class Circular(Number):
    """Numbers on a circle, which is cut open where there are the fewest.

    Attributes:
        period: the way around it.
        cut: where it is cut open.
        low: of the values, which lie in [low, low + period).
    """

    tag = "circular"
    aliases = ("periodic",)
    is_circular = True
    has_sign = False
    usage = "circular:PERIOD"
    arity = (1,)

    period: float = fact(is_positive)
    cut: float = fact(is_number, 0.0)
    low: float = fact(is_number, 0.0)  # type: ignore[assignment]

    @property
    def high(self) -> float | None:  # type: ignore[override]
        """Where values begin again."""
        return self.low + self.period

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        """Only as asked for.

        Raises:
            ValueError: the period is no multiple of the step of the values, or they lie beyond one turn.
        """
        look = Look.at(column, request, cls.tag) if request.kind == cls.tag else None
        if look is None:
            return None
        period, lattice, values = request.values[0], look.lattice, look.values
        if lattice is not None and abs(period / lattice.step - round(period / lattice.step)) > 1e-6:
            raise ValueError(
                f"column {column.name!r}: a period of {period:g} is no multiple of its step {lattice.step:g}"
            )
        low = 0.0 if values.min() >= 0 else -period / 2
        if values.min() < low or values.max() > low + period:
            raise ValueError(
                f"column {column.name!r} goes from {values.min():g} to {values.max():g}: of a period of {period:g}, "
                f"values must lie within 0 and {period:g}, or {-period / 2:g} and {period / 2:g}"
            )
        cut = _widest_gap(values % period, period) if lattice is None else float(lattice.origin) % period
        return look.finished(cls(**look.facts, lattice=lattice, period=period, cut=cut, low=low))

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The way around, from the cut."""
        return 0.0, self.period if self.lattice is None else float(round(self.period / self.lattice.step))

    def reach_of(self, cell: float) -> tuple[float, float]:
        """All of it."""
        return -math.inf, math.inf

    def count(self, values: NDArray[Any]) -> Values:
        """The way from the cut, on a lattice in steps."""
        way = (values - self.cut) % self.period
        if self.lattice is None:
            return way
        return np.round(way / self.lattice.step) % round(self.period / self.lattice.step)

    def fits(self, values: NDArray[Any], w: Values, bounds: tuple[float | None, float | None]) -> Mask:
        """Values in [low, low + period]."""
        return (values >= self.low) & (values <= self.low + self.period)

    def decode_values(self, state: States, w: Values) -> NDArray[Any]:
        """Values in [low, low + period)."""
        way = np.nan_to_num(w)
        if self.lattice is not None:
            way = np.clip(np.floor(way), 0, round(self.period / self.lattice.step) - 1) * self.lattice.step
        return (way + self.cut - self.low) % self.period + self.low

    def spans(self) -> list[str]:
        """The extent and the period."""
        return [*super().spans(), f"period {self.period:g}"]


def _widest_gap(angle: NDArray[np.float64], period: float) -> float:
    """Where to cut a circle open: in the middle of the widest gap between values, where the density is least."""
    at = np.unique(angle)
    gaps = np.diff(np.append(at, at[0] + period))
    widest = int(gaps.argmax())
    return float((at[widest] + gaps[widest] / 2) % period)
