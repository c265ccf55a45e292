"""Mixtures of products over states and numbers: what latent classes and kernels over mixed rows share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..arguments import as_generator
from .base import CELLS, Baseline, draw_components, draw_components_given
from .frequencies import PSEUDO_COUNT


class MixedRows(Baseline):
    """p(states, numbers | context) as a mixture of K densities over all columns, those of the context included.

    The columns of a row and of its context are taken together: M states, M' given states, C numbers, G' given numbers.
    Whatever is NaN, or no state of its column, is missing and is integrated out. p(x | context) is the joint density
    divided by that of the context, which is evaluated with all of x missing.

    Args:
        sizes: the number of states of the M columns.
        numbers: C.
        context_sizes: of the M' columns, which come first in a context.
        context_numbers: G'.
        label: what it is, for people.

    Attributes:
        weights: (K,), summing to 1.
        offsets: where the states of each of the M + M' columns start in a list of all states.
    """

    weights: Tensor
    offsets: Tensor

    def __init__(
        self, sizes: Sequence[int], numbers: int, context_sizes: Sequence[int], context_numbers: int, label: str
    ) -> None:
        super().__init__(len(sizes) + numbers, label, len(context_sizes) + context_numbers)
        self.sizes = self.space.sizes = tuple(sizes)
        self.context_sizes, self.numbers, self.context_numbers = tuple(context_sizes), numbers, context_numbers
        every = torch.tensor([0, *self.sizes, *self.context_sizes])
        self.register_buffer("offsets", every.cumsum(0), persistent=False)

    @abstractmethod
    def scorer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """-> a function that gives log w_k + log p_k (N, K).

        It takes states (N, M + M') as places in a list of all, its length for none, and numbers (N, C + G').
        """

    @abstractmethod
    def draw(self, which: Tensor, given: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draws a row of each of the components `which` (N,), given numbers (N, G'): states (N, M), numbers (N, C)."""

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        given = x.new_zeros(len(x), 0) if context is None else context
        parts, components = x.new_zeros(len(x)), self.scorer()
        for span in torch.arange(len(x)).split(max(1, CELLS // len(self.weights))):
            parts[span] = components(*self._joined(x[span], given[span])).logsumexp(1)
            if self.context_dim:
                nothing = torch.full_like(x[span], torch.nan)
                parts[span] -= components(*self._joined(nothing, given[span])).logsumexp(1)
        return parts

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows, all their numbers: (n, M + C); n for each context (*B, G): (n, *B, M + C)."""
        generator = as_generator(generator, self.weights.device)
        context = self._contexts(context, self.weights)
        contexts, count = self.space.expand_context(n, context)
        if count == 0:
            return self.space.unflatten_samples(self.weights.new_zeros(0, len(self.space.names)), n, context)
        if contexts is None or not self.context_dim:
            which, given = draw_components(self.weights, count, generator), None
        else:
            components = self.scorer()

            def log_weights(some: Tensor) -> Tensor:
                nothing = some.new_full((len(some), len(self.space.names)), torch.nan)
                return components(*self._joined(nothing, some))

            which = draw_components_given(contexts, log_weights, len(self.weights), generator)
            given = contexts[:, len(self.context_sizes) :]
        states, numbers = self.draw(which, given, generator)
        return self.space.unflatten_samples(torch.cat([states.to(numbers), numbers], 1), n, context)

    def _joined(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, M + C), context (N, M' + G') -> states (N, M + M'), numbers (N, C + G'), as `scorer` takes them."""
        m, given = len(self.sizes), len(self.context_sizes)
        states = torch.cat([x[:, :m], context[:, :given]], 1)
        return place(states, self.offsets), torch.cat([x[:, m:], context[:, given:]], 1)


def place(states: Tensor, offsets: Tensor) -> Tensor:
    """States (N, M) of each column -> places (N, M) in a list of all states, its length for what is no state.

    Args:
        states: (N, M), at times NaN.
        offsets: (M + 1,), where each column's start, and the length of the list.
    """
    index = torch.where(states.isnan(), -1.0, states).long()
    is_state = (index >= 0) & (index < offsets.diff())
    return torch.where(is_state, index + offsets[:-1], offsets[-1])


class FittedRows(NamedTuple):
    """Rows to fit to, their given columns included, in units in which each number has mean 0 and variance 1.

    Attributes:
        states: (N, M + M'), as `MixedRows.scorer` takes them.
        numbers: (N, C + G'), NaN where there is none.
        offsets: (M + M' + 1,), see `place`.
        frequencies: (S,) of all states, smoothed: they sum to 1 over each column.
        mean: (C + G',) of the numbers.
        std: (C + G',), 1 for a column that is constant.
    """

    states: Tensor
    numbers: Tensor
    offsets: Tensor
    frequencies: Tensor
    mean: Tensor
    std: Tensor

    @property
    def varies(self) -> Tensor:
        """Which columns (C + G',) of numbers are not constant."""
        return (self.numbers.nan_to_num(0.0) != 0).any(0)


def fitted_rows(
    x: Any, sizes: Sequence[int], context: Any = None, context_sizes: Sequence[int] = (), chosen: Tensor | None = None
) -> FittedRows:
    """Rows x (N, M + C) and their context (N, M' + G'), standardised.

    Args:
        x: M states, then C numbers, NaN where there is none.
        sizes: the number of states of the M columns.
        context: given states, then given numbers; None for nothing.
        context_sizes: of the M' columns.
        chosen: the numbers of the rows that are kept; None for all.

    Raises:
        ValueError: there are fewer than 2 rows, or rows and context do not fit each other.
    """
    rows = torch.as_tensor(x).to("cpu", torch.float64)
    given = rows[:, :0] if context is None else torch.as_tensor(context).to("cpu", torch.float64)
    if rows.ndim != 2 or len(rows) < 2 or given.ndim != 2 or len(given) != len(rows):
        raise ValueError(
            f"expected 2 rows or more and a context for each, got {tuple(rows.shape)}, {tuple(given.shape)}"
        )
    if chosen is not None:
        rows, given = rows[chosen], given[chosen]
    m, m_given = len(sizes), len(context_sizes)
    offsets = torch.tensor([0, *sizes, *context_sizes]).cumsum(0)
    states = place(torch.cat([rows[:, :m], given[:, :m_given]], 1), offsets)
    counts = torch.bincount(states.flatten(), minlength=int(offsets[-1]) + 1)[:-1].double() + PSEUDO_COUNT
    totals = torch.stack([part.sum() for part in counts.split(offsets.diff().tolist())]) if m + m_given else counts
    numbers = torch.cat([rows[:, m:], given[:, m_given:]], 1)
    if bool(numbers.isinf().any()):
        raise ValueError("rows must hold finite numbers, or NaN where there is none")
    mean = numbers.nanmean(0).nan_to_num(0.0)
    # The mean of equal values can round to another one.
    first = numbers.nan_to_num(-math.inf).amax(0)
    is_constant = (numbers.isnan() | (numbers == first)).all(0)
    mean = torch.where(is_constant & first.isfinite(), first, mean)
    std = (numbers - mean).square().nanmean(0).sqrt()
    std = torch.where((std > 0) & ~is_constant, std, 1.0)
    frequencies = counts / totals.repeat_interleave(offsets.diff()) if m + m_given else counts
    return FittedRows(states, (numbers - mean) / std, offsets, frequencies, mean, std)
