"""The fixed map of one column to about a standard normal: log or logit at its bounds, then a line or monotone spline.

Everything is float64: detail that float32 would lose is kept. The splines are those of `bijections.marginals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...bijections.marginals import QUARTILE, Knot, Knots, Values, bend, fitted_knots, line, unbend

_NEAR = 0.25  # spreads from a bound up to which a linear map is a logarithm
_LINEAR_KNOTS = 8  # between which a spline is within .01 spreads of the line, up to 100 times the first knot


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
    knots: tuple[Knot, ...]
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
        return MarginalTransform(low, high, *fitted_knots(t, gaussian))

    @staticmethod
    def linear(w: Values, low: float) -> MarginalTransform | None:
        """A map that is linear in w, and logarithmic only near the bound.

        Args:
            w: training values (N,), above the bound.
            low: lower bound.

        Returns:
            The map; None where all values lie near the bound.
        """
        above = w - low
        (lower, _, slope), (upper, _, _) = fitted_knots(above, False)[0]
        middle, scale = (lower + upper) / 2, 1 / slope
        first, last = _NEAR * scale, float(above.max())
        if first >= last / 2:
            return None
        knots = np.geomspace(first, last, _LINEAR_KNOTS)
        y, slopes = (knots - middle) / scale, knots / scale
        return MarginalTransform(
            low, None, tuple(zip(np.log(knots).tolist(), y.tolist(), slopes.tolist(), strict=True))
        )

    def forward(self, w: Values) -> tuple[Values, Values]:
        """w (N,) -> y (N,), log dy/dw (N,); w must lie within the bounds."""
        t, log_slope = _unbound(w, self.low, self.high)
        y, more = (v[:, 0].numpy() for v in bend(_as_column(t), self._spline))
        return y, log_slope + more

    def inverse(self, y: Values) -> Values:
        """y (N,) -> w (N,), within the bounds."""
        return _rebound(unbend(_as_column(y), self._spline)[:, 0].numpy(), self.low, self.high)

    def straightened(self) -> tuple[Knot, ...]:
        """The knots of a line through the middle half of the map."""
        if len(self.knots) == 2:
            return self.knots
        lower, upper = MarginalTransform(None, None, self.knots).inverse(np.array([-QUARTILE, QUARTILE]))
        return line(float(lower + upper) / 2, float(upper - lower) / (2 * QUARTILE))

    @property
    def _spline(self) -> Knots:
        return Knots.of([self.knots], [self.heavy])


def _as_column(values: Values) -> torch.Tensor:
    """Values (N,) -> (N, 1)."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))[:, None]


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
