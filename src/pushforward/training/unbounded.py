"""Columns over which a density can grow without bound: those that repeat one value, or that others determine."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ADVICE = "Leave them out, smooth the rows with noise=, or give the table to fit_table, which gives single values a mass"
_SAMPLE = 2000  # rows that are looked at
_SHARE, _LEAST = 0.05, 5  # of the rows with one and the same value, and how many those must be
_MOST_COLUMNS = 500  # beyond, the search for linear relations is not cheap
_SPARE = 10  # rows beyond the number of columns: fewer determine each other whatever they hold
_EXACT = 1e-5  # standard deviations that are left of a column when the others are known
_SHOWN = 10


def warn_of_unbounded(x: NDArray[Any], names: Sequence[Any] | None = None, advice: str = ADVICE) -> None:
    """Warns, once for all of them, of columns of rows x (N, D) over which a likelihood has no bound.

    They are columns of which one value holds a twentieth of the rows or more (0 and 1, many zeros, clipped values) and
    columns that are a linear function of others, such as copies and sums. A sample of the rows is looked at.

    Args:
        x: (N, D), finite.
        names: of the columns; their numbers when None.
        advice: what the user can do.
    """
    rows = np.asarray(x[np.linspace(0, len(x) - 1, min(len(x), _SAMPLE)).astype(np.int64)])
    called = [f"column {i}" if names is None else repr(names[i]) for i in range(rows.shape[1])]
    said = _repeating(rows, called) + _determined(rows, called)
    if said:
        more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
        warnings.warn(
            f"a density over these columns can grow without bound: {'; '.join(said[:_SHOWN])}{more}. {advice}",
            stacklevel=_levels_to_caller(),
        )


def _levels_to_caller() -> int:
    """How many calls up from here stands the first that is not of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__name__.partition('.')[0]}."):
        level, frame = level + 1, frame.f_back
    return level


def _repeating(rows: NDArray[Any], called: list[str]) -> list[str]:
    """What repeats one value, in words."""
    said = []
    for name, column in zip(called, rows.T, strict=True):
        values, counts = np.unique(column, return_counts=True)
        most = counts.argmax()
        if counts[most] >= max(_SHARE * len(rows), _LEAST):
            said.append(f"{name} is {values[most]:g} in {counts[most] / len(rows):.0%} of the rows")
    return said


def _determined(rows: NDArray[Any], called: list[str]) -> list[str]:
    """What is a linear function of columns before it, in words."""
    values = rows / np.maximum(np.abs(rows).max(0), np.finfo(rows.dtype).tiny).astype(np.float64)  # squares stay finite
    spread = values.std(0)
    varies = np.flatnonzero(spread > 0)
    if not 2 <= len(varies) <= _MOST_COLUMNS or len(rows) < len(varies) + _SPARE:
        return []
    centred = values[:, varies] - values[:, varies].mean(0)
    unit = centred / spread[varies]
    # What a column has of its own, when those before it are known, in its standard deviations.
    own = np.abs(np.diag(np.linalg.qr(unit, mode="r"))) / np.sqrt(len(rows))
    precision = np.finfo(rows.dtype).eps / spread[varies]
    exact = _EXACT + 2 * precision.max()
    said = []
    for j in np.flatnonzero(own <= exact):
        before = np.flatnonzero(own[:j] > exact)
        slopes = np.linalg.lstsq(unit[:, before], unit[:, j])[0]
        used = [called[varies[i]] for i, slope in zip(before, slopes, strict=True) if abs(slope) > 1e-3]
        others = f" and {len(used) - 4} more" if len(used) > 4 else ""
        said.append(f"{called[varies[j]]} is a linear function of {', '.join(used[:4])}{others}")
    return said
