"""Which columns of numbers are independent of all others, so that a flow need not look at them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..bijections import Precondition

_LEAST_COLUMNS, _LEAST_ROWS = 8, 1_000  # fewer: a flow is not disturbed by a column, or chance looks like dependence
_ROWS, _WORK = 2**14, 2**33  # rows that are looked at; rows times triples of columns
_FREQUENCIES = 4
_CHANCE = 1e-3  # how likely one of all correlations of independent columns is called large, or a normal one another
_LEAST_INDEPENDENT = 0.25  # of the columns, for which it is worth it


@torch.no_grad()
def dependent_columns(x: Tensor) -> list[int] | None:
    """The columns that depend on others, or are not normal, once rows are preconditioned as a flow does it.

    Each column is compared with each other one by the correlations of cos(k pi F), k = 1 to 4, where F is the share of
    rows below: they are bounded, and see curves and scales as well as lines. With the product of each two others it is
    compared by k = 1.

    Args:
        x: (N, D).

    Returns:
        the numbers of these columns; None where they are more than three quarters of all, or none, where a column is
        constant or a number not finite, and of fewer than 1,000 rows or 8 columns, or too many columns to compare.
    """
    count, features = x.shape
    some = min(count, _ROWS, _WORK // max(features, 1) ** 3)
    if features < _LEAST_COLUMNS or some < _LEAST_ROWS or x.is_complex():
        return None
    rows = x[torch.linspace(0, count - 1, some, dtype=torch.float64).long().to(x.device)].double()
    if bool((rows == rows[0]).all(0).any()) or not bool(rows.isfinite().all()):
        return None
    layer = Precondition(features, bends=True).double().to(x.device)
    layer.measure(rows, whiten=False)  # as a flow may see them, of other numbers of rows
    z = layer(rows)[0]
    waves = _waves(z)
    bound = _bound(some, (features * _FREQUENCIES) ** 2 / 2 + features**3 / 2)
    is_dependent = _is_not_normal(z)
    for wave in waves:
        correlation = wave.mT @ waves.movedim(0, 1).flatten(1) / some  # (D, 4 D)
        pairs = correlation.view(features, _FREQUENCIES, features).abs().amax(1)
        is_dependent |= (pairs.fill_diagonal_(0.0) > bound).any(1)
    first = waves[0]
    for a in range(features - 1):
        later = slice(a + 1, None)
        products = first[:, a : a + 1] * first[:, later]
        triples = (products.mT @ first).abs() / some > bound  # (D - a - 1, D), of a and a later column with each
        triples[:, a] = False
        triples[:, later].fill_diagonal_(False)
        is_dependent |= triples.any(0)
        is_dependent[a] |= bool(triples.any())
        is_dependent[later] |= triples.any(1)
    columns = is_dependent.nonzero()[:, 0].tolist()
    return columns if 0 < len(columns) <= (1 - _LEAST_INDEPENDENT) * features else None


def _waves(z: Tensor) -> Tensor:
    """sqrt(2) cos(k pi F) of each number, (K, N, D): z (N, D)."""
    share = (z.argsort(0).argsort(0) + 0.5) / len(z)
    k = torch.arange(1, _FREQUENCIES + 1, device=z.device)[:, None, None]
    return math.sqrt(2) * torch.cos(k * math.pi * share)


def _bound(rows: int, statistics: float) -> float:
    """What the largest of so many correlations of independent columns exceeds with the probability `_CHANCE`."""
    level = torch.tensor(0.5 * _CHANCE / statistics, dtype=torch.float64)
    return -float(torch.special.ndtri(level)) / math.sqrt(rows)


def _is_not_normal(z: Tensor) -> Tensor:
    """Whether the distribution of a column of z (N, D) is far from the standard normal: (D,).

    By the statistic of Kolmogorov and Smirnov, whose bound is that of Massart (1990).
    """
    count, features = z.shape
    below = torch.special.ndtr(z.sort(0).values)
    share = torch.arange(count + 1, device=z.device)[:, None] / count
    distance = torch.maximum((share[1:] - below).amax(0), (below - share[:-1]).amax(0))
    return distance > math.sqrt(math.log(2 * features / _CHANCE) / (2 * count))
