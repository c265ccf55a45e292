"""What a format has to know to be read piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHOWN = 3  # skipped rows that are described


@dataclass
class Skipped:
    """Rows that were left out of a pass over a file.

    Attributes:
        count: how many.
        first: what was wrong with the first few, each with its line.

    Example:
        >>> skipped = Skipped()
        >>> skipped.add("line 3 has 1 cell")
        >>> str(skipped)
        '1 row skipped: line 3 has 1 cell'
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, why: str) -> None:
        """Counts one more row."""
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(why)

    def clear(self) -> None:
        """Starts a new count."""
        self.count = 0
        self.first.clear()

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return f"{self.count:,} row{'' if self.count == 1 else 's'} skipped: {'; '.join(self.first)}{more}"


class Reader(ABC):
    """One file, folder or query: its columns, and passes over its rows.

    Attributes:
        names: of the columns.
        named: False where the source has no names; they are then x0, x1, ...
        rows: how many there are, None where only reading them all would tell.
        text: whether cells are text, to be parsed and written back as they were.
        packed: whether it is a compressed text.
        random_access: whether `take` is quick.
    """

    names: tuple[str, ...]
    named: bool = True
    rows: int | None = None
    text: bool = False
    packed: bool = False
    random_access: bool = False

    @abstractmethod
    def pieces(
        self, rows: int, order: np.random.Generator | None, columns: Sequence[str], skipped: Skipped
    ) -> Iterator[tuple[int, Any]]:
        """One pass: pyarrow Tables or arrays (n, D), each with the number of its first row.

        Args:
            rows: of a piece, about; any number is right.
            order: shuffles pieces where the format can.
            columns: those that are wanted, in order; others may be left out.
            skipped: counts the rows that are left out as unreadable.
        """

    def take(self, rows: NDArray[np.int64]) -> Any:
        """The rows with these numbers, without a pass over the file; where `random_access` says so."""
        raise NotImplementedError


def made_up(count: int) -> tuple[str, ...]:
    """Names for columns that have none."""
    return tuple(f"x{i}" for i in range(count))


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks."""
    return " ".join(str(error).split())
