"""What simple densities share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import like
from ..density import Density, Vectors

COUNTS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)  # of the components or classes that are tried
CELLS = 2**17  # rows x components that are held at a time, which a cache holds
WORK = 6e9  # rows x components x squared columns of the largest mixture tried, which keeps a fit to seconds


class Baseline(Density):
    """A simple density over vectors.

    Attributes:
        label: what it is, for people.
        context_dim: the number of columns of the context that it is conditional on.
        takes_any_context: whether contexts may come that it does not depend on.
    """

    takes_any_context = False

    def __init__(self, width: int, label: str, context_dim: int = 0) -> None:
        super().__init__()
        self.space, self.label, self.context_dim = Vectors(width), label, context_dim

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """log p(x | context), in nats, of the columns of x (*N, D) that are not NaN, context (*N, G) -> (*N,) float64.

        Leading axes are broadcast. Two or more rows of one column may come as (N,), contexts likewise; (1,) is one row.

        Raises:
            ValueError: x or the context has another width, there is no context, or the leading axes do not fit.
        """
        reference = like(self)
        rows = _as_rows(x, len(self.space.names), "x", reference)
        given = None
        if context is not None and not self.takes_any_context:
            given = _as_rows(context, self.context_dim, "context", reference)
        elif self.context_dim and context is None:
            raise ValueError(f"expected a context of {self.context_dim} columns, got none")
        leading = rows.shape[:-1]
        if given is not None:
            try:
                leading = torch.broadcast_shapes(leading, given.shape[:-1])
            except RuntimeError:
                shapes = f"{tuple(rows.shape)} and of the context {tuple(given.shape)}"
                raise ValueError(f"the leading axes of x {shapes} do not broadcast") from None
            given = given.expand(*leading, -1).reshape(math.prod(leading), self.context_dim)
        flat = rows.expand(*leading, -1).reshape(math.prod(leading), rows.shape[-1])
        return self._log_prob(flat, given).view(leading)

    @abstractmethod
    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        """As `log_prob`: x (N, D), context (N, G) or None -> (N,)."""

    def _contexts(self, context: Any, reference: Tensor) -> Tensor | None:
        """What is drawn for, (*B, G).

        Raises:
            ValueError: the density is conditional and there is none, or it has another width.
        """
        contexts = None if context is None else torch.as_tensor(context).to(reference)
        if self.context_dim and (contexts is None or contexts.shape[-1:] != (self.context_dim,)):
            got = "none" if contexts is None else f"one of shape {tuple(contexts.shape)}"
            raise ValueError(f"expected a context of {self.context_dim} columns, got {got}")
        return contexts


def _as_rows(values: Any, width: int, name: str, reference: Tensor) -> Tensor:
    """Numbers (*N, D) in the dtype and on the device of another tensor.

    (N,) of one column become (N, 1), and (N, ...) of D numbers a row, as images, (N, D).

    Raises:
        ValueError: they have another width.
    """
    rows = torch.as_tensor(values, dtype=reference.dtype, device=reference.device)
    if width == 1 and rows.ndim == 1 and len(rows) != 1:
        rows = rows[:, None]
    if rows.ndim > 2 and rows.shape[-1] != width and rows.shape[1:].numel() == width:
        rows = rows.flatten(1)
    if rows.ndim == 0 or rows.shape[-1] != width:
        raise ValueError(f"expected {name} of shape (..., {width}), got {tuple(rows.shape)}")
    return rows


def draw_components(weights: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draws `count` of K components, by weights (K,) -> (count,)."""
    return torch.multinomial(weights, max(count, 1), replacement=True, generator=generator)[:count]


def draw_components_given(
    contexts: Tensor, log_weights: Callable[[Tensor], Tensor], components: int, generator: torch.Generator | None
) -> Tensor:
    """Draws one of K components for each context (N, G) -> (N,), in chunks.

    Args:
        contexts: (N, G).
        log_weights: of some contexts, up to a constant of each: (N', G) -> (N', K).
        components: K.
        generator: the source of randomness.
    """
    chunks = contexts.split(max(1, CELLS // components)) if len(contexts) else ()
    drawn = [torch.multinomial(log_weights(some).softmax(1), 1, generator=generator)[:, 0] for some in chunks]
    return torch.cat([torch.zeros(0, dtype=torch.int64, device=contexts.device), *drawn])
