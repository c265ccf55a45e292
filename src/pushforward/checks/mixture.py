"""Gaussians, mixtures of them and kernel densities: what a flow has to beat, and what it is integrated with."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..bijections import sum_event
from .stats import Array

_COUNTS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36)
_WORK = 6e9  # rows x components x squared columns of the largest mixture tried, which keeps a fit to seconds
_LOG_2PI = math.log(2 * math.pi)


def gaussian_log_prob(train: Any, test: Any) -> Tensor:
    """Log-density of rows under the Gaussian with the mean and full covariance of other rows: the baseline of a fit.

    Args:
        train: (M, D), at least 2 rows.
        test: (N, D).

    Returns:
        (N,) in nats, float64, in data units. If the covariance is singular, a millionth of each column's variance is
        added to it.

    Raises:
        ValueError: the shapes do not agree, a value is not finite, or a column of `train` is constant.

    Example:
        >>> gaussian_log_prob([[-1.0], [1.0]], [[0.0]])
        tensor([-0.9189], dtype=torch.float64)
    """
    train, test = (torch.as_tensor(t, dtype=torch.float64) for t in (train, test))
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or len(train) < 2:
        raise ValueError(f"expected train (M > 1, D) and test (N, D), got {tuple(train.shape)} and {tuple(test.shape)}")
    if not bool(train.isfinite().all() & test.isfinite().all()):
        raise ValueError("train and test must hold finite numbers alone")
    mean, std = train.mean(0), train.std(0, correction=0)
    if not bool((train != train[0]).any(0).all() & (std > 0).all()):
        raise ValueError("a column of train is constant: its Gaussian has no density")
    # In units of each column's spread, so that columns of very different scales stay well conditioned.
    train, test = (train - mean) / std, (test - mean) / std
    correlation = train.mT @ train / len(train)
    smallest = torch.linalg.eigvalsh(correlation)[0]
    if smallest < 1e-12 * len(correlation):
        correlation = correlation + 1e-6 * torch.eye(len(correlation), dtype=torch.float64, device=train.device)
    factor = torch.linalg.cholesky(correlation)
    z = torch.linalg.solve_triangular(factor, test.mT, upper=False).mT
    log_det = factor.diagonal().log().sum() + std.log().sum()
    return -0.5 * sum_event(z.square()) - log_det - 0.5 * math.log(2 * math.pi) * len(std)


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians over (D,), in data units.

    Attributes:
        weights: (K,), summing to 1.
        means: (K, D).
        covariances: (K, D, D).
        bic: its Bayesian information criterion on the rows it was fitted to, lower is better.
    """

    weights: Array
    means: Array
    covariances: Array
    bic: float = math.nan

    def log_prob(self, x: Array, columns: Sequence[int] | None = None) -> Array:
        """x (N, D) -> log p(x) (N,), in nats; the marginal of some columns where they are given."""
        means, covariances = self.means, self.covariances
        if columns is not None:
            means, covariances = means[:, columns], covariances[:, columns][:, :, columns]
            x = x[:, columns]
        joint = np.empty((len(x), len(self.weights)))
        for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            squared, log_det = _whitened(x - mean, covariance)
            joint[:, k] = math.log(self.weights[k]) - 0.5 * (squared + x.shape[1] * _LOG_2PI) - log_det
        return _logsumexp(joint)

    def heavy_tailed(self, x: Array, freedom: float = 4.0) -> Array:
        """x (N, D) -> log-density (N,) of the same mixture with a Student t in the place of each Gaussian."""
        d = x.shape[1]
        constant = math.lgamma((freedom + d) / 2) - math.lgamma(freedom / 2) - 0.5 * d * math.log(freedom * math.pi)
        joint = np.empty((len(x), len(self.weights)))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            squared, log_det = _whitened(x - mean, covariance)
            bent = -0.5 * (freedom + d) * np.log1p(squared / freedom)
            joint[:, k] = math.log(self.weights[k]) + constant - log_det + bent
        return _logsumexp(joint)

    def sample_heavy_tailed(self, n: int, rng: np.random.Generator, freedom: float = 4.0) -> Array:
        """Draws n rows (n, D) of `heavy_tailed`."""
        which = rng.choice(len(self.weights), n, p=self.weights)
        noise = rng.standard_normal((n, self.means.shape[1]))
        noise *= np.sqrt(freedom / rng.chisquare(freedom, n))[:, None]
        factors = np.linalg.cholesky(self.covariances)
        return self.means[which] + np.einsum("nij,nj->ni", factors[which], noise)


def fit_mixture(x: Array, seed: int, most: int = _COUNTS[-1]) -> Mixture:
    """The mixture of Gaussians whose number of components has the best BIC; it stops after two that are worse.

    Args:
        x: (N, D), without constant columns.
        seed: of the start of each fit.
        most: the largest number of components tried.

    Raises:
        ImportError: there is no scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mean, std = x.mean(0), x.std(0)
    standard = (x - mean) / std
    rows, d = x.shape
    best, failures = None, 0
    for count in _COUNTS:
        # Each component needs rows enough to give a covariance a meaning.
        if count > 1 and (count > most or rows < 5 * count * (d + 1) or rows * count * d * d > _WORK):
            break
        model = GaussianMixture(count, reg_covar=1e-6, max_iter=60, tol=2e-3, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                model.fit(standard)
            except ValueError:  # a component fell onto repeated values
                break
        bic = model.bic(standard)
        if best is None or bic < best.bic:
            scale = np.multiply.outer(std, std)
            weights, means, covariances = (np.asarray(v) for v in (model.weights_, model.means_, model.covariances_))
            best = Mixture(weights, means * std + mean, covariances * scale, float(bic))
            failures = 0
        else:
            failures += 1
            if failures == 2:
                break
    if best is None:
        raise ValueError(f"no Gaussian can be fitted to {rows} rows of {d} columns")
    return best


def kde_log_prob(train: Array, test: Array, seed: int, most: int = 4000) -> tuple[Array, float]:
    """A Gaussian kernel density of whitened rows, with the bandwidth of the best leave-one-out likelihood.

    Args:
        train: (M, D), without constant columns.
        test: (N, D).
        seed: of the choice of at most `most` training rows.
        most: rows that carry a kernel.

    Returns:
        log-densities (N,) in nats, in data units; the bandwidth, in units of the whitened data's standard deviation.
    """
    rng = np.random.default_rng(seed)
    kept = train[rng.permutation(len(train))[:most]]
    mean, std = kept.mean(0), kept.std(0)
    correlation = np.atleast_2d(np.cov((kept - mean).T / std[:, None], bias=True)) + 1e-9 * np.eye(len(std))
    factor = torch.linalg.cholesky(torch.from_numpy(correlation))
    log_det = float(factor.diagonal().log().sum()) + float(np.log(std).sum())
    centres, rows = (
        torch.linalg.solve_triangular(factor, torch.from_numpy((part - mean) / std).mT, upper=False).mT
        for part in (kept, test)
    )
    d = len(std)
    own = centres[:1000]
    squared = torch.cdist(own, centres).square()
    squared[torch.arange(len(own)), torch.arange(len(own))] = math.inf  # leave one out
    scott = len(kept) ** (-1 / (d + 4))
    grid = [scott * 2 ** (step / 2) for step in range(-8, 4)]
    scores = [float((-0.5 * squared / h**2).logsumexp(1).mean()) - d * math.log(h) for h in grid]
    h = grid[int(np.argmax(scores))]
    out = [
        (-0.5 * torch.cdist(part, centres).square() / h**2).logsumexp(1)
        for part in rows.split(max(1, 2**24 // len(centres)))
    ]
    constant = -math.log(len(centres)) - d * (math.log(h) + 0.5 * _LOG_2PI) - log_det
    return (torch.cat(out) + constant).numpy(), h


def _whitened(centred: Array, covariance: Array) -> tuple[Array, float]:
    """centred (N, D) -> squared Mahalanobis lengths (N,), half the log-determinant of the covariance."""
    scale = np.sqrt(np.diag(covariance))
    factor = torch.linalg.cholesky(torch.from_numpy(covariance / np.multiply.outer(scale, scale)))
    z = torch.linalg.solve_triangular(factor, torch.from_numpy((centred / scale).T), upper=False)
    return z.square().sum(0).numpy(), float(factor.diagonal().log().sum()) + float(np.log(scale).sum())


def _logsumexp(joint: Array) -> Array:
    return torch.from_numpy(joint).logsumexp(1).numpy()
