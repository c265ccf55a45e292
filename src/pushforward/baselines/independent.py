"""Independent: a product of simple densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..arguments import as_generator
from .base import Baseline


class Independent(Baseline):
    """Independent densities of consecutive columns, such as `Frequencies` of states and a Gaussian of numbers.

    Args:
        densities: of the first columns, of the next, and so on, states before numbers; each sees the whole context.
        label: what it is, for people.

    Raises:
        ValueError: one of them is no simple density.
    """

    def __init__(self, densities: Sequence[Baseline], label: str = "") -> None:
        strange = [type(density).__name__ for density in densities if not isinstance(density, Baseline)]
        if strange:
            raise ValueError(f"only simple densities are parts of independent ones, got {', '.join(strange)}")
        super().__init__(sum(len(d.space.names) for d in densities), label, max(d.context_dim for d in densities))
        self.densities = nn.ModuleList(densities)
        self.takes_any_context = all(density.takes_any_context for density in densities)
        self.space.sizes = tuple(size for density in densities for size in density.space.sizes)

    @property
    def parts(self) -> list[Baseline]:
        """The densities, in order."""
        return cast("list[Baseline]", list(self.densities))

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        columns = x.split([len(part.space.names) for part in self.parts], 1)
        each = [part.log_prob(values, context) for part, values in zip(self.parts, columns, strict=True)]
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, D); n for each context (*B, G): (n, *B, D)."""
        generator = as_generator(generator, next(self.buffers()).device)
        return torch.cat([part.sample(n, context, generator=generator) for part in self.parts], -1)
