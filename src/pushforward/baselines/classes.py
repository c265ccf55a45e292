"""Latent classes: a mixture of products of frequencies and Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import COUNTS
from .em import EM, Parameters, sum_of_rows
from .gaussian import draw_normals, log_normals
from .mixed import FittedRows, MixedRows, fitted_rows

_LEAST = 8  # rows a class
_SEARCH_ROWS = 4000  # from which the number of classes and their form are chosen


class LatentClasses(MixedRows):
    """A mixture of K classes, in each of which states are independent of each other and of numbers, which are normal.

    p(s, y) = sum_k w_k prod_m p_km(s_m) N(y; m_k, S_k), conditioned on the columns of a context, if there are any. The
    latent class model of Lazarsfeld and Henry (1968), with numbers (Moustaki 1996).

    Args:
        sizes: the number of states of each of the M columns.
        weights: (K,), summing to 1.
        log_mass: (S, K), log p_km of all states, one column after another, those of the context last.
        means: (K, C + G') of the numbers, those of the context last.
        covariances: (K, C + G', C + G'), or (K, C + G') where they are diagonal.
        context_sizes: the number of states of each of the M' columns of the context, which come first in it.
        context_numbers: G', the number of columns of numbers of the context.
        label: what it is, for people.
    """

    log_mass: Tensor
    means: Tensor
    covariances: Tensor

    def __init__(
        self, sizes: Sequence[int], weights: Tensor, log_mass: Tensor, means: Tensor, covariances: Tensor, *,
        context_sizes: Sequence[int] = (), context_numbers: int = 0, label: str = "latent classes",
    ) -> None:  # fmt: skip
        super().__init__(sizes, means.shape[1] - context_numbers, context_sizes, context_numbers, label)
        self.register_buffer("weights", weights)
        self.register_buffer("log_mass", log_mass)
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)

    def scorer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """log w_k + log p_k, (N, K)."""

        def components(states: Tensor, numbers: Tensor) -> Tensor:
            log_probs = self.weights.log().expand(len(numbers), -1)
            if states.shape[1]:
                log_probs = log_probs + sum_of_rows(states, self.log_mass)
            return log_probs + log_normals(numbers, self.means, self.covariances) if numbers.shape[1] else log_probs

        return components

    def draw(self, which: Tensor, given: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draws a row of each of the classes `which` (N,), given numbers (N, G'): states (N, M), numbers (N, C)."""
        states = torch.zeros(len(which), len(self.sizes), device=which.device)
        for m, log_p in enumerate(self.log_mass[: sum(self.sizes)].split(list(self.sizes))):
            for k in which.unique():
                rows = (which == k).nonzero()[:, 0]
                p = log_p[:, k].softmax(0)
                states[rows, m] = torch.multinomial(p, len(rows), replacement=True, generator=generator).to(states)
        return states, draw_normals(which, self.means, self.covariances, given, generator)[:, : self.numbers]


def fit_latent_classes(
    x: Any, sizes: Sequence[int], seed: int, *, context: Any = None, context_sizes: Sequence[int] = (),
    most: int = COUNTS[-1],
) -> LatentClasses:  # fmt: skip
    """Latent classes whose number, and form of covariances, diagonal or full, have the best BIC.

    Each is fitted by EM (Dempster, Laird and Rubin 1977) with a weak prior, which keeps frequencies from 0 and
    variances from collapsing; numbers that are not there are integrated out. The search for a form ends after two
    numbers of classes that are worse, and takes 4,000 of the rows; the best is then fitted to all. Full covariances are
    left out where they would take long: see `EM.can_be_full`.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        sizes: the number of states of the M columns.
        seed: of the starts.
        context: (N, M' + G'), on which all is conditioned, given states first; None for nothing.
        context_sizes: the number of states of the M' columns.
        most: the largest number of classes tried.

    Raises:
        ImportError: there is no scikit-learn.
        ValueError: there are fewer than 2 rows, values are infinite, or the context does not fit the rows.
    """
    data = fitted_rows(x, sizes, context, context_sizes)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.states), generator=generator)
    every = data._replace(states=data.states[order], numbers=data.numbers[order][:, data.varies])
    some = every._replace(states=every.states[:_SEARCH_ROWS], numbers=every.numbers[:_SEARCH_ROWS])
    best, lowest = None, math.inf
    for is_full in (False, True):
        em = EM(some, is_full)
        if is_full and not em.can_be_full(1):
            break
        lowest_of_form, worse = math.inf, 0
        for count in COUNTS:
            too_many = count > most or len(some.states) < _LEAST * count or (is_full and not em.can_be_full(count))
            if (count > 1 and too_many) or worse == 2:
                break
            parameters, bic = em.fit(count, generator)
            worse = 0 if bic < lowest_of_form else worse + 1
            lowest_of_form = min(lowest_of_form, bic)
            if best is None or bic < lowest:
                best, lowest = parameters, bic
    assert best is not None  # one class is always fitted
    if len(order) > _SEARCH_ROWS:
        best = EM(every, best.covariances.ndim == 3).go_on(best)
    means, covariances = _in_units(best, data)
    form = "latent classes, full covariances" if covariances.ndim == 3 else "latent classes"
    given = len(data.mean) - (torch.as_tensor(x).shape[1] - len(sizes))
    return LatentClasses(
        sizes, best.log_weights.exp(), best.log_mass, means, covariances, context_sizes=context_sizes,
        context_numbers=given, label=f"{form}, K = {len(best.log_weights)}",
    )  # fmt: skip


def _in_units(p: Parameters, data: FittedRows) -> tuple[Tensor, Tensor]:
    """Means (K, D) and covariances, (K, D, D) or (K, D), of all columns of numbers, in their units.

    Those that are constant have unit variance and are independent of all others, as in every baseline.
    """
    k, d, varying, std = len(p.log_weights), len(data.mean), data.varies.nonzero()[:, 0], data.std
    means = torch.zeros(k, d).double()
    means[:, varying] = p.means
    if p.covariances.ndim == 2:
        covariances, spread = torch.ones(k, d).double(), std.square()
        covariances[:, varying] = p.covariances
    else:
        covariances, spread = torch.eye(d).double().repeat(k, 1, 1), std[:, None] * std
        covariances[:, varying[:, None], varying] = p.covariances
    return means * std + data.mean, covariances * spread
