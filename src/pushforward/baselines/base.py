"""What simple densities share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..density import Density, Vectors

COUNTS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)  # of the components or classes that are tried
WORK = 6e9  # rows x components x squared columns of the largest mixture tried, which keeps a fit to seconds


class Baseline(Density):
    """A simple density over vectors.

    Attributes:
        label: what it is, for people.
        context_dim: the number of columns of the context that it is conditional on.
    """

    def __init__(self, width: int, label: str, context_dim: int = 0) -> None:
        super().__init__()
        self.space, self.label, self.context_dim = Vectors(width), label, context_dim

    def _rows(self, values: Any, like: Tensor) -> Tensor:
        """Numbers (N, ...) -> (N, D)."""
        rows = torch.as_tensor(values, dtype=like.dtype, device=like.device)
        return rows.flatten(1) if rows.ndim > 1 else rows[:, None]

    def _contexts(self, context: Any, like: Tensor) -> Tensor | None:
        """What is drawn for, (*B, G).

        Raises:
            ValueError: the density is conditional and there is none, or it has another width.
        """
        contexts = None if context is None else torch.as_tensor(context).to(like)
        if self.context_dim and (contexts is None or contexts.shape[-1:] != (self.context_dim,)):
            got = "none" if contexts is None else f"one of shape {tuple(contexts.shape)}"
            raise ValueError(f"expected a context of {self.context_dim} columns, got {got}")
        return contexts


def choose(log_weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """One of K for each row, by its log-weights (N, K) -> (N,)."""
    if len(log_weights) == 0:
        return torch.zeros(0, dtype=torch.int64, device=log_weights.device)
    return torch.multinomial(log_weights.softmax(1), 1, generator=generator)[:, 0]
