"""Flows whose check has closed forms, and rows for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import pushforward as pf

RNG = np.random.default_rng
DENSITY = ("ranking", "probabilities")  # what is asked where samples do not matter, which takes longest


class Scale(pf.Bijection):
    """z = (x - shift) / scale, with a log-determinant that may be wrong."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0, log_det_error: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([scale, shift]))
        self.error = log_det_error

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = (x - self.weight[1]) / self.weight[0]
        return z, (-x[0].numel() * self.weight[0].log() + self.error).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.weight[0] + self.weight[1], (z[0].numel() * self.weight[0].log()).expand(len(z))


def normal(rows: int, features: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).standard_normal((rows, features))


def scaled(features: int, **options: float) -> pf.Flow:
    return pf.Flow(Scale(**options), features)


class Follow(pf.Bijection):
    """z = x - context."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return x - context, torch.zeros(len(x), dtype=x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return z + context, torch.zeros(len(z), dtype=z.dtype)
