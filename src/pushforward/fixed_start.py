"""What a density begins with that no training changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .density import Density


class FixedStart(NamedTuple):
    """The maps that a density begins with and that no training changes: rows can be mapped once, before the first step.

    Attributes:
        map: (x (N, *shape), context (N, K) or None) -> what `rest` takes of them, and the log-determinant (N,). Rows
            come in float64, of which only differences survive in float32, or in the dtype of the density.
        rest: the density of what the maps make, which shares its parameters with the whole.
        parts: all that the map depends on.
    """

    map: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None, Tensor]]
    rest: Density
    parts: tuple[nn.Module | Tensor | None, ...]

    def is_same_map(self, other: FixedStart) -> bool:
        """Whether another density is known to begin with the same map."""
        return len(self.parts) == len(other.parts) and all(map(_is_same, self.parts, other.parts))


def _is_same(one: nn.Module | Tensor | None, other: nn.Module | Tensor | None) -> bool:
    """Whether two parts are the same: layers of this package are if their buffers are; others may hold anything."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if one is other or not isinstance(one, nn.Module) or not isinstance(other, nn.Module):
        return one is other
    kinds, other_kinds = ([type(module) for module in part.modules()] for part in (one, other))
    are_own = all(kind.__module__.partition(".")[0] == __package__ for kind in kinds)
    buffers, other_buffers = list(one.buffers()), list(other.buffers())
    are_equal = kinds == other_kinds and len(buffers) == len(other_buffers)
    return are_own and are_equal and all(map(torch.equal, buffers, other_buffers))
