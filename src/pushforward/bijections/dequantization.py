"""Variational dequantization as a bijection that keeps bytes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .base import Bijection, sum_event
from .coupling import as_params
from .spline import RationalQuadratic

BYTES = 256
ALPHA = 0.05
SPLINE = RationalQuadratic(bins=4, bound=1.0)


def check_alpha(alpha: float | None) -> None:
    """Checks the alpha of a logit.

    Raises:
        ValueError: it is neither None nor above 0 and below 1/2.
    """
    if alpha is not None and not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be None or above 0 and below 0.5, got {alpha!r}")


def from_unit(x: Tensor, alpha: float | None) -> tuple[Tensor, Tensor]:
    """x in [0, 1) -> the logit y of alpha + (1 - 2 alpha) x, log|dy/dx|, of the same shape; without alpha, x and 0."""
    if alpha is None:
        return x, torch.zeros_like(x)
    p = alpha + (1 - 2 * alpha) * x
    return p.log() - (1 - p).log(), math.log(1 - 2 * alpha) - p.log() - (1 - p).log()


def to_unit(y: Tensor, alpha: float | None) -> Tensor:
    """The inverse of `from_unit`, without its derivative."""
    return y if alpha is None else (torch.sigmoid(y) - alpha) / (1 - 2 * alpha)


class VariationalDequantization(Bijection):
    """Moves each number within its byte, given all bytes (Ho et al. 2019, Flow++, arXiv 1902.00275, section 3.1).

    A number y of `ImageDensity` is a byte b with uniform noise e. It becomes b with the noise u = h(e), an increasing
    map of the unit interval whose parameters are functions of the bytes. As these stay, the layer is a bijection, and
    before a flow its log-determinant makes of the bound E log p(b + e) that of Flow++, E [log p(b + u) - log q(u | b)].
    Numbers that no byte gives stay as they are.

    Args:
        net: (bytes (B, C, *S), mapped to [-1, 1], context) -> (B, P * C, *S), P blocks of C channels.
        spline: h, with a bound of 1 and P parameters an element; [-1, 1] is taken for the unit interval.
        alpha: of the logit of `ImageDensity`; None for numbers in [0, 1).
        shades: how many bytes images have; see `ImageDensity`.

    Raises:
        ValueError: the bound of the spline is not 1, or alpha or the shades are out of range; in use, when the net
            returns another number of channels.

    Example:
        >>> from pushforward import ConvNet
        >>> layer = VariationalDequantization(ConvNet(1, 11), alpha=None)
        >>> layer(torch.full((1, 1, 2, 2), 0.3))[0].flatten().tolist()
        [0.30000001192092896, 0.30000001192092896, 0.30000001192092896, 0.30000001192092896]
    """

    def __init__(
        self,
        net: Callable[..., Tensor],
        spline: RationalQuadratic = SPLINE,
        *,
        alpha: float | None = ALPHA,
        shades: int = BYTES,
    ) -> None:
        super().__init__()
        check_alpha(alpha)
        if spline.bound != 1:
            raise ValueError(f"the spline must have a bound of 1, so that bytes stay, got {spline.bound!r}")
        if not 2 <= shades <= BYTES:
            raise ValueError(f"shades must be from 2 to {BYTES}, got {shades!r}")
        self.net = net
        self.spline = spline
        self.alpha = alpha
        self.shades = shades

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        return self._moved(x, context, self.spline.forward)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        return self._moved(z, context, self.spline.inverse)

    def _moved(
        self, y: Tensor, context: Tensor | None, move: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        scaled = self.shades * to_unit(y.double(), self.alpha)  # float32 would leave few digits to the noise
        floor = scaled.floor()
        is_byte, byte = (floor >= 0) & (floor < self.shades), floor.clamp(0, self.shades - 1)
        params = as_params(self.net((byte / (self.shades - 1) * 2 - 1).to(y.dtype), context), self.spline, y.shape[1])
        noise = scaled - floor
        moved, log_slope = move(2 * noise - 1, params.double())
        before = from_unit((byte + noise) / self.shades, self.alpha)[1]
        after, log_slope_after = from_unit((byte + (moved + 1) / 2) / self.shades, self.alpha)
        log_slope = torch.where(is_byte, log_slope + log_slope_after - before, 0.0)
        return torch.where(is_byte, after.to(y.dtype), y), sum_event(log_slope).to(y.dtype)
