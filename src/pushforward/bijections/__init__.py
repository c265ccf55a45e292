"""Invertible maps with exact log-determinants, over tensors (B, C, *S)."""

from .base import Bijection, Chain, Inverse, sum_event
from .coupling import Coupling, MaskedCoupling, TriangularCoupling
from .linear import LULinear, Permute, Rotation
from .norm import ActNorm, Standardize

__all__ = [
    "ActNorm",
    "Bijection",
    "Chain",
    "Coupling",
    "Inverse",
    "LULinear",
    "MaskedCoupling",
    "Permute",
    "Rotation",
    "Standardize",
    "TriangularCoupling",
    "sum_event",
]
