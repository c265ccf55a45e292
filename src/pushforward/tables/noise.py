"""Uniform noise that depends on the content of a row alone, so that a score is the same whatever else is scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..hashing import GOLDEN, LEAST, splitmix


def uniforms(states: NDArray[np.int64], base: NDArray[np.float64], draw: int) -> NDArray[np.float64]:
    """Noise (N, C) in the open unit interval for the rows of states (N, M) and base (N, C).

    The first draw hashes each row. Further ones turn it by an additive recurrence (Roberts 2018, after Kronecker), so
    that the draws of a row fill the cube evenly while each is uniform.
    """
    with np.errstate(over="ignore"):
        row = np.zeros(len(base), dtype=np.uint64)
        for column in (*states.T, *np.ascontiguousarray(np.nan_to_num(base, nan=-7e300) + 0.0).T):
            row = splitmix(row + GOLDEN ^ np.ascontiguousarray(column).view(np.uint64))
        places = np.arange(1, base.shape[1] + 1, dtype=np.uint64) * GOLDEN
        mixed = row[:, None] ^ splitmix(places)[None, :]
        bits = splitmix(np.where(mixed == 0, GOLDEN, mixed))  # which maps 0, that of a single 0, to itself
    u = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    if draw:
        u = (u + draw * _alphas(base.shape[1])) % 1.0
    return np.clip(u, LEAST, 1 - LEAST)


def random_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise in the open unit interval that is new each time, float64."""
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64).clamp_(LEAST, 1 - LEAST)


def _alphas(dimensions: int) -> NDArray[np.float64]:
    phi = 2.0
    for _ in range(60):
        phi = (1 + phi) ** (1 / (dimensions + 1))
    return np.asarray((1 / phi) ** np.arange(1, dimensions + 1) % 1.0, dtype=np.float64)
