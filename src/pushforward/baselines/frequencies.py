"""Frequencies: independent columns of states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import as_generator
from .base import Baseline, draw_components

PSEUDO_COUNT = 0.5  # added to each count (Krichevsky and Trofimov 1981)


class Frequencies(Baseline):
    """Independent columns of states, P(s) = prod_m p_m(s_m), whatever the context is.

    NaN, and what is no state of its column, is not there, and is integrated out.

    Args:
        sizes: K_m, the number of states of each of the M columns.
        log_mass: log p_m of all columns, one after another (sum K_m,); uniform when None.

    Example:
        >>> Frequencies([2, 5]).log_prob(torch.tensor([[0, 3]])).exp()
        tensor([0.1000], dtype=torch.float64)
    """

    takes_any_context = True
    log_mass: Tensor

    def __init__(self, sizes: Sequence[int], log_mass: Tensor | None = None) -> None:
        super().__init__(len(sizes), "independent frequencies")
        self.sizes = self.space.sizes = tuple(sizes)
        uniform = torch.cat([torch.full((size,), -math.log(size), dtype=torch.float64) for size in self.sizes])
        self.register_buffer("log_mass", uniform if log_mass is None else log_mass)

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        columns = self.log_mass.split(list(self.sizes))
        known = [torch.cat([log_p, log_p.new_zeros(1)]) for log_p in columns]  # the last is of what is not there
        places = [
            torch.where(s.isnan() | (s < 0), len(log_p) - 1, s).clamp(max=len(log_p) - 1).long()
            for log_p, s in zip(known, x.unbind(1), strict=True)
        ]
        each = [log_p[place] for log_p, place in zip(known, places, strict=True)]
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, M); n for each context (*B, G): (n, *B, M)."""
        generator = as_generator(generator, self.log_mass.device)
        _, count = self.space.expand_context(n, context)
        drawn = [draw_components(log_p.exp(), count, generator) for log_p in self.log_mass.split(list(self.sizes))]
        return self.space.unflatten_samples(torch.stack(drawn, 1).to(self.log_mass.dtype), n, context)


def fit_frequencies(states: Tensor, sizes: Sequence[int]) -> Frequencies:
    """Smoothed frequencies of states (N, M), of which there are `sizes`."""
    counts = [torch.bincount(s.long().cpu(), minlength=k)[:k] for s, k in zip(states.unbind(1), sizes, strict=True)]
    masses = [(c + PSEUDO_COUNT).double() / (c + PSEUDO_COUNT).sum() for c in counts]
    return Frequencies(sizes, torch.cat(masses).log())
