"""Increasing maps of single columns to about a standard normal: splines through quantiles, with straight or log tails.

The spline is the rational-quadratic one of Gregory and Delbourgo (1982), as in Durkan et al. 2019 (arXiv 1906.04032).
Everything is float64: detail that float32 would lose is kept. Columns of tables and the first layer of flows of arrays
(`Precondition`) are bent by the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..switch import is_eager

Values = NDArray[np.float64]
Knot = tuple[float, float, float]  # x, y, slope

MOST_KNOTS = 32
QUARTILE = 0.6745  # of a standard normal
_HEAVY = 5.0  # spreads from the middle at which the straight continuation of the spline gives way to a logarithm
_BULK = 3.0  # spreads, the part of a straight map before its tails
_SOFT = 3.0  # how far beyond the last knot a line bends into a logarithm
_MIN_ROWS_OF_KNOT = 5
_GAUSSIANIZED_ROWS = 1_000
_SKEW, _TAILS = 0.1, 1.5


class Knots(NamedTuple):
    """The splines of C columns.

    Attributes:
        x: (C, K) float64, increasing; a column with fewer knots repeats its last one.
        y: (C, K), increasing.
        slope: (C, K), above 0.
        heavy: (C, 2), whether the map goes on as a logarithm, not a line, beyond the first and the last knot.
    """

    x: Tensor
    y: Tensor
    slope: Tensor
    heavy: Tensor

    @staticmethod
    def of(columns: Sequence[Sequence[Knot]], heavy: Sequence[tuple[bool, bool]]) -> Knots:
        """The knots (x, y, slope) of each column, two at least, side by side."""
        most = max(map(len, columns))
        padded = [[*knots, *[knots[-1]] * (most - len(knots))] for knots in columns]
        x, y, slope = torch.tensor(padded, dtype=torch.float64, device="cpu").unbind(-1)
        return Knots(x, y, slope, torch.tensor(list(heavy), device="cpu"))

    def where(self, is_own: Tensor, other: Knots) -> Knots:
        """Its own splines for some of the columns, is_own (C,), those of another for the rest."""
        most = max(self.x.shape[1], other.x.shape[1])
        mine, theirs = self.padded(most), other.padded(most)
        return Knots(*(torch.where(is_own[:, None], a, b) for a, b in zip(mine, theirs, strict=True)))

    def are_lines(self) -> Tensor:
        """Which columns (C,) have two knots and straight tails."""
        return (self.x[:, 1:] == self.x[:, -1:]).all(1) & ~self.heavy.any(1)

    def padded(self, most: int) -> Knots:
        """The same, with so many knots a column."""
        x, y, slope = (torch.cat([t, t[:, -1:].expand(-1, most - t.shape[1])], 1) for t in self[:3])
        return Knots(x, y, slope, self.heavy)

    def to(self, device: torch.device) -> Knots:
        """The same on a device."""
        return Knots(*(part.to(device) for part in self))


def bend(x: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """x (..., C) float64 -> y (..., C), log dy/dx (..., C)."""
    x_k, _, d_k, heavy = knots
    inside = x.clamp(x_k[:, 0], x_k[:, -1])
    i = _interval(inside, x_k)
    left, h, low, rise, d0, d1 = _cell(knots, i)
    s, xi = rise / h, (inside - left) / h
    both = xi * (1 - xi)
    bottom = s + (d0 + d1 - 2 * s) * both
    y = low + rise * (s * xi * xi + d0 * both) / bottom
    log_slope = 2 * (s / bottom).log() + (d1 * xi * xi + 2 * s * both + d0 * (1 - xi) ** 2).log()
    for side, sign in ((0, -1.0), (-1, 1.0)):
        beyond = (sign * (x - x_k[:, side])).relu() * d_k[:, side]  # without a gradient at the knot, which `inside` has
        grown = (beyond / _SOFT).log1p()
        y = y + sign * torch.where(heavy[:, side], _SOFT * grown, beyond)
        log_slope = log_slope - torch.where(heavy[:, side], grown, 0.0)
    return y, log_slope


def unbend(y: Tensor, knots: Knots, farthest: float = 300.0) -> Tensor:
    """The inverse of `bend`: y (..., C) float64 -> x (..., C).

    Args:
        y: the values.
        knots: of the splines.
        farthest: the largest exponent in a logarithmic tail.
    """
    _, y_k, d_k, heavy = knots
    inside = y.clamp(y_k[:, 0], y_k[:, -1])
    left, h, low, rise, d0, d1 = _cell(knots, _interval(inside, y_k))
    s, up = rise / h, inside - low
    more = up * (d0 + d1 - 2 * s)
    a, b, c = rise * (s - d0) + more, rise * d0 - more, -s * up
    xi = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0.0).sqrt())
    x = left + xi.clamp(0, 1) * h
    for side, sign in ((0, -1.0), (-1, 1.0)):
        beyond = (sign * (y - y_k[:, side])).relu()
        far = torch.where(heavy[:, side], _SOFT * (beyond / _SOFT).clamp_max(farthest).expm1(), beyond)
        x = x + sign * far / d_k[:, side]
    return x


def fitted_knots(values: Values, gaussian: bool | None = True) -> tuple[tuple[Knot, ...], tuple[bool, bool]]:
    """Knots through quantiles of values (N,), at least two of them distinct, and which tails are logarithms.

    Args:
        values: of a column.
        gaussian: gaussianize the column by its quantiles; False only shifts and scales it, and None gaussianizes it if
            it has 1,000 rows and is not both symmetric and of heavy tails.
    """
    knots = _knots(values, _is_gaussianized(values) if gaussian is None else gaussian)
    straight = Knots.of([knots], [(False, False)])
    ends = torch.tensor([values.min(), values.max()], dtype=torch.float64)[:, None]
    first, last = bend(ends, straight)[0].flatten().tolist()
    return knots, (first < -_HEAVY, last > _HEAVY)


def line(middle: float, scale: float) -> tuple[Knot, ...]:
    """The knots of (x - middle) / scale."""
    return tuple((middle + y * scale, y, 1 / scale) for y in (-_BULK, _BULK))


def _interval(values: Tensor, edges: Tensor) -> Tensor:
    """Between which two of edges (C, K) each value (..., C) lies: the number of the first of them."""
    if is_eager():
        flat = values.detach().reshape(-1, values.shape[-1])
        i = torch.searchsorted(edges.contiguous(), flat.mT.contiguous()).mT.view(values.shape)
    else:
        i = (values.unsqueeze(-1) > edges).sum(-1)
    return (i - 1).clamp(0, edges.shape[-1] - 2)


def _cell(knots: Knots, i: Tensor) -> tuple[Tensor, ...]:
    """Of cells i (..., C): the left end, the width, the lower end, the height, and the slopes at both ends."""
    column = torch.arange(i.shape[-1], device=i.device)
    x, y, d = (t[column, i] for t in knots[:3])
    x1, y1, d1 = (t[column, i + 1] for t in knots[:3])
    return x, x1 - x, y, y1 - y, d, d1


def _is_gaussianized(t: Values) -> bool:
    """Whether to follow the quantiles.

    Columns that are symmetric and of heavy tails, as those of image patches, are so together: where all are large, the
    patch has contrast. Bends hide that (bsds300 lost 6.3 nats), where skewed columns gain.
    """
    far, near, middle, upper, last = np.quantile(t, [0.01, 0.25, 0.5, 0.75, 0.99])
    if len(t) < _GAUSSIANIZED_ROWS or not upper > near:
        return False
    skew = abs(last + far - 2 * middle) / (last - far)
    tails = (last - far) / (upper - near) / 3.449  # as those of a normal are 1
    return bool(skew > _SKEW or tails < _TAILS)


def _knots(t: Values, gaussian: bool) -> tuple[Knot, ...]:
    n = len(t)
    # Some rows beyond the last knot, and knots whose number grows slowly: quantiles are noisy, bends cost likelihood.
    most = round(1.6 * n**0.25) if gaussian else 0
    if most >= 4:
        edge = float(torch.special.ndtri(torch.tensor(max(_MIN_ROWS_OF_KNOT / n, 1e-3), dtype=torch.float64)))
        y = np.linspace(edge, -edge, min(most, MOST_KNOTS))
        levels = torch.special.ndtr(torch.from_numpy(y)).numpy()
        at = np.quantile(t, levels)
        # Knots that nearly fall together would make the slope between them explode: they are left out.
        least = 1e-3 * (at[-1] - at[0]) / len(at)
        kept = [0]
        for i in range(1, len(at)):
            if at[i] - at[kept[-1]] > least:
                kept.append(i)
        if len(kept) >= 4:
            at, y = at[kept], y[kept]
            s = np.diff(y) / np.diff(at)
            inner = 2 * s[1:] * s[:-1] / (s[1:] + s[:-1])  # harmonic means: no slope beyond both its neighbours'
            slopes = np.concatenate([s[:1], inner, s[-1:]])
            return tuple(zip(at.tolist(), y.tolist(), slopes.tolist(), strict=True))
    lower, middle, upper = np.quantile(t, [0.25, 0.5, 0.75])
    scale = float(upper - lower) / (2 * QUARTILE)
    spread = float(t.std())
    if not scale > 1e-3 * spread:
        middle, scale = t.mean(), spread
    if not scale > 0:
        scale = 1.0
    return line(float(middle), float(scale))
