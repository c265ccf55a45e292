"""Rows as numbers, for classifiers and distances: categories one-hot, numbers as they are, missing cells told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .stats import Array


@dataclass(frozen=True)
class Encoder:
    """Turns rows into a matrix of finite numbers, one or more of them for each column.

    Attributes:
        names: of the numbers (E,).
        owner: (E,), the column that each number belongs to.
        centre: (E,), the mean of each over the real rows.
        spread: (E,), their standard deviation; 0 marks one that is constant among the real rows.
        numbers: turns rows into (N, E).
        indicator: (E,), whether a number is 0 or 1 for a category or a missing cell.
    """

    names: list[str]
    owner: list[int]
    centre: Array
    spread: Array
    numbers: Callable[[Any], Array]
    indicator: list[bool]

    @classmethod
    def of_matrix(cls, real: Array, names: Sequence[str]) -> Encoder:
        """Of rows that are numbers (N, D)."""
        return cls.measured(real, lambda rows: rows, list(names), list(range(len(names))), [False] * len(names))

    @classmethod
    def measured(
        cls,
        real: Any,
        numbers: Callable[[Any], Array],
        names: list[str],
        owner: list[int],
        indicator: list[bool],
    ) -> Encoder:
        """With centre and spread of real rows."""
        values = numbers(real)
        spread = values.std(0)
        spread[(values == values[0]).all(0)] = 0.0  # the mean of equal values can round to another one
        return cls(names, owner, values.mean(0), spread, numbers, indicator)

    @property
    def varying(self) -> list[int]:
        """The numbers that are not constant among the real rows."""
        return [i for i, s in enumerate(self.spread) if s > 0]

    def standard(self, rows: Any) -> Array:
        """The varying numbers, in units of their spread: (N, E')."""
        keep = self.varying
        return (self.numbers(rows)[:, keep] - self.centre[keep]) / self.spread[keep]
