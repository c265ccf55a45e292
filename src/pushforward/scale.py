"""Scales: one that takes a column away, and a warning where a layer that measures scales was never shown data."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .switch import is_eager

HUGE_SPREAD = 1e30  # what is divided by it vanishes
_OFF = 3.0  # spreads by which the mean of a column may be rounded
_UNIT = (0.1, 10.0)  # root mean squares of a column that need no scale


def look_at_scale(layer: nn.Module, x: Tensor, rows: str = "rows") -> None:
    """Warns, at the first rows x (B, C, *S) with gradients, where a layer measured no scale and they need one.

    Args:
        layer: with a buffer `initialized`, which notes that it was looked at.
        x: what it maps.
        rows: what they are called in the message.
    """
    state: Any = layer
    # Compiled code must not read what changes, so that comes last.
    if not is_eager() or x.is_meta or len(x) < 2 or not torch.is_grad_enabled() or getattr(layer, "_scale_seen", False):
        return
    state._scale_seen = True
    if not state.initialized:
        _warn_of_scale(type(layer).__name__, x, rows)


def check_scale(mean: Tensor, std: Tensor, dtype: torch.dtype, rows: str = "x") -> None:
    """Refuses columns whose mean or standard deviation (C,), in float64, a dtype does not hold.

    A mean is not held where it is rounded by several standard deviations.

    Raises:
        ValueError: it does not; the first such column is named.
    """
    limits = torch.finfo(dtype)
    bad = (mean.abs() > limits.max) | (std > limits.max) | ((std > 0) & (std < limits.tiny))
    bad |= (std > 0) & ((mean - mean.to(dtype).double()).abs() > _OFF * std)
    if bool(bad.any()):
        column = int(bad.nonzero()[0])
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"column {column} of {rows} has mean {float(mean[column]):.3g} and standard deviation "
            f"{float(std[column]):.3g}, beyond what {kind} holds: subtract the mean, rescale it"
            + (", or use flow.double()" if dtype != torch.float64 else "")
        )


@torch.no_grad()
def _warn_of_scale(name: str, x: Tensor, rows: str) -> None:
    values = x.double().transpose(0, 1).flatten(1)
    size = values.square().mean(1).sqrt()
    far = ((size > _UNIT[1]) | ((size < _UNIT[0]) & (size > 0))).nonzero().flatten().tolist()
    if far:
        mean, std = float(values[far[0]].mean()), float(values[far[0]].std(correction=0))
        warnings.warn(
            f"{name} saw no data and measured no scale, but the {rows} are far from unit scale (column "
            f"{far[0]}: mean {mean:.3g}, standard deviation {std:.3g}): before a training loop of your own call "
            f"flow.initialize({'x' if rows == 'rows' else 'x, context'}), as fit and train do",
            stacklevel=3,
        )
