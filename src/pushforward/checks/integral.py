"""The integral of a density over all of space: by quadrature in 1-D and 2-D, by importance sampling above."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..baselines import GaussianMixtureDensity, fit_gaussian, fit_gaussian_mixture
from .stats import Array

LogProb = Callable[[Array], Array]
_POINTS = {1: (40_001,), 2: (301, 601, 1_201)}  # along each axis, odd numbers: the next where one was too coarse
_FINE = 1e-3  # the error with which a grid is fine enough: a verdict of "good" asks for .02
_REACH = {1: 14.0, 2: 8.0}  # sinh of it, in spreads, is how far the grid goes
_DRAWS = 60_000
_FIT_ROWS = 6000
_FREEDOM = 4  # of the Student t that are drawn from


def quadrature(log_prob: LogProb, near: Array, *, refinements: int = 2) -> tuple[float, float]:
    """The integral of exp(log_prob) over R^D, D = 1 or 2, by the trapezoid rule.

    The grid is fine in the middle of the points and grows coarser outwards, x = m + s sinh(v) with v even, so that it
    covers a thousand spreads in each direction. A grid in two dimensions is refined until it is fine enough.

    Args:
        log_prob: x (N, D) -> (N,), in nats.
        near: points (M, D) where the mass lies.
        refinements: of a grid in two dimensions, at most; each takes four times as long as the one before.

    Returns:
        the integral, and how much it changes when every other point is left out: an upper bound of its error for any
        density that the grid resolves.
    """
    value = error = math.inf
    for points in _POINTS[near.shape[1]][: 1 + refinements]:
        value, error = _trapezoid(log_prob, near, points)
        if error < _FINE:
            break
    return value, error


def _trapezoid(log_prob: LogProb, near: Array, points: int) -> tuple[float, float]:
    """As `quadrature`, with so many points along each axis."""
    d = near.shape[1]
    v = np.linspace(-_REACH[d], _REACH[d], points)
    step = v[1] - v[0]
    low, middle, high = np.quantile(near, [0.25, 0.5, 0.75], axis=0)
    scale = np.where(high > low, (high - low) / 2, near.std(0) + 1e-300)
    axes = [m + s * np.sinh(v) for m, s in zip(middle, scale, strict=True)]
    weights = [np.log(s * np.cosh(v) * step) for s in scale]
    if d == 1:
        mass = np.exp(log_prob(axes[0][:, None]) + weights[0])
        fine, coarse = mass.sum(), 2 * mass[::2].sum()
    else:
        fine = coarse = 0.0
        for rows in np.array_split(np.arange(len(v)), 24):
            x = np.stack(np.meshgrid(axes[0][rows], axes[1], indexing="ij"), -1)
            log_p = log_prob(x.reshape(-1, 2)).reshape(len(rows), -1)
            mass = np.exp(log_p + weights[0][rows, None] + weights[1])
            fine += mass.sum()
            coarse += 4 * mass[rows % 2 == 0, ::2].sum()
    return float(fine), float(abs(fine - coarse))


def importance(log_prob: LogProb, samples: Array, seed: int, draws: int = _DRAWS) -> dict[str, float]:
    """The integral of exp(log_prob) over R^D as the mean of p / q over draws of q.

    q is a mixture of Student t around the samples of the model: its tails are heavier than those of a flow with a
    normal base, and it knows nothing of the log-densities that it is to judge.

    Args:
        log_prob: x (N, D) -> (N,), in nats.
        samples: (M, D), without constant columns.
        seed: of the draws.
        draws: how many.

    Returns:
        `integral`, its standard error `se`, the effective number of draws `effective`, and the part that the largest
        of them has in the sum, `largest`.
    """
    samples = samples[np.isfinite(samples).all(1)][:_FIT_ROWS]
    centre, scale = samples.mean(0), samples.std(0)
    weights, components = _heavy_tailed((samples - centre) / scale, seed)
    rng = np.random.default_rng([seed, 77])
    counts = rng.multinomial(draws, weights)
    drawn = [t.rvs(size=n, random_state=rng).reshape(n, -1) for t, n in zip(components, counts, strict=True) if n]
    standard = np.vstack(drawn)
    of_each = [math.log(w) + t.logpdf(standard) for w, t in zip(weights, components, strict=True)]
    log_q = np.logaddexp.reduce(of_each) - np.log(scale).sum()
    log_ratio = np.nan_to_num(log_prob(centre + scale * standard) - log_q, nan=-math.inf, posinf=700.0)
    top = max(float(log_ratio.max()), -700.0)
    ratio = np.exp(log_ratio - top)
    unit, total = math.exp(min(top, 700.0)), ratio.sum()
    return {
        "integral": float(ratio.mean()) * unit,
        "se": float(ratio.std(ddof=1)) / math.sqrt(draws) * unit,
        "effective": float(total**2 / max((ratio**2).sum(), 1e-300)),
        "largest": float(1 / total) if total > 0 else 1.0,
    }


def _heavy_tailed(samples: Array, seed: int) -> tuple[Array, list[Any]]:
    """Weights (K,) of K multivariate Student t around samples; a broad one covers what the others may have missed."""
    from scipy.stats import multivariate_t

    broad = fit_gaussian(samples)
    try:
        mixture: GaussianMixtureDensity = fit_gaussian_mixture(samples, seed, most=15)
    except ImportError:
        mixture = broad
    weights = np.append(0.9 * mixture.weights.numpy(), 0.1)
    means = np.vstack([mixture.means, broad.means])
    covariances = np.concatenate([1.5 * mixture.covariances.numpy(), 4 * broad.covariances.numpy()])
    each = zip(means, covariances, strict=True)
    return weights, [multivariate_t(mean, covariance, _FREEDOM, allow_singular=True) for mean, covariance in each]


def density_of(log_prob: Callable[[torch.Tensor], torch.Tensor]) -> LogProb:
    """A log-density of tensors as one of arrays; a value that is no number counts as no density."""

    def of_arrays(x: Array) -> Array:
        with torch.no_grad():
            values = log_prob(torch.from_numpy(x)).double().cpu().numpy()
        return np.nan_to_num(values, nan=-math.inf, posinf=math.inf)

    return of_arrays
