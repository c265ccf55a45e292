"""The monotone rational-quadratic spline (Durkan et al. 2019, Neural Spline Flows, arXiv 1906.04032)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..switch import PLAIN
from .elementwise import Elementwise

fast: Any = None
if not PLAIN:
    from .._fast.kernels import spline as fast

_TINY = 1e-30  # a square root's argument is at least this, so that its derivative is finite


class _Bin(NamedTuple):
    """What belongs to the bin of each element, all (B, C, *S), in the paper's symbols."""

    x: Tensor  # x_k, its left end
    w: Tensor  # x_{k+1} - x_k
    y: Tensor  # y_k, its lower end
    h: Tensor  # y_{k+1} - y_k
    s: Tensor  # h / w
    delta: Tensor  # delta_k, the slope at the left end
    delta1: Tensor  # delta_{k+1}


@dataclass(frozen=True)
class RationalQuadratic(Elementwise):
    """A monotone spline of rational quadratics on [-bound, bound], and the identity outside.

    Each bin maps [x_k, x_k+1] onto [y_k, y_k+1] by a ratio of two quadratics with given slopes at its ends, so that the
    whole is monotone with a continuous derivative and its inverse is the root of a quadratic. The slope is 1 at both
    bounds, where the linear tails begin. An element's 3 * bins - 1 parameters are, in this order, the logits of width
    and height of each bin in turn (w_1, h_1, w_2, h_2, ...), then the raw slopes at the inner knots.

    Args:
        bins: K, at least 2.
        bound: half the width of the interval, in the units of x; a positive number.
        min_bin: the least width and height of a bin, as a part of the interval; below 1 / bins.
        min_slope: the least slope at an inner knot; between 0 and 1.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> spline = RationalQuadratic(bins=4)
        >>> y, log_slope = spline.forward(torch.tensor([[0.5], [9.0]]), torch.ones(2, 11, 1))
        >>> spline.inverse(y, torch.ones(2, 11, 1))[0].flatten()
        tensor([0.5000, 9.0000])
    """

    bins: int = 8
    bound: float = 4.0
    min_bin: float = 1e-3
    min_slope: float = 1e-3

    def __post_init__(self) -> None:
        if not isinstance(self.bins, int) or isinstance(self.bins, bool) or self.bins < 2:
            raise ValueError(f"bins must be at least 2, got {self.bins!r}")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"bound must be a positive number, got {self.bound!r}")
        if not 0 < self.min_bin < 1 / self.bins:
            raise ValueError(f"min_bin must be between 0 and 1 / bins = {1 / self.bins:g}, got {self.min_bin!r}")
        if not 0 < self.min_slope < 1:
            raise ValueError(f"min_slope must be between 0 and 1, got {self.min_slope!r}")

    @property
    def num_params(self) -> int:  # type: ignore[override]
        """P = 3 * bins - 1."""
        return 3 * self.bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, P, C, *S) -> y (B, C, *S), log|dy/dx| (B, C, *S)."""
        return self._apply(x, params, inverse=False)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, P, C, *S) -> x (B, C, *S), log|dx/dy| (B, C, *S)."""
        return self._apply(y, params, inverse=True)

    def _apply(self, x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        """One direction, in float32 at least: in bfloat16 the knots would coincide."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._apply(x, params, inverse)
        dtype = torch.promote_types(x.dtype, torch.float32)
        if fast and fast.fast_ok():
            y, log_slope = fast.apply(self, x.to(dtype), params.to(dtype), inverse)
        else:
            y, log_slope = (self._inverse if inverse else self._forward)(x.to(dtype), params.to(dtype))
        return y.to(x.dtype), log_slope.to(x.dtype)

    def _forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.abs() <= self.bound
        u = x.clamp(-self.bound, self.bound)
        x_k, y_k, delta = self._knots(params)
        b = self._bin(u >= x_k, x_k, y_k, delta)
        xi = (u - b.x) / b.w
        numerator = b.h * (b.s * xi**2 + b.delta * xi * (1 - xi))
        y = b.y + numerator / _denominator(b, xi)  # equation 4
        return torch.where(inside, y, x), torch.where(inside, _log_slope(b, xi), 0.0)

    def _inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        inside = y.abs() <= self.bound
        v = y.clamp(-self.bound, self.bound)
        x_k, y_k, delta = self._knots(params)
        bin_ = self._bin(v >= y_k, x_k, y_k, delta)
        # Equations 6 to 8, divided by the height: a xi^2 + b xi + c = 0 with a = s - b.
        part = (v - bin_.y) / bin_.h
        b = bin_.delta - part * (bin_.delta1 + bin_.delta - 2 * bin_.s)
        c = -bin_.s * part
        root = (b**2 - 4 * (bin_.s - b) * c).clamp_min(_TINY).sqrt()
        # Of both forms of the root, the one that adds what has one sign.
        xi = torch.where(b > 0, -2 * c / (b.abs() + root), (b.abs() + root) / (2 * (bin_.s + b.abs())))
        x = bin_.x + bin_.w * xi
        return torch.where(inside, x, y), torch.where(inside, -_log_slope(bin_, xi), 0.0)

    def _knots(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """params (B, P, C, *S) -> x_k, y_k, delta_k, each (K + 1, B, C, *S)."""
        params = params.transpose(0, 1)
        width, height, slope = params[: 2 * self.bins : 2], params[1 : 2 * self.bins : 2], params[2 * self.bins :]
        beta = math.log(2) / (1 - self.min_slope)  # it makes the slope of raw 0 exactly 1
        inner = self.min_slope + F.softplus(slope, beta)
        one = torch.ones_like(inner[:1])
        return self._edges(width), self._edges(height), torch.cat([one, inner, one])

    def _edges(self, logits: Tensor) -> Tensor:
        """Logits of the sizes of K bins, (K, ...) -> their edges, (K + 1, ...), from -bound to bound."""
        size = self.min_bin + (1 - self.min_bin * self.bins) * logits.softmax(0)
        return self.bound * (2 * torch.cat([torch.zeros_like(size[:1]), size.cumsum(0)]) - 1)

    def _bin(self, beyond: Tensor, x: Tensor, y: Tensor, delta: Tensor) -> _Bin:
        """The bin k of each element, from which knots it is beyond (K + 1, B, C, *S)."""
        k = beyond[1:-1].sum(0, keepdim=True)
        x0, y0, delta0 = (knots.gather(0, k).squeeze(0) for knots in (x, y, delta))
        x1, y1, delta1 = (knots.gather(0, k + 1).squeeze(0) for knots in (x, y, delta))
        return _Bin(x0, x1 - x0, y0, y1 - y0, (y1 - y0) / (x1 - x0), delta0, delta1)


def _denominator(b: _Bin, xi: Tensor) -> Tensor:
    return b.s + (b.delta1 + b.delta - 2 * b.s) * xi * (1 - xi)


def _log_slope(b: _Bin, xi: Tensor) -> Tensor:
    """The logarithm of equation 5."""
    numerator = b.delta1 * xi**2 + 2 * b.s * xi * (1 - xi) + b.delta * (1 - xi) ** 2
    return (numerator * (b.s / _denominator(b, xi)) ** 2).log()
