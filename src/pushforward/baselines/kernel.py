"""Kernel densities: of whitened numbers, and of rows with states and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from .gaussian import GaussianMixtureDensity, fit_gaussian
from .mixed import MixedRows, fitted_rows

_KERNELS, _BANDWIDTH_ROWS = 4000, 1000
_PAIRS, _LEAST_ROWS = 2**19, 250  # of rows and kernels, from which the bandwidths of mixed rows are chosen
_BANDWIDTHS = [0.04 * 2 ** (step / 2) for step in range(11)]  # .04 to 1.28 spreads
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
_LOG_2PI = math.log(2 * math.pi)


def fit_kernel(x: Any, seed: int) -> GaussianMixtureDensity:
    """A Gaussian kernel density of whitened rows x (N, C), with the bandwidth of the best likelihood in five folds.

    Raises:
        ImportError: there is no scikit-learn.
        ValueError: as `fit_gaussian`.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KernelDensity

    x = torch.as_tensor(x, dtype=torch.float64)
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_KERNELS]]
    covariance = fit_gaussian(x).covariances[0]
    some = x[:_BANDWIDTH_ROWS] - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), some.mT, upper=False).mT
    # In units of Scott's rule (1979), which knows how bandwidths go down with the number of rows.
    scott = [rows ** (-1 / (x.shape[1] + 4)) for rows in (0.8 * len(white), len(x))]
    grid = {"bandwidth": [scott[0] * 2 ** (step / 2) for step in range(-8, 4)]}
    search = GridSearchCV(KernelDensity(), grid, cv=min(5, len(white)), refit=False).fit(white.numpy())
    bandwidth = search.best_params_["bandwidth"] * scott[1] / scott[0]
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    label = f"kernel density, h = {bandwidth:.2g}"
    return GaussianMixtureDensity(weights, x, bandwidth**2 * covariance[None], label=label)


class MixedKernel(MixedRows):
    """A kernel density over rows with states and numbers: the mean of a product of kernels around each of n rows.

    A state's kernel is that of Aitchison and Aitken (1976), with the frequencies p of its column in place of equal
    chances: 1 - share for the row's own state, and share x p(s) for each. A number's is normal, with a standard
    deviation of `bandwidth` spreads of its column; around a row without that number, the column's mean and spread.

    Args:
        sizes: the number of states of each of the M columns.
        states: (n, M + M') of the rows, those of the context last, as places in a list of all states; S for none.
        numbers: (n, C + G') of the rows, those of the context last; of any value where there is none.
        is_present: (n, C + G'), where there is one.
        log_mass: (S,), log p of all states, one column after another.
        mean: (C + G',) of the numbers.
        std: (C + G',) of the numbers.
        bandwidth: of the numbers, in units of `std`.
        share: of the states, between 0 and 1.
        context_sizes: the number of states of each of the M' columns of the context, which come first in it.
        context_numbers: G', the number of columns of numbers of the context.
    """

    states: Tensor
    centres: Tensor
    is_present: Tensor
    log_mass: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, sizes: Sequence[int], states: Tensor, numbers: Tensor, is_present: Tensor, log_mass: Tensor,
        mean: Tensor, std: Tensor, *, bandwidth: float, share: float, context_sizes: Sequence[int] = (),
        context_numbers: int = 0,
    ) -> None:  # fmt: skip
        label = f"mixed kernel density, h = {bandwidth:.2g}"
        super().__init__(sizes, len(mean) - context_numbers, context_sizes, context_numbers, label)
        if not (bandwidth > 0 and 0 < share < 1):
            raise ValueError(f"expected a bandwidth above 0 and a share between 0 and 1, got {bandwidth} and {share}")
        self.bandwidth, self.share = float(bandwidth), float(share)
        self.register_buffer("weights", log_mass.new_full((len(states),), 1 / len(states)))
        self.register_buffer("states", states)
        self.register_buffer("centres", torch.where(is_present, numbers, 0.0))
        self.register_buffer("is_present", is_present)
        self.register_buffer("log_mass", log_mass)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def scorer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """log w_k + log of the kernel around each row, (N, n)."""
        log_weights = self.weights.log()
        of_states, of_numbers = self.of_states(self.share), self.of_numbers(self.bandwidth)
        return lambda states, numbers: log_weights + of_states(states) + of_numbers(numbers)

    def of_states(self, share: float) -> Callable[[Tensor], Tensor]:
        """What gives the states' part of the log-kernels (N, n), of states (N, M + M')."""
        nothing = len(self.log_mass)
        # One row for each state, of a list of all and none: what it adds to the kernel around each of the n rows.
        table = (self.log_mass + math.log(share))[:, None].repeat(1, len(self.states))
        for m, centre in enumerate(self.states.unbind(1)):
            own = slice(int(self.offsets[m]), int(self.offsets[m + 1]))
            # Around a row without a state its column's frequencies count.
            table[own] = torch.where(centre == nothing, self.log_mass[own, None], table[own])
        table = torch.cat([table, table.new_zeros(1, table.shape[1])])
        stays = torch.cat([(self.log_mass.exp() * share + 1 - share).log(), table.new_zeros(1)])
        table = table.scatter(0, self.states.mT, stays[self.states].mT)
        if self.states.shape[1] == 0:
            return lambda states: table.new_zeros(len(states), table.shape[1])
        return lambda states: embedding_bag(states, table, mode="sum")

    def of_numbers(self, bandwidth: float) -> Callable[[Tensor], Tensor]:
        """What gives the numbers' part of the log-kernels (N, n), of numbers (N, C + G')."""
        centre = torch.where(self.is_present, (self.centres - self.mean) / self.std, 0.0)
        precision = torch.where(self.is_present, bandwidth**-2, 1.0).to(centre)
        constant = precision.log() - _LOG_2PI - 2 * self.std.log() - centre.square() * precision
        # What the squares, the numbers, and their being there are multiplied by.
        factors = torch.cat([-0.5 * precision, centre * precision, 0.5 * constant], 1).mT.contiguous()

        def of(numbers: Tensor) -> Tensor:
            is_missing = numbers.isnan()
            u = torch.where(is_missing, 0.0, (numbers - self.mean) / self.std)
            return torch.cat([u.square(), u, (~is_missing).to(u)], 1) @ factors

        return of

    def draw(self, which: Tensor, given: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draws a row from each of the kernels `which` (N,): states (N, M), numbers (N, C)."""
        states = self.states[which][:, : len(self.sizes)] - self.offsets[: len(self.sizes)]
        device = self.mean.device if generator is None else generator.device
        stays = torch.rand(states.shape, generator=generator, device=device).to(self.mean.device) >= self.share
        for m, log_p in enumerate(self.log_mass[: sum(self.sizes)].split(list(self.sizes))):
            drawn = torch.multinomial(log_p.softmax(0), max(len(which), 1), replacement=True, generator=generator)
            is_own = stays[:, m] & (states[:, m] < self.sizes[m])
            states[:, m] = torch.where(is_own, states[:, m], drawn[: len(which)])
        is_present = self.is_present[which]
        centre, width = (
            torch.where(is_present, self.centres[which], self.mean),
            torch.where(is_present, self.bandwidth, 1.0),
        )
        noise = torch.randn(centre.shape, generator=generator, device=device).to(centre)
        return states, (centre + width * self.std * noise)[:, : self.numbers]


def fit_mixed_kernel(
    x: Any, sizes: Sequence[int], seed: int, *, context: Any = None, context_sizes: Sequence[int] = ()
) -> MixedKernel:
    """The kernel density of rows whose two bandwidths have the best leave-one-out likelihood.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none; at most 4,000 of the rows are kept.
        sizes: the number of states of the M columns.
        seed: of the choice of rows.
        context: (N, M' + G'), on which all is conditioned, given states first; None for nothing.
        context_sizes: the number of states of the M' columns.

    Raises:
        ValueError: there are fewer than 2 rows, values are infinite, or the context does not fit the rows.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_KERNELS]
    data = fitted_rows(x, sizes, context, context_sizes, order)
    context_numbers = data.numbers.shape[1] - (torch.as_tensor(x).shape[1] - len(sizes))
    numbers = data.numbers * data.std + data.mean
    is_present = ~numbers.isnan() & data.varies  # around a constant there is unit variance, as in every baseline

    def density(bandwidth: float, share: float) -> MixedKernel:
        return MixedKernel(
            sizes, data.states, numbers.nan_to_num(0.0), is_present, data.frequencies.log(), data.mean, data.std,
            bandwidth=bandwidth, share=share, context_sizes=context_sizes,
            context_numbers=context_numbers,
        )  # fmt: skip

    kernel = density(_BANDWIDTHS[5], _SHARES[2])
    return density(*_best_bandwidths(kernel, data.states, numbers))


def _best_bandwidths(kernel: MixedKernel, states: Tensor, numbers: Tensor) -> tuple[float, float]:
    """The bandwidth of numbers and the share of states with the best likelihood of some rows, each left out in turn."""
    some = torch.arange(min(len(states), max(_LEAST_ROWS, _PAIRS // len(states))))
    own = len(kernel.sizes), kernel.numbers
    nothing = torch.full_like(states[some, : own[0]], len(kernel.log_mass))
    given_states = torch.cat([nothing, states[some, own[0] :]], 1)
    given_numbers = torch.cat([torch.full_like(numbers[some, : own[1]], torch.nan), numbers[some, own[1] :]], 1)
    sets = [(states[some], numbers[some])] + [(given_states, given_numbers)] * (kernel.context_dim > 0)

    @cache
    def of_states(share: float) -> list[Tensor]:
        of = kernel.of_states(share)
        return [of(s) for s, _ in sets]

    @cache
    def of_numbers(bandwidth: float) -> list[Tensor]:
        of = kernel.of_numbers(bandwidth)
        return [of(y).index_put_((some, some), torch.tensor(-torch.inf).double()) for _, y in sets]

    def score(bandwidth: float, share: float) -> float:
        joint, *given = [
            (a + b).logsumexp(1).sum() for a, b in zip(of_numbers(bandwidth), of_states(share), strict=True)
        ]
        return float(joint - sum(given))

    bandwidth, share = kernel.bandwidth, kernel.share
    for _ in range(2):
        bandwidth = max(_BANDWIDTHS, key=lambda h: score(h, share)) if len(kernel.mean) else bandwidth
        share = max(_SHARES, key=lambda a: score(bandwidth, a)) if states.shape[1] else share
    return bandwidth, share
