"""Gaussians and their mixtures, over the numbers that are there; shrunk where rows are few."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..arguments import as_generator, as_seed
from .base import COUNTS, WORK, Baseline, draw_components, draw_components_given

_FACTORS = (1, 2, 3, 5, 8)
_LEAST_NOISE = 1e-6  # of a factor analysis, as a share of each column's variance
_SHRINKAGES = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3)
_FOLDS = 4
_SINGULAR = 1e-15  # of an eigenvalue of a correlation matrix, which float64 does not tell from 0
_FEW = 4  # rows a column, above which a factor analysis seldom pays
_LOG_2PI = math.log(2 * math.pi)
_Covariance = Callable[[Tensor], Tensor]  # centred rows (N, D) -> (D, D)


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

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        rows, width = x if context is None else torch.cat([x, context], 1), self.means.shape[1]
        log_prob = rows.new_zeros(len(rows))
        for present, index in patterns(rows.isnan()):
            given = present[present >= width - self.context_dim]
            for part in index.split(max(1, 2**24 // (len(self.weights) * width))):
                joint, marginal = (self._components(rows[part][:, c], c).logsumexp(1) for c in (present, given))
                log_prob[part] = joint - marginal
        return log_prob

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """Draws n rows: (n, C); n for each context (*B, G): (n, *B, C)."""
        generator = as_generator(generator, self.means.device)
        context = self._contexts(context, self.means)
        contexts, count = self.space.expand_context(n, context)
        if contexts is None or not self.context_dim:
            contexts, component = None, draw_components(self.weights, count, generator)
        else:
            own, log_weights = len(self.space.names), self.weights.log()
            means, covariances = self.means[:, own:], self.covariances[:, own:, own:]
            component = draw_components_given(
                contexts, lambda c: log_weights + log_normals(c, means, covariances), len(self.weights), generator
            )
        x = draw_normals(component, self.means, self.covariances, contexts, generator)
        return self.space.unflatten_samples(x, n, context)

    def _components(self, rows: Tensor, columns: Tensor) -> Tensor:
        """log w_k + log N_k(rows) (N, K) of some columns: rows (N, D'), columns (D',)."""
        covariances = self.covariances[:, columns][:, :, columns]
        return self.weights.log() + _log_normals(rows, self.means[:, columns], covariances)


def log_normals(
    x: Tensor, means: Tensor, covariances: Tensor, groups: Iterable[tuple[Tensor, Tensor]] | None = None
) -> Tensor:
    """log N(x; m_k, S_k) (N, K) of the numbers of each row x (N, D) that are not NaN; 0 where there are none.

    Args:
        x: (N, D).
        means: (K, D).
        covariances: (K, D, D), or (K, D) where they are diagonal.
        groups: `patterns` of x, where they are known.
    """
    if covariances.ndim == 2:
        return _log_diagonal(x, means, covariances)
    log_probs = x.new_zeros(len(x), len(means))
    for columns, rows in patterns(x.isnan()) if groups is None else groups:
        if len(columns):
            parts = x[rows][:, columns], means[:, columns], covariances[:, columns][:, :, columns]
            log_probs[rows] = _log_normals(*parts)
    return log_probs


def patterns(is_missing: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Which columns (D',) are there in which rows (N',), for each pattern of is_missing (N, D)."""
    distinct, which = is_missing.unique(dim=0, return_inverse=True)
    for k, pattern in enumerate(distinct):
        yield (~pattern).nonzero()[:, 0], (which == k).nonzero()[:, 0]


def draw_normals(
    which: Tensor, means: Tensor, covariances: Tensor, given: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """Draws a row of each of the components `which` (N,), given its last G columns: -> (N, D - G).

    Given c, a draw (x', c') becomes x' + S_xc S_cc^-1 (c - c'), with S the component's covariance, of the numbers of c
    that are not NaN.

    Args:
        which: (N,) of K components.
        means: (K, D).
        covariances: (K, D, D), or (1, D, D) for all; (K, D) where they are diagonal.
        given: (N, G), or None for nothing.
        generator: the source of randomness.
    """
    width = means.shape[1] - (0 if given is None else given.shape[1])
    device = means.device if generator is None else generator.device
    noise = torch.randn(len(which), means.shape[1], 1, generator=generator, device=device).to(means)
    if covariances.ndim == 2:
        return (means[which] + covariances[which].sqrt() * noise[..., 0])[:, :width]
    of = which if len(covariances) > 1 else torch.zeros_like(which)
    x = means[which] + _products(torch.linalg.cholesky(covariances), of, noise[..., 0])
    if given is None or width == means.shape[1]:
        return x
    drawn = x[:, :width].clone()
    for columns, rows in patterns(given.isnan()):
        if len(columns):
            known = covariances[:, width + columns]
            gain = torch.linalg.solve(known[:, :, width + columns], known[:, :, :width])
            off = given[rows][:, columns] - x[rows][:, width + columns]
            drawn[rows] += _products(gain.mT, of[rows], off)
    return drawn


def _products(matrices: Tensor, which: Tensor, x: Tensor) -> Tensor:
    """The product (N, D) of each row x (N, D') with one of the matrices (K, D, D'), whose number is in which (N,)."""
    products = x.new_empty(len(x), matrices.shape[1])
    for k in which.unique().tolist():
        rows = which == k
        products[rows] = x[rows] @ matrices[k].mT
    return products


def _log_normals(rows: Tensor, means: Tensor, covariances: Tensor) -> Tensor:
    """log N_k(rows) (N, K): rows (N, D), means (K, D), covariances (K, D, D) or (1, D, D)."""
    d = means.shape[1]
    # In units of each column's spread, so that columns of very different scales stay well conditioned.
    scale = covariances.diagonal(dim1=1, dim2=2).sqrt()
    factor = torch.linalg.cholesky(covariances / (scale[:, :, None] * scale[:, None]))
    centre = means.mean(0)

    def white(values: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor, ((values - centre) / scale[:, None]).mT, upper=False).mT

    centres = white(means.view(len(factor), len(means) // len(factor), d))
    squared = torch.cdist(white(rows[None]), centres).square().transpose(0, 1).reshape(len(rows), len(means))
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1) + scale.log().sum(1)
    return -0.5 * (squared + d * _LOG_2PI) - log_det


def _log_diagonal(x: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """log N_k (N, K) of the numbers of x (N, D) that are not NaN: means (K, D), variances (K, D)."""
    is_missing, centre = x.isnan(), means.mean(0)
    u, present = torch.where(is_missing, 0.0, x - centre), (~is_missing).to(x)
    m, precisions = means - centre, 1 / variances
    squared = u.square() @ precisions.mT - 2 * u @ (m * precisions).mT + present @ (m.square() * precisions).mT
    return -0.5 * (squared + present @ (variances.log() + _LOG_2PI).mT)


def fit_gaussian(x: Any, context_dim: int = 0) -> GaussianMixtureDensity:
    """The Gaussian with the mean and full covariance of rows, of maximal likelihood.

    Args:
        x: (N, C + G), at least 2 rows; the context comes last.
        context_dim: G.

    Returns:
        the density in float64. If the covariance is singular, a millionth of each column's variance is added to it. A
        column that is constant has no density: it gets unit variance, independent of the others, in every baseline.

    Raises:
        ValueError: there are too few rows, or a value is not finite.

    Example:
        >>> fit_gaussian([[-1.0], [1.0]]).log_prob([[0.0]])
        tensor([-0.9189], dtype=torch.float64)
    """
    standard, scaling = _standardised(x)
    label = "linear Gaussian" if context_dim else "Gaussian, full covariance"
    return scaling.gaussian(_correlation(standard), context_dim, label)


def fit_shrunk_gaussian(x: Any, seed: int, context_dim: int = 0) -> GaussianMixtureDensity:
    """The Gaussian whose covariance has the best likelihood in four folds, for few rows beside the columns.

    The covariance is that of maximal likelihood; one shrunk towards independence, by Ledoit and Wolf's rule (2004) or a
    fixed share; or that of a factor analysis of 1 to 8 factors (Rubin and Thayer 1982). All columns count, those of
    the context, too.

    Args:
        x: (N, C + G), at least 2 rows; the context comes last.
        seed: of the folds.
        context_dim: G.

    Raises:
        ImportError: there is no scikit-learn.
        ValueError: as `fit_gaussian`.
    """
    standard, scaling = _standardised(x)
    rows, d = standard.shape
    fits = [("shrunk Gaussian", fit) for fit in _shrinkages()]
    if 0.75 * rows > d + 1:
        fits.append(("Gaussian, full covariance", _correlation))
    for factors in _FACTORS:
        if rows < _FEW * d and factors <= min(rows // 4, (d - 1) // 2):
            fits.append((f"factor analysis of {factors}", partial(_factor_covariance, factors=factors, seed=seed)))
    label, fit = fits[_best_of_folds(standard, [fit for _, fit in fits], seed)]
    return scaling.gaussian(fit(standard), context_dim, label)


def shrunk_covariance(z: Tensor, seed: int) -> Tensor:
    """The covariance (D, D) of centred rows z (N, D) of variance 1, shrunk as is best in four folds.

    Raises:
        ImportError: there is no scikit-learn.
    """
    fits = _shrinkages()
    return fits[_best_of_folds(z, fits, seed)](z)


def _shrinkages() -> list[_Covariance]:
    """Ways to shrink the covariance of centred rows (N, D) of variance 1 towards independence."""
    from sklearn.covariance import ledoit_wolf

    def by_rule(z: Tensor) -> Tensor:
        return torch.from_numpy(ledoit_wolf(z.numpy(), assume_centered=True)[0]) if z.shape[1] else z.mT @ z

    def by(share: float, z: Tensor) -> Tensor:
        return (1 - share) * z.mT @ z / len(z) + share * torch.eye(z.shape[1], dtype=torch.float64)

    return [by_rule, *(partial(by, share) for share in _SHRINKAGES)]


def _best_of_folds(z: Tensor, fits: Sequence[_Covariance], seed: int) -> int:
    """Which of some ways to fit a covariance to centred rows z (N, D) gives the best likelihood in four folds."""
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    if len(z) < _FOLDS:  # which tell nothing: the one that shrinks most
        return max(k for k, fit in enumerate(fits) if _is_regular(fit(z)))
    scores = torch.zeros(len(fits))
    for fold in range(_FOLDS if z.shape[1] else 0):
        is_test = torch.zeros(len(z), dtype=torch.bool)
        is_test[order[fold::_FOLDS]] = True
        train, centre = z[~is_test], z[~is_test].mean(0)
        if len(train) > 1 and bool(is_test.any()):
            origin = torch.zeros(1, z.shape[1], dtype=torch.float64)
            for k, fit in enumerate(fits):
                covariance = fit(train - centre)
                is_regular = _is_regular(covariance)
                log_prob = _log_normals(z[is_test] - centre, origin, covariance[None]) if is_regular else None
                scores[k] += -torch.inf if log_prob is None else log_prob.sum()
    return int(scores.argmax())


def _is_regular(covariance: Tensor) -> bool:
    """Whether a covariance (D, D) has a Cholesky factor."""
    return int(torch.linalg.cholesky_ex(covariance).info) == 0


def _correlation(z: Tensor) -> Tensor:
    """The covariance (D, D) of centred rows z (N, D), with a little added to it if it is singular."""
    covariance = z.mT @ z / len(z)
    if len(covariance) and torch.linalg.eigvalsh(covariance)[0] < _SINGULAR * len(covariance):
        covariance = covariance + 1e-6 * torch.eye(len(covariance), dtype=torch.float64)
    return covariance


def _factor_covariance(z: Tensor, factors: int, seed: int) -> Tensor:
    """W W' + diag(noise) (D, D) of a factor analysis of centred rows z (N, D)."""
    from sklearn.decomposition import FactorAnalysis
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FactorAnalysis(factors, max_iter=60, random_state=as_seed(seed)).fit(z.numpy())
    loadings, noise = torch.from_numpy(model.components_), torch.from_numpy(model.noise_variance_)
    return loadings.mT @ loadings + noise.clamp_min(_LEAST_NOISE).diag()


def fit_gaussian_mixture(x: Any, seed: int, *, most: int = COUNTS[-1], context_dim: int = 0) -> GaussianMixtureDensity:
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

    standard, scaling = _standardised(x)
    rows, d = standard.shape
    best, lowest, worse = None, math.inf, 0
    for count in COUNTS:
        # Each component needs rows enough to give a covariance a meaning.
        if d == 0 or (count > 1 and (count > most or rows < 5 * count * (d + 1) or rows * count * d * d > WORK)):
            break
        model = GaussianMixture(count, reg_covar=1e-6, max_iter=60, tol=2e-3, random_state=as_seed(seed))
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


class _Scaling(NamedTuple):
    """How the D columns of some rows were standardised: their means, their spreads, and which D' of them vary."""

    mean: Tensor
    std: Tensor
    varying: Tensor

    def gaussian(self, covariance: Tensor, context_dim: int, label: str) -> GaussianMixtureDensity:
        """The Gaussian of covariance (D', D'), in the units of all columns."""
        return self.undone(torch.ones(1), torch.zeros(1, len(covariance)), covariance[None], context_dim, label)

    def undone(
        self, weights: Tensor, means: Tensor, covariances: Tensor, context_dim: int, label: str
    ) -> GaussianMixtureDensity:
        """The mixture of K Gaussians, (K, D') and (K, D', D'), in the units of all columns."""
        k, d = len(weights), len(self.mean)
        # Columns that are constant are independent of all others: those of the context count for nothing.
        every, of_pairs = torch.zeros(k, d).double(), torch.eye(d).double().repeat(k, 1, 1)
        every[:, self.varying] = means.double()
        of_pairs[:, self.varying[:, None], self.varying] = covariances
        means, covariances = every * self.std + self.mean, of_pairs * self.std[:, None] * self.std
        return GaussianMixtureDensity(weights.double(), means, covariances, context_dim=context_dim, label=label)


def _standardised(x: Any) -> tuple[Tensor, _Scaling]:
    """x (N, C + G) -> its D' columns that vary, of mean 0 and variance 1 (N, D')."""
    x = torch.as_tensor(x, dtype=torch.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"expected at least 2 rows, of shape (N, D), got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("rows must hold finite numbers alone")
    mean, std = x.mean(0), x.std(0, correction=0)
    varies = (x != x[0]).any(0) & (std > 0)
    scaling = _Scaling(mean, torch.where(varies, std, 1.0), varies.nonzero()[:, 0])
    return ((x - mean) / std)[:, varies], scaling
