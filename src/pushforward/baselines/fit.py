"""fit_baselines: every simple density that rows allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

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
_JOINT = ("classes", "kernel")  # of states and numbers
_FEW = 10  # rows a column, below which a covariance is shrunk


def fit_baselines(
    x: Tensor, sizes: Sequence[int], context: Tensor | None, seed: int, *, context_sizes: Sequence[int] = (),
    names: Collection[str] | None = None, seconds: float | None = None,
) -> dict[str, Baseline]:  # fmt: skip
    """Fits each baseline that rows allow; without scikit-learn only those that do not need it.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        sizes: the number of states of the M columns.
        context: (N, G), on which they are conditioned; None for nothing.
        seed: of every random step.
        context_sizes: the number of states of the first columns of the context; all others are numbers.
        names: of those to fit; None for all.
        seconds: after which no further one is begun; None for no limit.

    Returns:
        by name: `frequencies` where there are no numbers; else, times frequencies of the states, `gaussian`, `mixture`
        and, for few columns of numbers alone, `kde`. Over states and numbers together `classes` and, but for numbers
        alone, `kernel`.
    """
    began = time.perf_counter()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_FIT_ROWS]
    rows, given = x.double().cpu()[order], None if context is None else context.double().cpu()[order]
    mixed = {"context": given, "context_sizes": context_sizes}
    makers: dict[str, Callable[[], Baseline]] = {}
    if rows.shape[1] == len(sizes):
        makers["frequencies"] = lambda: fit_frequencies(x[:, : len(sizes)], sizes)
    else:
        for name, make in _of_numbers(rows[:, len(sizes) :], given, seed, alone=not sizes).items():
            makers[name] = partial(_with_frequencies, make, x, sizes)
    makers["classes"] = lambda: fit_latent_classes(rows, sizes, seed, **mixed)
    if sizes:
        makers["kernel"] = lambda: fit_mixed_kernel(rows, sizes, seed, **mixed)
    fitted: dict[str, Baseline] = {}
    # Those first that know how columns depend on each other, where time may not suffice for all.
    for name in sorted(makers, key=lambda name: name not in _JOINT):
        is_late = seconds is not None and time.perf_counter() - began > seconds
        if not is_late and (names is None or name in names):
            with suppress(ImportError):
                fitted[name] = makers[name]()
    return {name: fitted[name] for name in makers if name in fitted}


def _with_frequencies(make: Callable[[], Baseline], x: Tensor, sizes: Sequence[int]) -> Baseline:
    """A density of numbers, times the frequencies of the states of rows x (N, M + C), if there are any."""
    density = make()
    if not sizes:
        return density
    label = f"{density.label.split(',')[0]}, frequencies"
    return Independent([fit_frequencies(x[:, : len(sizes)], sizes), density], label)


def _of_numbers(
    numbers: Tensor, context: Tensor | None, seed: int, *, alone: bool
) -> dict[str, Callable[[], GaussianMixtureDensity]]:
    """What fits numbers (N, C) given a context (N, G); where there is no number, its column's mean stands."""
    own = torch.where(numbers.isnan(), numbers.nanmean(0).nan_to_num(0.0), numbers)
    joint = own if context is None else torch.cat([own, context], 1)
    context_dim = joint.shape[1] - own.shape[1]

    def gaussian() -> GaussianMixtureDensity:
        if len(joint) < _FEW * joint.shape[1]:
            with suppress(ImportError):
                return fit_shrunk_gaussian(joint, seed, context_dim)
        return fit_gaussian(joint, context_dim)

    makers: dict[str, Callable[[], GaussianMixtureDensity]] = {"gaussian": gaussian}
    if len(joint) > joint.shape[1]:
        makers["mixture"] = lambda: fit_gaussian_mixture(joint, seed, context_dim=context_dim)
    is_constant = bool((own == own[0]).all(0).any())
    if own.shape[1] <= _KERNEL_COLUMNS and alone and context is None and not is_constant:
        makers["kde"] = lambda: fit_kernel(own, seed)
    return makers
