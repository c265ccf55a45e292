"""A fixed linear map and a fold before a flow: columns become uncorrelated, far outliers come near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from ..scale import look_at_scale
from .base import Bijection, check_channels, log_det_of_sites, sum_event

_FOLD = 4.0  # spreads, up to which nothing is folded
_SOFT = 3.0  # spreads beyond that over which a line bends into a logarithm: less makes wild samples
_RIDGE = 1e-6
_FARTHEST = 60.0  # exponent in the inverse, which float32 still holds
_NORMAL_QUARTILES = 1.349  # between the quartiles of a standard normal


class Precondition(Bijection):
    """z = fold(L (x - centre)) with a lower triangular L, both in float64 whatever the dtype of the flow.

    fold gives logarithmic tails beyond +-4: it is the identity up to 4, and sign(y) (4 + 3 log(1 + (|y| - 4) / 3)) from
    there on. z has the dtype of the flow; the log-determinant is a float64, so that columns with condition numbers of
    1e12 are scored well by float32 networks. It starts as the fold alone; `initialize` measures centre and L, and a
    training without it on rows far from unit scale is warned of, once.

    Args:
        channels: C, at least 1.

    Raises:
        ValueError: `channels` is below 1.

    Example:
        >>> layer = Precondition(1)
        >>> layer(torch.tensor([[2.0], [7.0]]))[0].flatten()
        tensor([2.0000, 6.0794])
    """

    takes_float64 = True
    centre: Tensor
    matrix: Tensor
    initialized: Tensor
    _dtype_of_flow: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_channels(channels)
        self.register_buffer("centre", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("matrix", torch.eye(channels, dtype=torch.float64))
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("_dtype_of_flow", torch.empty(0), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S) of any dtype -> z (B, C, *S), log_det (B,) float64."""
        look_at_scale(self, x)
        y = (x.double().movedim(1, -1) - self.centre) @ self.matrix.mT
        beyond = (y.abs() - _FOLD).clamp_min(0) / _SOFT
        z = torch.where(beyond > 0, y.sign() * (_FOLD + _SOFT * beyond.log1p()), y)
        log_det = -sum_event(beyond.log1p()) + log_det_of_sites(self.matrix.diagonal().log().sum(), x)
        return z.movedim(-1, 1).to(self._dtype_of_flow.dtype), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S) -> x (B, C, *S) in the dtype of z, log_det (B,) float64."""
        rows = z.double().movedim(1, -1)
        beyond = ((rows.abs() - _FOLD).clamp_min(0) / _SOFT).clamp_max(_FARTHEST)
        y = torch.where(beyond > 0, rows.sign() * (_FOLD + _SOFT * beyond.expm1()), rows)
        flat = torch.linalg.solve_triangular(self.matrix.mT, y.reshape(-1, y.shape[-1]), upper=True, left=False)
        log_det = sum_event(beyond) - log_det_of_sites(self.matrix.diagonal().log().sum(), z)
        return (flat.view(y.shape) + self.centre).movedim(-1, 1).to(z.dtype), log_det

    @torch.no_grad()
    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Measures centre and L from x (B, C, *S), unless already done; returns z (B, C, *S)."""
        if not self.initialized:
            rows = x.double().movedim(1, -1).flatten(0, -2)
            self.centre.copy_(rows.median(0).values)
            self.matrix.copy_(whitening(rows))
            self.initialized.fill_(True)
        return self(x)[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: self._buffers[name] for name in ("centre", "matrix")}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            after = self._buffers[name]
            if before is not None and after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self


def whitening(rows: Tensor) -> Tensor:
    """A lower triangular matrix (C, C) that leaves the columns of rows (N, C) float64 uncorrelated.

    What is left of a column when those before it are known has far outliers: its scale is that of its middle half. It
    is the identity where there are no more rows than columns.
    """
    count, channels = rows.shape
    if count <= channels:
        return torch.eye(channels, dtype=torch.float64, device=rows.device)
    covariance = torch.cov(rows.T).reshape(channels, channels)
    covariance = covariance + _RIDGE * torch.diag(covariance.diagonal() + _RIDGE)
    identity = torch.eye(channels, dtype=torch.float64, device=rows.device)
    matrix = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), identity, upper=False)
    lower, upper = (_quantile(rows @ matrix.mT, level) for level in (0.25, 0.75))
    scale = torch.where(upper - lower > 1e-3, (upper - lower) / _NORMAL_QUARTILES, 1.0)
    return (matrix / scale[:, None]).tril()


def _quantile(rows: Tensor, level: float) -> Tensor:
    """The quantiles (C,) of rows (N, C), by linear interpolation; `torch.quantile` refuses more than 2^24 numbers."""
    place = level * (len(rows) - 1)
    below = int(place)
    ordered: Any = rows.sort(0).values
    return torch.lerp(ordered[below], ordered[min(below + 1, len(rows) - 1)], place - below)
