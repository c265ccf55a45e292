"""Simple densities over a tensor (B, M + C) of M states and C numbers: what a flow has to beat.

They are fitted in closed form or by scikit-learn and kept as tensors, so that they save, load and sample like any other
density. Numbers that are NaN are not there: they are integrated out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .density import Density, Vectors, as_generator

_COUNTS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)
_WORK = 6e9  # rows x components x squared columns of the largest mixture tried, which keeps a fit to seconds
_KERNEL_COLUMNS = 6  # beyond which a kernel density is a poor one
_KERNELS, _BANDWIDTH_ROWS = 4000, 1000
_PSEUDO_COUNT = 0.5  # added to each count (Krichevsky and Trofimov 1981)
_FIT_ROWS = 20_000
_LOG_2PI = math.log(2 * math.pi)


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


class Frequencies(Baseline):
    """Independent columns of states, P(s) = prod_m p_m(s_m), whatever the context is.

    Args:
        sizes: K_m, the number of states of each of the M columns.
        log_mass: log p_m of all columns, one after another (sum K_m,); uniform when None.

    Example:
        >>> Frequencies([2, 5]).log_prob(torch.tensor([[0, 3]])).exp()
        tensor([0.1000], dtype=torch.float64)
    """

    log_mass: Tensor

    def __init__(self, sizes: Sequence[int], log_mass: Tensor | None = None) -> None:
        super().__init__(len(sizes), "independent frequencies")
        self.sizes = self.space.sizes = tuple(sizes)
        uniform = torch.cat([torch.full((size,), -math.log(size), dtype=torch.float64) for size in self.sizes])
        self.register_buffer("log_mass", uniform if log_mass is None else log_mass)

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-mass of states x (N, M) -> (N,), in nats."""
        states = torch.as_tensor(x, device=self.log_mass.device).long()
        columns = self.log_mass.split(list(self.sizes))
        each = [log_p[s.clamp(0, len(log_p) - 1)] for log_p, s in zip(columns, states.unbind(1), strict=True)]
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, M); n for each context (*B, G): (n, *B, M)."""
        generator = as_generator(generator, self.log_mass.device)
        _, count = self.space.expand_context(n, context)
        drawn = [_choose(log_p.expand(count, -1), generator) for log_p in self.log_mass.split(list(self.sizes))]
        return self.space.unflatten_samples(torch.stack(drawn, 1).to(self.log_mass.dtype), n, context)


class GaussianMixtureDensity(Baseline):
    """A mixture of K Gaussians over C numbers and the G numbers of a context, on which it is conditioned.

    A Gaussian is one of K = 1. A kernel density is one whose Gaussians share a covariance.

    Args:
        weights: (K,), summing to 1.
        means: (K, C + G).
        covariances: (K, C + G, C + G), or (1, C + G, C + G) for all.
        context_dim: G.
        label: what it is, for people.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, *, context_dim: int = 0, label: str = ""
    ) -> None:
        super().__init__(means.shape[1] - context_dim, label, context_dim)
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """log p(x | context) (N,), in nats, of the numbers of x (N, C) that are not NaN; context (N, G), or (1, G).

        Raises:
            ValueError: x or the context has another width.
        """
        rows = self._rows(x, self.means)
        if context is not None:
            given = self._rows(context, self.means)
            rows = torch.cat([rows, given.expand(len(rows), -1) if len(given) == 1 else given], 1)
        width = self.means.shape[1]
        if rows.shape[1] != width:
            raise ValueError(f"expected {width} columns, those of the context included, got {rows.shape[1]}")
        log_prob = rows.new_zeros(len(rows))
        patterns, which = rows.isnan().unique(dim=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            present = (~pattern).nonzero()[:, 0]
            given = present[present >= width - self.context_dim]
            index = (which == k).nonzero()[:, 0]
            for part in index.split(max(1, 2**24 // (len(self.weights) * width))):
                joint, marginal = (self._components(rows[part][:, c], c).logsumexp(1) for c in (present, given))
                log_prob[part] = joint - marginal
        return log_prob

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, C); n for each context (*B, G): (n, *B, C).

        Given a context c, a draw (x', c') of a component becomes x' + S_xc S_cc^-1 (c - c'), with S its covariance.
        """
        generator = as_generator(generator, self.means.device)
        context = None if context is None else torch.as_tensor(context).to(self.means)
        contexts, count = self.space.expand_context(n, context)
        width = self.means.shape[1] - self.context_dim
        if contexts is None:
            log_weights = self.weights.log().expand(count, -1)
        else:
            log_weights = self._components(contexts, torch.arange(width, self.means.shape[1]))
        component = _choose(log_weights, generator)
        which = component if len(self.covariances) > 1 else torch.zeros_like(component)
        noise = torch.randn(count, self.means.shape[1], 1, generator=generator).to(self.means)
        x = self.means[component] + (torch.linalg.cholesky(self.covariances)[which] @ noise)[..., 0]
        if contexts is not None:
            given = self.covariances[:, width:]
            gain = torch.linalg.solve(given[:, :, width:], given[:, :, :width])[which]
            x = x[:, :width] + (gain.mT @ (contexts - x[:, width:])[..., None])[..., 0]
        return self.space.unflatten_samples(x, n, context)

    def _components(self, rows: Tensor, columns: Tensor) -> Tensor:
        """log w_k + log N_k(rows) (N, K) of some columns: rows (N, D'), columns (D',)."""
        d = len(columns)
        covariances = self.covariances[:, columns][:, :, columns]
        # In units of each column's spread, so that columns of very different scales stay well conditioned.
        scale = covariances.diagonal(dim1=1, dim2=2).sqrt()
        factor = torch.linalg.cholesky(covariances / (scale[:, :, None] * scale[:, None]))
        means = self.means[:, columns]
        centre = means.mean(0)

        def white(values: Tensor) -> Tensor:
            return torch.linalg.solve_triangular(factor, ((values - centre) / scale[:, None]).mT, upper=False).mT

        centres = white(means.view(len(factor), len(means) // len(factor), d))
        squared = torch.cdist(white(rows[None]), centres).square().transpose(0, 1).reshape(len(rows), len(means))
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1) + scale.log().sum(1)
        return self.weights.log() - 0.5 * (squared + d * _LOG_2PI) - log_det


class Independent(Baseline):
    """Independent densities of consecutive columns, such as `Frequencies` of states and a Gaussian of numbers.

    Args:
        densities: of the first columns, of the next, and so on, states before numbers; each sees the whole context.
        label: what it is, for people.
    """

    def __init__(self, densities: Sequence[Baseline], label: str = "") -> None:
        super().__init__(sum(len(d.space.names) for d in densities), label, max(d.context_dim for d in densities))
        self.densities = nn.ModuleList(densities)
        self.space.sizes = tuple(size for density in densities for size in density.space.sizes)

    @property
    def parts(self) -> list[Baseline]:
        """The densities, in order."""
        return cast("list[Baseline]", list(self.densities))

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row, x (N, D) -> (N,), in nats."""
        columns = torch.as_tensor(x).flatten(1).split([len(part.space.names) for part in self.parts], 1)
        each = [part.log_prob(values, context) for part, values in zip(self.parts, columns, strict=True)]
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, D); n for each context (*B, G): (n, *B, D)."""
        generator = as_generator(generator, next(self.buffers()).device)
        return torch.cat([part.sample(n, context, generator=generator) for part in self.parts], -1)


def fit_baselines(x: Tensor, sizes: Sequence[int], context: Tensor | None, seed: int) -> dict[str, Baseline]:
    """Fits each baseline that rows allow: states by frequencies, times some density of the numbers.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        sizes: the number of states of the M columns.
        context: (N, G), on which numbers are conditioned; None for nothing.
        seed: of every random step.

    Returns:
        by name: `frequencies` where there are no numbers; else `gaussian`, and with scikit-learn `mixture` and, for few
        columns of numbers alone, `kde`. None where a number is constant.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_FIT_ROWS]
    frequencies = [fit_frequencies(x[:, : len(sizes)], sizes)] if sizes else []
    numbers = x[:, len(sizes) :].double().cpu()
    if numbers.shape[1] == 0:
        return {"frequencies": frequencies[0]}
    present = ~numbers.isnan()
    means = numbers.nansum(0) / present.sum(0)
    filled = torch.where(present, numbers, means)
    if bool((present.sum(0) < 2).any() or (filled == filled[0]).all(0).any()):
        return {}
    own = filled[order]
    joint = own if context is None else torch.cat([own, context[order].double().cpu()], 1)
    context_dim = joint.shape[1] - own.shape[1]
    fitted: dict[str, Baseline] = {"gaussian": fit_gaussian(joint, context_dim)}
    try:
        fitted["mixture"] = fit_gaussian_mixture(joint, seed, context_dim=context_dim)
        if own.shape[1] <= _KERNEL_COLUMNS and not sizes and context is None:
            fitted["kde"] = fit_kernel(own, seed)
    except ImportError:
        pass
    if not sizes:
        return fitted
    return {
        name: Independent([*frequencies, density], f"{density.label.split(',')[0]}, frequencies")
        for name, density in fitted.items()
    }


def fit_frequencies(states: Tensor, sizes: Sequence[int]) -> Frequencies:
    """Smoothed frequencies of states (N, M), of which there are `sizes`."""
    counts = [torch.bincount(s.long().cpu(), minlength=k)[:k] for s, k in zip(states.unbind(1), sizes, strict=True)]
    masses = [(c + _PSEUDO_COUNT).double() / (c + _PSEUDO_COUNT).sum() for c in counts]
    return Frequencies(sizes, torch.cat(masses).log())


def fit_gaussian(x: Any, context_dim: int = 0) -> GaussianMixtureDensity:
    """The Gaussian with the mean and full covariance of rows, of maximal likelihood.

    Args:
        x: (N, C + G), at least 2 rows; the context comes last.
        context_dim: G.

    Returns:
        the density in float64. If the covariance is singular, a millionth of each column's variance is added to it.

    Raises:
        ValueError: there are too few rows, a value is not finite, or a column, other than of the context, is constant.

    Example:
        >>> fit_gaussian([[-1.0], [1.0]]).log_prob([[0.0]])
        tensor([-0.9189], dtype=torch.float64)
    """
    standard, scaling = _standardised(x, context_dim)
    correlation = standard.mT @ standard / len(standard)
    if torch.linalg.eigvalsh(correlation)[0] < 1e-12 * len(correlation):
        correlation = correlation + 1e-6 * torch.eye(len(correlation), dtype=torch.float64)
    label = "linear Gaussian" if context_dim else "Gaussian, full covariance"
    return scaling.undone(torch.ones(1), torch.zeros(1, len(correlation)), correlation[None], context_dim, label)


def fit_gaussian_mixture(x: Any, seed: int, *, most: int = _COUNTS[-1], context_dim: int = 0) -> GaussianMixtureDensity:
    """The mixture of Gaussians whose number of components has the best BIC; the search ends after two that are worse.

    Args:
        x: (N, C + G); the context comes last.
        seed: of the start of each fit.
        most: the largest number of components tried.
        context_dim: G.

    Raises:
        ImportError: there is no scikit-learn.
        ValueError: as `fit_gaussian`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    standard, scaling = _standardised(x, context_dim)
    rows, d = standard.shape
    best, lowest, worse = None, math.inf, 0
    for count in _COUNTS:
        # Each component needs rows enough to give a covariance a meaning.
        if count > 1 and (count > most or rows < 5 * count * (d + 1) or rows * count * d * d > _WORK):
            break
        model = GaussianMixture(count, reg_covar=1e-6, max_iter=60, tol=2e-3, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                model.fit(standard.numpy())
            except ValueError:  # a component fell onto repeated values
                break
        bic = float(model.bic(standard.numpy()))
        best, worse = (model, 0) if bic < lowest else (best, worse + 1)
        lowest = min(lowest, bic)
        if worse == 2:
            break
    if best is None:
        return fit_gaussian(x, context_dim)
    weights, means, covariances = (torch.from_numpy(v) for v in (best.weights_, best.means_, best.covariances_))
    return scaling.undone(weights, means, covariances, context_dim, f"Gaussian mixture of {len(weights)}")


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


class _Scaling(NamedTuple):
    """How the D columns of some rows were standardised: their means, their spreads, and which D' of them vary."""

    mean: Tensor
    std: Tensor
    varying: Tensor

    def undone(
        self, weights: Tensor, means: Tensor, covariances: Tensor, context_dim: int, label: str
    ) -> GaussianMixtureDensity:
        """The mixture of K Gaussians, (K, D') and (K, D', D'), in the units of all columns."""
        k, d = len(weights), len(self.mean)
        # Columns of the context that are constant are independent of all others, so that they count for nothing.
        every, of_pairs = torch.zeros(k, d).double(), torch.eye(d).double().repeat(k, 1, 1)
        every[:, self.varying] = means.double()
        of_pairs[:, self.varying[:, None], self.varying] = covariances
        means, covariances = every * self.std + self.mean, of_pairs * self.std[:, None] * self.std
        return GaussianMixtureDensity(weights.double(), means, covariances, context_dim=context_dim, label=label)


def _standardised(x: Any, context_dim: int) -> tuple[Tensor, _Scaling]:
    """x (N, C + G) -> its D' columns that vary, of mean 0 and variance 1 (N, D')."""
    x = torch.as_tensor(x, dtype=torch.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"expected at least 2 rows, of shape (N, D), got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("rows must hold finite numbers alone")
    mean, std = x.mean(0), x.std(0, correction=0)
    varies = (x != x[0]).any(0) & (std > 0)
    if not bool(varies[: x.shape[1] - context_dim].all()):
        raise ValueError("a column is constant: its Gaussian has no density")
    scaling = _Scaling(mean, torch.where(varies, std, 1.0), varies.nonzero()[:, 0])
    return ((x - mean) / std)[:, varies], scaling


def _choose(log_weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """One of K for each row, by its log-weights (N, K) -> (N,)."""
    if len(log_weights) == 0:
        return torch.zeros(0, dtype=torch.int64, device=log_weights.device)
    return torch.multinomial(log_weights.softmax(1), 1, generator=generator)[:, 0]
