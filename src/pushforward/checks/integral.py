"""The integral of a density over all of space: by quadrature in 1-D and 2-D, by importance sampling above."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .mixture import Mixture, fit_mixture
from .stats import Array

LogProb = Callable[[Array], Array]
_POINTS = {1: 40_001, 2: 1_201}  # along each axis, an odd number
_REACH = {1: 14.0, 2: 8.0}  # sinh of it, in spreads, is how far the grid goes
_DRAWS = 60_000


def quadrature(log_prob: LogProb, near: Array) -> tuple[float, float]:
    """The integral of exp(log_prob) over R^D, D = 1 or 2, by the trapezoid rule.

    The grid is fine in the middle of the points and grows coarser outwards, x = m + s sinh(v) with v even, so that it
    covers a thousand spreads in each direction.

    Args:
        log_prob: x (N, D) -> (N,), in nats.
        near: points (M, D) where the mass lies.

    Returns:
        the integral, and how much it changes when every other point is left out: an upper bound of its error for any
        density that the grid resolves.
    """
    d = near.shape[1]
    v = np.linspace(-_REACH[d], _REACH[d], _POINTS[d])
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
    fitted = _spread_out(samples, seed)
    rng = np.random.default_rng([seed, 77])
    x = fitted.sample_heavy_tailed(draws, rng)
    log_ratio = np.nan_to_num(log_prob(x) - fitted.heavy_tailed(x), nan=-math.inf, posinf=700.0)
    top = max(float(log_ratio.max()), -700.0)
    ratio = np.exp(log_ratio - top)
    scale, total = math.exp(min(top, 700.0)), ratio.sum()
    return {
        "integral": float(ratio.mean()) * scale,
        "se": float(ratio.std(ddof=1)) / math.sqrt(draws) * scale,
        "effective": float(total**2 / max((ratio**2).sum(), 1e-300)),
        "largest": float(1 / total) if total > 0 else 1.0,
    }


def _spread_out(samples: Array, seed: int) -> Mixture:
    """A mixture fitted to samples, of half more variance, with a broad component for what it may have missed."""
    samples = samples[np.isfinite(samples).all(1)][:6000]
    try:
        found = fit_mixture(samples, seed, most=15)
    except ImportError:
        covariance = np.atleast_2d(np.cov(samples.T))
        found = Mixture(np.ones(1), samples.mean(0)[None], covariance[None])
    broad = np.atleast_2d(np.cov(samples.T)) * 4
    covariances = np.concatenate([found.covariances * 1.5, broad[None]])
    jitter = 1e-9 * np.stack([np.diag(np.diag(c)) for c in covariances])
    return Mixture(np.append(0.9 * found.weights, 0.1), np.vstack([found.means, samples.mean(0)]), covariances + jitter)


def density_of(log_prob: Callable[[torch.Tensor], torch.Tensor]) -> LogProb:
    """A log-density of tensors as one of arrays; a value that is no number counts as no density."""

    def of_arrays(x: Array) -> Array:
        with torch.no_grad():
            values = log_prob(torch.from_numpy(x)).double().cpu().numpy()
        return np.nan_to_num(values, nan=-math.inf, posinf=math.inf)

    return of_arrays
