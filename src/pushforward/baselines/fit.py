"""fit_baselines: every simple density that rows allow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from .base import Baseline
from .classes import fit_latent_classes
from .frequencies import fit_frequencies
from .gaussian import GaussianMixtureDensity, fit_gaussian, fit_gaussian_mixture, fit_shrunk_gaussian
from .independent import Independent
from .kernel import fit_kernel, fit_mixed_kernel

_FIT_ROWS = 20_000
_KERNEL_COLUMNS = 6  # beyond which a kernel density with one bandwidth for whitened numbers is a poor one
_FEW = 10  # rows a column, below which a covariance is shrunk


def fit_baselines(
    x: Tensor, sizes: Sequence[int], context: Tensor | None, seed: int, *, context_sizes: Sequence[int] = ()
) -> dict[str, Baseline]:
    """Fits each baseline that rows allow; without scikit-learn only those that do not need it.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        sizes: the number of states of the M columns.
        context: (N, G), on which they are conditioned; None for nothing.
        seed: of every random step.
        context_sizes: the number of states of the first columns of the context; all others are numbers.

    Returns:
        by name: `frequencies` where there are no numbers; else, times frequencies of the states, `gaussian`, `mixture`
        and, for few columns of numbers alone, `kde`. Over states and numbers together `classes` and, but for numbers
        alone, `kernel`.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_FIT_ROWS]
    rows, given = x.double().cpu()[order], None if context is None else context.double().cpu()[order]
    fitted: dict[str, Baseline] = {}
    frequencies = [fit_frequencies(x[:, : len(sizes)], sizes)] if sizes else []
    if rows.shape[1] == len(sizes):
        fitted["frequencies"] = frequencies[0]
    else:
        for name, density in _of_numbers(rows[:, len(sizes) :], given, seed, alone=not sizes).items():
            label = f"{density.label.split(',')[0]}, frequencies"
            fitted[name] = Independent([*frequencies, density], label) if sizes else density
    with suppress(ImportError):
        fitted["classes"] = fit_latent_classes(rows, sizes, seed, context=given, context_sizes=context_sizes)
    if sizes:
        fitted["kernel"] = fit_mixed_kernel(rows, sizes, seed, context=given, context_sizes=context_sizes)
    return fitted


def _of_numbers(
    numbers: Tensor, context: Tensor | None, seed: int, *, alone: bool
) -> dict[str, GaussianMixtureDensity]:
    """Densities of numbers (N, C) given a context (N, G); where there is no number, its column's mean stands."""
    own = torch.where(numbers.isnan(), numbers.nanmean(0).nan_to_num(0.0), numbers)
    joint = own if context is None else torch.cat([own, context], 1)
    context_dim = joint.shape[1] - own.shape[1]
    fitted = {"gaussian": fit_gaussian(joint, context_dim)}
    try:
        if len(joint) < _FEW * joint.shape[1]:
            fitted["gaussian"] = fit_shrunk_gaussian(joint, seed, context_dim)
        if len(joint) > joint.shape[1]:
            fitted["mixture"] = fit_gaussian_mixture(joint, seed, context_dim=context_dim)
        is_constant = bool((own == own[0]).all(0).any())
        if own.shape[1] <= _KERNEL_COLUMNS and alone and context is None and not is_constant:
            fitted["kde"] = fit_kernel(own, seed)
    except ImportError:
        pass
    return fitted
