"""The fixed map of one column to about a standard normal: log or logit at its bounds, then a monotone spline.

The spline is the rational-quadratic one of Gregory and Delbourgo (1982), as in Durkan et al. 2019 (arXiv 1906.04032),
through quantiles of the training rows. Everything is float64: detail that float32 would lose is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Values = NDArray[np.float64]
_HEAVY = 5.0  # spreads from the middle at which the straight continuation of the spline gives way to a logarithm
_BULK = 3.0  # spreads, the part of a straight map before its tails
_SOFT = 3.0  # how far beyond the last knot a line bends into a logarithm
_MIN_ROWS_OF_KNOT = 5
_GAUSSIANIZED_ROWS = 1_000
_QUARTILE = 0.6745  # of a standard normal
_SKEW, _TAILS = 0.1, 1.5


@dataclass(frozen=True)
class MarginalTransform:
    """An increasing map w -> y of one column, with y about standard normal on the training rows.

    Attributes:
        low: lower bound of w, or None.
        high: upper bound of w, or None.
        knots: (t, y, slope) of the spline, at least two, increasing; t is w after the log or logit of the bounds.
        heavy: whether the map goes on as a logarithm, not a line, beyond the (first, last) knot.

    Example:
        >>> map = MarginalTransform.of(np.arange(1.0, 100.0), low=0.0)
        >>> y, log_slope = map.forward(np.array([1.0, 50.0]))
        >>> bool(np.allclose(map.inverse(y), [1.0, 50.0]))
        True
    """

    low: float | None
    high: float | None
    knots: tuple[tuple[float, float, float], ...]
    heavy: tuple[bool, bool] = (False, False)

    @staticmethod
    def of(
        w: Values, low: float | None = None, high: float | None = None, *, gaussian: bool | None = True
    ) -> MarginalTransform:
        """The map for training values w (N,) strictly within the bounds, at least two of them distinct.

        Args:
            w: the values.
            low: lower bound, or None.
            high: upper bound, or None.
            gaussian: gaussianize the column by its quantiles; False only shifts and scales it, and None gaussianizes it
                if it has 1,000 rows and is not both symmetric and of heavy tails.
        """
        t, _ = _unbound(w, low, high)
        knots = _knots(t, _is_gaussianized(t) if gaussian is None else gaussian)
        y = MarginalTransform(None, None, knots)._spline(np.array([t.min(), t.max()]))[0]
        return MarginalTransform(low, high, knots, (bool(y[0] < -_HEAVY), bool(y[1] > _HEAVY)))

    def forward(self, w: Values) -> tuple[Values, Values]:
        """w (N,) -> y (N,), log dy/dw (N,); w must lie within the bounds."""
        t, log_slope = _unbound(w, self.low, self.high)
        y, more = self._spline(t)
        return y, log_slope + more

    def inverse(self, y: Values) -> Values:
        """y (N,) -> w (N,), within the bounds."""
        t_k, y_k, d_k = self._arrays()
        i = np.clip(np.searchsorted(y_k, y) - 1, 0, len(y_k) - 2)
        h, rise = t_k[i + 1] - t_k[i], y_k[i + 1] - y_k[i]
        s, d0, d1 = rise / h, d_k[i], d_k[i + 1]
        up = np.clip(y, y_k[0], y_k[-1]) - y_k[i]
        bend = up * (d0 + d1 - 2 * s)
        a, b, c = rise * (s - d0) + bend, rise * d0 - bend, -s * up
        xi = 2 * c / (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)))
        t = t_k[i] + np.clip(xi, 0, 1) * h
        for side, sign in ((0, -1.0), (-1, 1.0)):
            beyond = np.maximum(sign * (y - y_k[side]), 0.0)
            far = _SOFT * np.expm1(np.minimum(beyond / _SOFT, 300.0)) if self.heavy[side] else beyond
            t = t + sign * far / d_k[side]
        return _rebound(t, self.low, self.high)

    def straightened(self) -> tuple[tuple[float, float, float], ...]:
        """The knots of a line through the middle half of the map."""
        if len(self.knots) == 2:
            return self.knots
        lower, upper = MarginalTransform(None, None, self.knots).inverse(np.array([-_QUARTILE, _QUARTILE]))
        return _line(float(lower + upper) / 2, float(upper - lower) / (2 * _QUARTILE))

    def _spline(self, t: Values) -> tuple[Values, Values]:
        t_k, y_k, d_k = self._arrays()
        inside = np.clip(t, t_k[0], t_k[-1])
        i = np.clip(np.searchsorted(t_k, inside) - 1, 0, len(t_k) - 2)
        h, rise = t_k[i + 1] - t_k[i], y_k[i + 1] - y_k[i]
        s, d0, d1 = rise / h, d_k[i], d_k[i + 1]
        xi = (inside - t_k[i]) / h
        both = xi * (1 - xi)
        bottom = s + (d0 + d1 - 2 * s) * both
        y = y_k[i] + rise * (s * xi * xi + d0 * both) / bottom
        log_slope = 2 * np.log(s / bottom) + np.log(d1 * xi * xi + 2 * s * both + d0 * (1 - xi) ** 2)
        for side, sign in ((0, -1.0), (-1, 1.0)):
            beyond = np.maximum(sign * (t - t_k[side]), 0.0) * d_k[side]
            grown = np.log1p(beyond / _SOFT)
            y = y + sign * (_SOFT * grown if self.heavy[side] else beyond)
            log_slope = log_slope - grown if self.heavy[side] else log_slope
        return y, log_slope

    def _arrays(self) -> tuple[Values, Values, Values]:
        t, y, d = np.asarray(self.knots, dtype=np.float64).T
        return t, y, d


def _unbound(w: Values, low: float | None, high: float | None) -> tuple[Values, Values]:
    """w within its bounds -> t on the whole line, log dt/dw."""
    tiny = np.finfo(np.float64).tiny
    if low is None and high is None:
        return w, np.zeros_like(w)
    over = None if low is None else np.log(np.maximum(w - low, tiny))
    under = None if high is None else np.log(np.maximum(high - w, tiny))
    if over is not None and under is not None and low is not None and high is not None:
        return over - under, np.log(high - low) - over - under
    if over is not None:
        return over, -over
    assert under is not None
    return -under, -under


def _rebound(t: Values, low: float | None, high: float | None) -> Values:
    if low is not None and high is not None:
        share = np.exp(-np.logaddexp(0.0, -t))
        return np.clip(low + (high - low) * share, low, high)
    if low is not None:
        return low + np.exp(np.minimum(t, 700.0))
    return t if high is None else high - np.exp(np.minimum(-t, 700.0))


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


def _knots(t: Values, gaussian: bool) -> tuple[tuple[float, float, float], ...]:
    n = len(t)
    # Some rows beyond the last knot, and knots whose number grows slowly: quantiles are noisy, bends cost likelihood.
    most = round(1.6 * n**0.25) if gaussian else 0
    if most >= 4:
        edge = float(torch.special.ndtri(torch.tensor(max(_MIN_ROWS_OF_KNOT / n, 1e-3), dtype=torch.float64)))
        y = np.linspace(edge, -edge, min(most, 32))
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
    scale = float(upper - lower) / (2 * _QUARTILE)
    spread = float(t.std())
    if not scale > 1e-3 * spread:
        middle, scale = t.mean(), spread
    if not scale > 0:
        scale = 1.0
    return _line(float(middle), float(scale))


def _line(middle: float, scale: float) -> tuple[tuple[float, float, float], ...]:
    """The knots of (t - middle) / scale."""
    return tuple((middle + y * scale, y, 1 / scale) for y in (-_BULK, _BULK))
