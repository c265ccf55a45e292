"""Far outliers come near: the identity in the middle, a logarithm beyond."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FOLD = 4.0  # spreads, up to which nothing is folded
_SOFT = 3.0  # spreads beyond that over which a line bends into a logarithm: less makes wild samples


def folded(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The identity up to `_FOLD`, a logarithm beyond: y (N, C) -> z (N, C), log-det (N,). Far outliers come near."""
    over = np.maximum(np.abs(y) - _FOLD, 0.0) / _SOFT
    log = np.log1p(over)
    return np.where(over > 0, np.sign(y) * (_FOLD + _SOFT * log), y), -log.sum(1)


def unfolded(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `folded`: z (N, C) -> y (N, C)."""
    over = np.minimum(np.maximum(np.abs(z) - _FOLD, 0.0) / _SOFT, 300.0)
    return np.where(over > 0, np.sign(z) * (_FOLD + _SOFT * np.expm1(over)), z)
