"""Fixed maps of rows before networks see them: outliers come near, columns become uncorrelated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FOLD = 4.0  # spreads, up to which nothing is folded
_RIDGE = 1e-6
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


def uncorrelated(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lower triangular matrix that leaves the columns of y (N, C) uncorrelated, each with a middle half of spread 1.

    It is the identity where there are too few rows.
    """
    if len(y) <= len(y.T):
        return np.eye(len(y.T))
    covariance = np.atleast_2d(np.cov(y, rowvar=False))
    covariance += _RIDGE * np.diag(np.diag(covariance) + _RIDGE)
    matrix = np.linalg.inv(np.linalg.cholesky(covariance))
    # What is left of a column when the others are known has far outliers: its scale is that of its middle half.
    lower, upper = np.quantile(y @ matrix.T, [0.25, 0.75], axis=0)
    scale = np.where(upper - lower > 1e-3, (upper - lower) / 1.349, 1.0)
    return np.tril(matrix / scale[:, None])
