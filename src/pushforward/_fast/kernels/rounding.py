"""Rounded products between hidden layers, asked for by name, and how far they are from the exact ones."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from . import fast_ok

ROWS = 1024  # scored twice in each call: about the time of one chunk


class Rounding(NamedTuple):
    """How far log p with rounded products was from the exact one on some rows, in nats.

    Attributes:
        mean: the mean absolute difference.
        largest: the largest one of these rows; among millions of rows there will be larger ones.
        rows: how many rows were compared.
    """

    mean: float
    largest: float
    rows: int


def hidden_dtype(precision: str) -> torch.dtype:
    """The number format between hidden layers that a user's precision stands for.

    Raises:
        ValueError: the precision is unknown, gradients are on, or no fast form may stand for the plain one.
    """
    if precision != "bf16":
        raise ValueError(f"precision must be None or 'bf16', got {precision!r}")
    if torch.is_grad_enabled():
        raise ValueError("precision='bf16' scores without gradients: call it under torch.no_grad()")
    if not fast_ok():
        raise ValueError("precision='bf16' works neither under compilation nor under transforms of torch.func")
    return torch.bfloat16


def some_rows(count: int, device: torch.device) -> Tensor:
    """Indices of up to `ROWS` of so many rows, evenly spread."""
    return torch.linspace(0, count - 1, min(count, ROWS), device=device, dtype=torch.float64).long()


def compare(rounded: Tensor, exact: Tensor, warn: bool) -> Rounding:
    """The `Rounding` between two log p (B,) of the same rows, with a warning if wanted."""
    difference = (rounded - exact).abs()
    result = Rounding(float(difference.mean()), float(difference.max()), len(difference))
    if warn:
        warnings.warn(
            f"precision='bf16': on {result.rows} of these rows log p differs from the exact one by {result.mean:.2g} "
            f"nats on average and by up to {result.largest:.2g}; among more rows larger differences occur (later calls "
            "keep it in Flow.rounding and do not warn)",
            stacklevel=4,
        )
    return result
