"""Smooth maps of the whole line with inverses in closed form and few parameters.

Gerdes and Cheng 2026, Analytic Bijections for Smooth and Interpretable Normalizing Flows (arXiv 2601.10774). The maps
are theirs; the bounds on the parameters, and the way to evaluate both directions stably, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .elementwise import Elementwise, soft_clamp


@dataclass(frozen=True)
class CubicRational(Elementwise):
    """y = x + a v / (1 + (k v)^2) with v = x - c: a bump that stretches or squeezes around c, the identity far away.

    It is monotone for -1 < a < 8, and its inverse is the one real root of a cubic. An element has 3 parameters: the raw
    amplitude, the raw log of k, and the centre c.

    Args:
        min_slope: the least slope that any parameters can give; between 0 and 1.
        clamp: bound of |log k|.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> y, _ = CubicRational().forward(torch.tensor([[2.0]]), torch.ones(1, 3, 1))
        >>> CubicRational().inverse(y, torch.ones(1, 3, 1))[0].round(decimals=5)
        tensor([[2.]])
    """

    min_slope: float = 1e-2
    clamp: float = 3.0
    num_params = 3

    def __post_init__(self) -> None:
        if not 0 < self.min_slope < 1:
            raise ValueError(f"min_slope must be between 0 and 1, got {self.min_slope!r}")
        if not self.clamp > 0:
            raise ValueError(f"clamp must be a positive number, got {self.clamp!r}")

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, 3, C, *S) -> y (B, C, *S), log|dy/dx| (B, C, *S)."""
        amplitude, k, centre = self._constrain(params)
        v = x - centre
        bump, slope = _bump(v, amplitude, k)
        return x + bump, torch.log1p(slope)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, 3, C, *S) -> x (B, C, *S), log|dx/dy| (B, C, *S)."""
        amplitude, k, centre = self._constrain(params)
        u = y - centre
        with torch.no_grad():
            # Beyond the bound the root differs from u by less than 8 / bound, which the steps below mend.
            scaled = u * k
            inner = scaled.clamp(-_LARGE, _LARGE)
            v = (_cubic_root(inner, 1 + amplitude) + (scaled - inner)) / k
        # Newton's steps polish the root, and give it its derivatives: the first those of first order, the second those
        # of second order.
        for _ in range(2):
            bump, slope = _bump(v, amplitude, k)
            v = v - (v + bump - u) / (1 + slope)
        return v + centre, -torch.log1p(_bump(v, amplitude, k)[1])

    def _constrain(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        amplitude, k, centre = params.unbind(1)
        free = 1 - self.min_slope
        # A logistic curve from -1 to 8 that is 0 at 0.
        amplitude = free * (9 * torch.sigmoid(amplitude - _LOG_8) - 1)
        return amplitude, soft_clamp(k, self.clamp).exp(), centre


@dataclass(frozen=True)
class SinhArcsinh(Elementwise):
    """y = c + s asinh(e^m (e^n sinh((x - c) / s) + b)): an affine map between a sinh and its inverse.

    Around c it scales by e^(m + n) and leans as b says; far away it is a shift by s (m + n) outwards. The
    inverse has the same form, with -b, -n and -m. An element has 5 parameters: b, m, n, log s (all softly bounded)
    and c.

    Args:
        clamp: bound of |m|, |n| and |log s|; at most 2. |b| stays below 10.

    Raises:
        ValueError: `clamp` is out of range.

    Example:
        >>> y, _ = SinhArcsinh().forward(torch.tensor([[2.0]]), torch.ones(1, 5, 1))
        >>> SinhArcsinh().inverse(y, torch.ones(1, 5, 1))[0].round(decimals=5)
        tensor([[2.]])
    """

    clamp: float = 2.0
    num_params = 5

    def __post_init__(self) -> None:
        if not 0 < self.clamp <= 2:
            raise ValueError(f"clamp must be above 0 and at most 2, got {self.clamp!r}")

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, 5, C, *S) -> y (B, C, *S), log|dy/dx| (B, C, *S)."""
        shift, outer, inner, scale, centre = self._constrain(params)
        return _sinh_arcsinh(x, shift, outer, inner, scale, centre)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, 5, C, *S) -> x (B, C, *S), log|dx/dy| (B, C, *S)."""
        shift, outer, inner, scale, centre = self._constrain(params)
        return _sinh_arcsinh(y, -shift, -inner, -outer, scale, centre)

    def _constrain(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        shift, outer, inner, log_scale, centre = params.unbind(1)
        outer, inner, log_scale = (soft_clamp(raw, self.clamp) for raw in (outer, inner, log_scale))
        return soft_clamp(shift, _SHIFT), outer, inner, log_scale.exp(), centre


_LOG_8 = 2.0794415416798357
_LARGE = 1e3  # whose sixth power float32 still holds
_SHIFT = 10.0
_FLAT = 37.0  # beyond it, the sinh map is a shift to 14 digits; and z^2 does not overflow before


def _bump(v: Tensor, amplitude: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """-> what the map adds to x, and the derivative of that."""
    g = 1 / (1 + (k * v).square())
    return amplitude * v * g, amplitude * g * (2 * g - 1)


def _cubic_root(u: Tensor, linear: Tensor) -> Tensor:
    """The real root w of w^3 - u w^2 + linear w - u = 0, by Cardano; linear is between 0 and 9, so there is but one."""
    third = u / 3
    p = linear - u * third
    q = third * (linear - 3) - 2 * third**3
    root = ((q / 2).square() + (p / 3) ** 3).clamp(min=0).sqrt()
    # Of the two cube roots this is the one whose argument adds what has one sign; p divided by it gives the other.
    larger = (q.abs() / 2 + root).pow(1 / 3)
    return third - torch.where(q < 0, -1.0, 1.0) * (larger - p / (3 * larger))


def _sinh_arcsinh(
    x: Tensor, shift: Tensor, outer: Tensor, inner: Tensor, scale: Tensor, centre: Tensor
) -> tuple[Tensor, Tensor]:
    w = (x - centre) / scale
    near = w.clamp(-_FLAT, _FLAT)
    z = outer.exp() * (inner.exp() * near.sinh() + shift)
    log_det = outer + inner + near.cosh().log() - torch.hypot(z, torch.ones_like(z)).log()
    return centre + scale * (torch.asinh(z) + (w - near)), log_det
