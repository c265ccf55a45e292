"""Logarithmic tails: outliers are compressed, so that float32 networks see them."""

from __future__ import annotations

import torch
from torch import Tensor

_FOLD = 4.0  # spreads, up to which nothing is folded
_SOFT = 3.0  # spreads beyond that over which a line bends into a logarithm: less makes wild samples
NO_END = 1e300  # of a fold that stays a logarithm
FARTHEST = 60.0  # exponent in the inverse, which float32 still holds


def fold(y: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """y (..., C) -> z (..., C), log dz/dy (..., C): a logarithm from `_FOLD` on, a line from end (C,) on."""
    beyond = (y.abs() - _FOLD).clamp_min(0) / _SOFT
    bent = torch.minimum(beyond, _units(end))
    z = torch.where(beyond > 0, y.sign() * (_FOLD + _SOFT * (bent.log1p() + (beyond - bent) / (1 + bent))), y)
    return z, -bent.log1p()


def unfold(z: Tensor, end: Tensor) -> Tensor:
    """The inverse of `fold`: z (..., C) -> y (..., C)."""
    beyond = (z.abs() - _FOLD).clamp_min(0) / _SOFT
    bent = torch.minimum(beyond, _units(end).log1p()).clamp_max(FARTHEST)
    y = z.sign() * (_FOLD + _SOFT * (bent.expm1() + (beyond - bent) * bent.exp()))
    return torch.where(beyond > 0, y, z)


def _units(end: Tensor) -> Tensor:
    return (end - _FOLD).clamp_min(0) / _SOFT
