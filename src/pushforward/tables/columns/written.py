"""How the numbers of a column are written: to how many decimals or significant digits, and in which precision."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

SINGLE = "single"  # the rounding to float32
_FORMAT = re.compile(r"\.\d{1,2}[fg]")
_FEW, _MOST = 9, 16  # digits of float32, and of most float64; no more decimals than the former
_SAME = 1e-14  # of a value: those of float32 that were printed with 15 digits are no further off
_LOOKED_AT = 2000  # distinct values
_SURE = 10  # values that would have more digits by their decimals, so that few are no accident


def is_rounding(value: Any) -> bool:
    """Whether a value of a file is one: a format such as ".2f" or ".5g", or "single"."""
    return isinstance(value, str) and (value == SINGLE or _FORMAT.fullmatch(value) is not None)


def roundings(values: NDArray[Any]) -> tuple[str, ...]:
    """The roundings that values (N,) went through, one after the other; none for values of all digits.

    Example:
        >>> roundings(np.array([0.25, 12.5]))
        ('.2f',)
        >>> roundings(np.array([0.1, 0.25], np.float32).astype(np.float64))
        ('.2f', 'single')
    """
    u = np.unique(values).astype(np.float64)
    u = u[:: math.ceil(len(u) / _LOOKED_AT) or 1]
    if few := _formats(u, _FEW):
        return few
    if not is_single(u):
        return _formats(u, _MOST - 1)
    single = u.astype(np.float32)
    printed = () if (single.astype(np.float64) == u).all() else _formats(u, _MOST)
    return (*_formats(np.array([float(str(v)) for v in single]), _FEW), SINGLE, *printed)


def digits_of(chain: tuple[str, ...]) -> int | None:
    """The significant digits of values that have no decimals, None for others."""
    return int(chain[0][1:-1]) if chain and chain[0].endswith("g") else None


def is_single(values: NDArray[np.float64]) -> bool:
    """Whether values (N,) are float32 numbers, but for having been printed."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool((np.abs(values.astype(np.float32).astype(np.float64) - values) <= _SAME * np.abs(values)).all())


def rounded(values: NDArray[np.float64], chain: tuple[str, ...]) -> NDArray[np.float64]:
    """Values (N,) after these roundings."""
    for rounding in chain:
        if rounding == SINGLE:
            with np.errstate(over="ignore"):
                values = values.astype(np.float32).astype(np.float64)
        elif rounding.endswith("f"):
            values = np.round(values, int(rounding[1:-1]))
        else:
            values = spelled(values, int(rounding[1:-1]))
    return values


def spelled(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values rounded to so many significant digits."""
    u, at = np.unique(values, return_inverse=True)
    return np.array([float(f"{v:.{digits}g}") for v in u.tolist()])[at.reshape(values.shape)]


def _formats(u: NDArray[np.float64], most: int) -> tuple[str, ...]:
    """The fewest decimals of values (U,), and their fewest significant digits where that says more."""
    decimals = next((d for d in range(_FEW + 1) if (np.round(u, d) == u).all()), None)
    digits = next((d for d in range(1, most + 1) if (spelled(u, d) == u).all()), None)
    if decimals is None:
        return () if digits is None else (f".{digits}g",)
    written = np.floor(np.log10(np.maximum(np.abs(u), 10.0**-decimals))) + 1 + decimals
    is_shorter = digits is not None and (written > digits).sum() >= _SURE
    return (f".{decimals}f", f".{digits}g") if is_shorter else (f".{decimals}f",)
