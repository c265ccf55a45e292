"""What many log-densities came to, in constant memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_KEPT = 2**20  # values from which the middle is told; of more rows, every second, fourth, ...
_FAR = 10.0  # interquartile ranges below the median, beyond which a row is called extreme


class Tally:
    """Counts, mean and median of log-densities that come in parts.

    Example:
        >>> tally = Tally()
        >>> tally.add(np.array([1.0, 2.0, -np.inf]))
        >>> tally.rows, tally.impossible, tally.median()
        (3, 1, 1.0)
    """

    def __init__(self) -> None:
        self.rows = self.impossible = self.extreme = 0
        self.lowest, self.highest = math.inf, -math.inf
        self._sum = self._squares = self._centre = 0.0
        self._kept: list[NDArray[np.float64]] = []
        self._stride, self._floor = 1, None

    def add(self, values: NDArray[np.float64]) -> None:
        """More log-densities (N,), -inf for impossible rows."""
        finite = values[np.isfinite(values)]
        if self.rows == self.impossible and len(finite):
            self._centre = float(finite[0])  # sums are taken from there, as their squares would lose digits
        self._kept.append(values[(-self.rows) % self._stride :: self._stride])
        self.rows += len(values)
        self.impossible += len(values) - len(finite)
        if len(finite):
            self.lowest, self.highest = min(self.lowest, finite.min()), max(self.highest, finite.max())
            self._sum += float((finite - self._centre).sum())
            self._squares += float(((finite - self._centre) ** 2).sum())
        if self._floor is not None:
            self.extreme += int((finite < self._floor).sum())
        elif self.rows >= _KEPT:
            self._find_extreme()
        while sum(map(len, self._kept)) > 2 * _KEPT:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._stride *= 2

    def median(self) -> float:
        """The middle log-density, impossible rows included; exact up to two million rows."""
        return float(np.median(np.concatenate(self._kept))) if self.rows else math.nan

    def mean(self) -> tuple[float, float]:
        """Mean of the finite log-densities and its standard error, NaN where there are too few."""
        n = self.rows - self.impossible
        if n == 0:
            return math.nan, math.nan
        shift = self._sum / n
        spread = math.sqrt(max(self._squares / n - shift * shift, 0.0) * n / (n - 1)) if n > 1 else math.nan
        return self._centre + shift, spread / math.sqrt(n)

    def finish(self) -> None:
        """Counts the extreme rows of what came, where that was too little to do so before."""
        if self._floor is None:
            self._find_extreme()

    def _find_extreme(self) -> None:
        values = np.concatenate(self._kept) if self._kept else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return
        lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
        self._floor = float(middle - _FAR * max(upper - lower, 0.1))
        self.extreme = int((values < self._floor).sum())
