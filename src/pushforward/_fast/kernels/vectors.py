"""Halves of vectors, and sums over them, with memory's layout in mind."""

from __future__ import annotations

import torch
from torch import Tensor

from . import fast_ok as fast_ok


def joined(first: Tensor, second: Tensor) -> Tensor:
    """torch.cat([first, second], 1), with columns one after the other in memory where those of `second` are."""
    if second.ndim == 2 and second.stride(0) == 1:
        return torch.cat([first.t(), second.t()]).t()
    return torch.cat([first, second], 1)


def sum_event(values: Tensor) -> Tensor:
    """values.flatten(1).sum(1); a sum over one column would take longer than the map that it came from."""
    values = values.flatten(1)
    return values[:, 0] if values.shape[1] == 1 else values.sum(1)
