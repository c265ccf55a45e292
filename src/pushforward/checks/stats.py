"""The small statistics of a check: Kolmogorov-Smirnov, Wasserstein and ROC AUC, each with the error of chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GOOD, DOUBTFUL, BAD, UNKNOWN = "good", "doubtful", "bad", "cannot tell"


def judge(value: float, noise: float, good: float, bad: float) -> str:
    """One discrepancy in one word.

    Args:
        value: the discrepancy found; 0 is perfect.
        noise: what chance alone may give, at about 1 %, with so few rows.
        good: a discrepancy up to this size does not matter, however many rows prove it.
        bad: one beyond this size does.

    Returns:
        "good" where it is small or within chance; "cannot tell" where chance alone could hide a bad one; else
        "doubtful" or "bad" by its size.

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
    return GOOD if noise <= bad or value < -noise else UNKNOWN


def worst(verdicts: Sequence[str]) -> str:
    """The verdict of several tests of one thing: the worst; "cannot tell" only where none is bad or doubtful."""
    return next((v for v in (BAD, DOUBTFUL, UNKNOWN) if v in verdicts), GOOD)


def mean_and_se(values: Array) -> tuple[float, float]:
    """values (N,) -> their mean and its standard error, NaN for fewer than two."""
    if len(values) == 0:
        return math.nan, math.nan
    with np.errstate(invalid="ignore"):  # -inf rows make both of them non-finite, which is told elsewhere
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return float(np.mean(values)), spread / math.sqrt(len(values))


def ks_uniform(u: Array) -> float:
    """The Kolmogorov-Smirnov distance of u (N,) in [0, 1] from the uniform distribution."""
    u, n = np.sort(u), len(u)
    return float(max((np.arange(1, n + 1) / n - u).max(), (u - np.arange(n) / n).max()))


def ks_two(a: Array, b: Array) -> float:
    """The Kolmogorov-Smirnov distance of two samples (N,) and (M,), ties included."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    return float(abs(np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)).max())


def ks_p(distance: float, n: float) -> float:
    """The p-value of a Kolmogorov-Smirnov distance from n rows; n = N M / (N + M) for two samples (Stephens 1970)."""
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if scaled < 0.2:
        return 1.0
    total = sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(max(2 * total, 0.0), 1.0)


def ks_noise(n: float, tests: int = 1, alpha: float = 0.01) -> float:
    """The distance that the largest of so many tests passes by chance with probability alpha at most (Bonferroni)."""
    return math.sqrt(-0.5 * math.log(alpha / (2 * max(tests, 1)))) / math.sqrt(n) if n > 0 else math.inf


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal at p in (0, 1)."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def wasserstein(a: Array, b: Array) -> float:
    """The 1-Wasserstein distance of two samples (N,) and (M,): the area between their distribution functions."""
    a, b = np.sort(a), np.sort(b)
    both = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, both[:-1], "right") / len(a)
    below_b = np.searchsorted(b, both[:-1], "right") / len(b)
    return float((abs(below_a - below_b) * np.diff(both)).sum())


def auc(low: Array, high: Array) -> tuple[float, float]:
    """P(a value of `high` is above one of `low`), ties counted half, and its standard error (DeLong et al. 1988).

    Example:
        >>> auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))[0]
        0.875
    """
    of_high, of_low = _placements(low, high), 1 - _placements(high, low)
    value = float(of_high.mean())
    if len(low) < 2 or len(high) < 2:
        return value, math.nan
    variance = float(of_high.var(ddof=1) / len(high) + of_low.var(ddof=1) / len(low))
    return value, max(math.sqrt(variance), 0.5 / min(len(low), len(high)))  # perfect separation is not without error


def share_within(values: Array, reference: Array) -> Array:
    """For each of values (N,) the part of reference (M,) below it, ties counted half: its rank, in [0, 1]."""
    return _placements(reference, values)


def spearman(x: Array) -> Array:
    """Rank correlations of the columns of x (N, D): (D, D), 0 with a constant column."""
    ranks = np.stack([_placements(column, column) for column in x.T], 1)
    ranks = ranks - ranks.mean(0)
    norms = np.sqrt((ranks**2).sum(0))
    return (ranks.T @ ranks) / np.maximum(np.outer(norms, norms), 1e-300)


def _placements(reference: Array, values: Array) -> Array:
    ordered = np.sort(reference)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + upto) / (2 * len(ordered))
