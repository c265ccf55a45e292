"""Verdicts, and the small statistics behind them that no library has: each with the error of chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GOOD, DOUBTFUL, BAD, UNKNOWN = "good", "doubtful", "bad", "cannot tell"
ALPHA = 0.002  # the chance that a finding is taken for a discrepancy where there is none
_LIKELY = 0.57  # of the noise, which 5 % exceed


def judge(value: float, noise: float, good: float, bad: float) -> str:
    """One discrepancy in one word.

    Args:
        value: the discrepancy; 0 is perfect.
        noise: what chance alone may give, at the level ALPHA, with so few rows.
        good: a discrepancy up to this size does not matter, however many rows prove it.
        bad: one beyond this size does.

    Returns:
        "good" where it is small or within chance; "cannot tell" where chance could hide a bad one, alone or on top of
        what was found; else "doubtful" or "bad" by its size.

    Example:
        >>> judge(0.2, 0.01, 0.05, 0.1), judge(0.2, 0.3, 0.05, 0.1), judge(0.02, 0.01, 0.05, 0.1)
        ('bad', 'cannot tell', 'good')
    """
    if not math.isfinite(value):
        return BAD
    if not math.isfinite(noise):
        return UNKNOWN
    if value > max(noise, good):
        return BAD if value > bad else DOUBTFUL
    is_ruled_out = noise <= bad and max(value, 0.0) + _LIKELY * noise <= bad
    return GOOD if is_ruled_out or value < -noise else UNKNOWN


def worst(verdicts: Sequence[str]) -> str:
    """The verdict of several tests of one thing: the worst; "cannot tell" only where none is bad or doubtful."""
    return next((v for v in (BAD, DOUBTFUL, UNKNOWN) if v in verdicts), GOOD)


@cache
def normal_noise(tests: float = 1, *, sides: int = 1) -> float:
    """The normal deviate that the largest of so many tests exceeds with a chance of ALPHA at most (Bonferroni).

    Example:
        >>> round(normal_noise(), 2), round(normal_noise(10, sides=2), 2)
        (2.88, 3.72)
    """
    from scipy.stats import norm

    return float(norm.isf(ALPHA / (max(tests, 1) * sides)))


def share_noise(a: float, n: int, b: float, m: int, tests: int = 1) -> float:
    """What chance adds to the difference of two shares, a of n rows and b of m: normal, and one row more or less."""
    if min(n, m) == 0:
        return math.inf
    pooled = (a * n + b * m) / (n + m)
    return normal_noise(tests) * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)) + 1 / n + 1 / m


def mean_and_se(values: Array) -> tuple[float, float]:
    """values (N,) -> their mean and its standard error, NaN for fewer than two."""
    if len(values) == 0:
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):  # rows of -inf make both of them non-finite, which has a message of its own
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return float(np.mean(values)), spread / math.sqrt(len(values))


def ks_noise(n: float, tests: int = 1) -> float:
    """The Kolmogorov-Smirnov distance that the largest of so many tests exceeds with a chance of `ALPHA` at most.

    Args:
        n: rows; N M / (N + M) for two samples.
        tests: how many (Bonferroni).
    """
    return math.sqrt(-0.5 * math.log(ALPHA / (2 * max(tests, 1)))) / math.sqrt(n) if n > 0 else math.inf


def ks_two(a: Array, b: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples (N,) and (M,)."""
    from scipy.stats import ks_2samp

    result: Any = ks_2samp(a, b, method="asymp")
    return float(result.statistic)


def placements(reference: Array, values: Array, of_ties: Array | float = 0.5) -> Array:
    """For each of values (N,) the part of reference (M,) below it, and a part (N,) of those equal to it: in [0, 1]."""
    ordered = np.sort(reference)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + of_ties * (upto - below)) / len(ordered)


def auc(low: Array, high: Array) -> tuple[float, float]:
    """P(a value of `high` is above one of `low`), ties counted half, and its standard error (DeLong et al. 1988).

    Example:
        >>> auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))[0]
        0.875
    """
    of_high, of_low = placements(low, high), 1 - placements(high, low)
    value = float(of_high.mean())
    if len(low) < 2 or len(high) < 2:
        return value, math.nan
    variance = float(of_high.var(ddof=1) / len(high) + of_low.var(ddof=1) / len(low))
    return value, max(math.sqrt(variance), 0.5 / min(len(low), len(high)))  # perfect separation is not without error


def spearman(x: Array) -> tuple[Array, Array]:
    """Rank correlations of the columns of x (N, D), and their standard errors: (D, D) both, 0 with a constant column.

    The errors are those of the delta method, at least those of normal columns, (1 - r^2) / sqrt(N): where few rows
    differ from most, they are many times as large.
    """
    from scipy.stats import rankdata

    ranks = rankdata(x, axis=0)
    ranks = ranks - ranks.mean(0)
    u = ranks / np.maximum(np.sqrt((ranks**2).mean(0)), 1e-300)
    n = max(len(x), 1)
    r = u.T @ u / n
    # The variance of u v - r (u^2 + v^2) / 2, of which the mean is 0.
    squares, cubes = u**2, u**3
    both, uneven, fourth = squares.T @ squares / n, cubes.T @ u / n, (squares**2).mean(0)
    variance = both - r * (uneven + uneven.T) + r**2 * (fourth[:, None] + fourth[None, :] + 2 * both) / 4
    return r, np.sqrt(np.maximum(variance, (1 - r**2) ** 2) / n)
