"""Linear maps that leave columns uncorrelated, and of which rows they are worth it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .scores import LEAST_OWN, MANY_ROWS, own_shares

_NORMAL_QUARTILES = 1.349  # between the quartiles of a standard normal
_NEAR_SINGULAR = 0.03  # of a column's spread: with less left of it, float32 would not see what is left
_ROWS_OF_COLUMN, _WHITENED_COLUMNS = 2_000, 32  # see `pays_to_whiten`


def are_few(rows: int, columns: int) -> bool:
    """Whether a full-size flow would learn the rows by heart."""
    return rows < 200 * math.sqrt(columns)


def whitens(rows: int, columns: int) -> bool:
    """Whether columns are made uncorrelated before a flow: it costs few rows of many columns."""
    return columns < _WHITENED_COLUMNS or rows >= MANY_ROWS


def pays_to_whiten(rows: Tensor) -> bool:
    """Whether a flow should see rows (N, C) float64 with uncorrelated columns.

    Not with 200 sqrt(C) to 2,000 C rows, or 20,000: a flow of correlated columns learns first what they have in common,
    and noise last. Whitened, all directions are alike to it, and it generalises worse (Wadia et al. 2021, arXiv
    2008.07545). More rows do not need that; fewer are smoothed by noise, which whitened columns bear better. But rows
    so near a plane that float32 would not see what is left of a column are whitened always.
    """
    count, channels = rows.shape
    if count <= channels:
        return False
    is_many = count >= min(_ROWS_OF_COLUMN * channels, MANY_ROWS)
    if whitens(count, channels) and (is_many or are_few(count, channels)):
        return True
    return count <= 2 * channels or bool(own_shares(rows).min() < _NEAR_SINGULAR)


def whitening(rows: Tensor, only_scales: bool = False) -> Tensor:
    """A lower triangular matrix (C, C) that leaves the columns of rows (N, C) float64 uncorrelated.

    What is left of a column when those before it are known has far outliers: its scale is that of its middle half.
    Columns whose correlations are no larger than those of as many independent ones stay apart, which costs many columns
    nothing. With no more rows than columns, all are only scaled.

    Args:
        rows: of which only differences count.
        only_scales: keep all columns apart.
    """
    count, channels = rows.shape
    scale = rows.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    matrix = scale.reciprocal().diag()
    if count > channels and not only_scales:
        standard = (rows - rows.mean(0)) / scale
        for part in _linked(standard):
            matrix[part[:, None], part] = _whitening_of(standard[:, part]) / scale[part]
    lower, upper = (_quantile(rows @ matrix.mT, level) for level in (0.25, 0.75))
    scale = torch.where(upper - lower > 1e-3, (upper - lower) / _NORMAL_QUARTILES, 1.0)
    return (matrix / scale[:, None]).tril()


def _whitening_of(standard: Tensor) -> Tensor:
    """The inverse Cholesky factor (C, C) of the covariance of centred rows (N, C).

    By orthogonal triangles, which halve the digits that a covariance of large condition number would cost.
    """
    r = torch.linalg.qr(standard / math.sqrt(len(standard)), mode="r").R
    r = r * torch.where(r.diagonal() < 0, -1.0, 1.0)[:, None]
    factor = r.mT.tril(-1) + r.diagonal().clamp_min(LEAST_OWN).diag()
    return torch.linalg.solve_triangular(factor, torch.eye(len(r)).to(r), upper=False)


def _linked(standard: Tensor) -> list[Tensor]:
    """Which of C standardised columns (N, C) are correlated, directly or through others: the numbers of each group."""
    count, channels = standard.shape
    correlation = standard.mT @ standard / count
    pairs = max(channels * (channels - 1) / 2, 1)
    reach = correlation.abs() * math.sqrt(count) > 1 + math.sqrt(2 * math.log(pairs))
    reach |= torch.eye(channels, dtype=torch.bool, device=standard.device)
    for _ in range(math.ceil(math.log2(max(channels, 2)))):
        reach = (reach.double() @ reach.double()) > 0
    first = reach.double().argmax(1)
    return [(first == k).nonzero()[:, 0] for k in first.unique()]


def _quantile(rows: Tensor, level: float) -> Tensor:
    """The quantiles (C,) of rows (N, C), by linear interpolation; `torch.quantile` refuses more than 2^24 numbers."""
    return torch.from_numpy(np.quantile(rows.cpu().numpy(), level, axis=0)).to(rows)
