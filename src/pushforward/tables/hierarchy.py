"""Hierarchies among discrete columns: what others determine, as a zone its borough, is modelled before all else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FEWEST = 3  # states of a column that is determined: one of two is often the indicator of a single state
_ROWS = 3  # of a state, on average, so that determining is no accident
_ALIKE = 0.99  # share of the rows in which a column is what another tells
_FIRST_ROWS = 1000  # that are looked at before all others
_MOST_CELLS = 200_000  # of a table of frequencies, which stands in the file of a model
_COMMON = 0.97  # share of the commonest state, from which any other column tells it


def hierarchy(states: NDArray[np.int64], sizes: Sequence[int]) -> tuple[list[int], dict[int, int]]:
    """-> the order in which columns are best modelled one after the other: determined ones, then all others as they
    stand; and for those that determine others the one of most states among these.

    What few rows tell of many zones they tell of few boroughs: their dependence is learned first, and the zones given
    them, where otherwise it would have to be learned from zone to zone.

    Args:
        states: (N, M), one past the last where a column has none of them.
        sizes: of the M columns, how many states they have.

    Example:
        >>> zone = np.arange(90) % 9
        >>> hierarchy(np.stack([zone, zone // 3], 1), (9, 3))
        ([1, 0], {0: 1})
    """
    columns = range(len(sizes))
    parents: dict[int, int] = {}
    first: set[int] = set()
    for a in columns:
        coarser = [
            b for b in columns  # the first of two that determine each other, as a code and its label
            if sizes[b] >= _FEWEST and (sizes[b], b) < (sizes[a], a) and _determines(states[:, a], states[:, b])
        ]  # fmt: skip
        first.update(coarser)
        if coarser and sizes[a] * max(sizes[b] for b in coarser) <= _MOST_CELLS:
            parents[a] = max(coarser, key=lambda b: sizes[b])
    return sorted(first, key=lambda b: (sizes[b], b)) + [c for c in columns if c not in first], parents


def _determines(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    """Whether states a (N,) tell states b (N,), which are not nearly all the same."""
    if len(a) == 0 or _agreement(a[:_FIRST_ROWS], b[:_FIRST_ROWS])[0] < _ALIKE - 0.03:  # where nearly all pairs end
        return False
    share, count = _agreement(a, b)
    return share >= _ALIKE and len(a) >= _ROWS * count and np.bincount(b).max() <= _COMMON * len(b)


def _agreement(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[float, int]:
    """-> share of the rows in which b (N,) is what it mostly is with the same a (N,); the number of different a."""
    width = int(b.max()) + 1
    pairs, counts = np.unique(a * width + b, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs // width, prepend=-1))
    return float(np.maximum.reduceat(counts, starts).sum() / len(a)), len(starts)
