"""Hashes of rows, from which noise and keys are made that depend on the content of a row alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 1e-9  # of the unit interval, from its ends, for noise
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
