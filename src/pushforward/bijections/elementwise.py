"""The contract of an elementwise map: a stateless, invertible scalar map, given its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


def soft_clamp(raw: Tensor, bound: float) -> Tensor:
    """bound * tanh(raw / bound): within (-bound, bound), and close to raw where that is small."""
    return bound * torch.tanh(raw / bound)


def inverse_soft_clamp(value: Tensor, bound: float) -> Tensor:
    """The raw parameter of a value within (-bound, bound)."""
    return bound * torch.atanh(value / bound)


class Elementwise(ABC):
    """An invertible scalar map y = h(x; params) applied to every element on its own.

    Subclasses are frozen dataclasses: they hold settings, never parameters. All-zero `params` give the identity.

    Attributes:
        num_params: P, the number of parameters for each element.
    """

    num_params: int

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, P, C, *S) -> y (B, C, *S), log|dy/dx| (B, C, *S)."""

    @abstractmethod
    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, P, C, *S) -> x (B, C, *S), log|dx/dy| (B, C, *S)."""


@dataclass(frozen=True)
class Shift(Elementwise):
    """The additive map of NICE, y = x + t, with log-derivative 0 (Dinh et al. 2014, arXiv 1410.8516).

    Example:
        >>> Shift().forward(torch.zeros(1, 2), torch.ones(1, 1, 2))[0]
        tensor([[1., 1.]])
    """

    num_params = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, 1, C, *S) -> y = x + t (B, C, *S), zeros (B, C, *S)."""
        return x + params[:, 0], torch.zeros_like(x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, 1, C, *S) -> x = y - t (B, C, *S), zeros (B, C, *S)."""
        return y - params[:, 0], torch.zeros_like(y)


@dataclass(frozen=True)
class Affine(Elementwise):
    """The map of Real NVP, y = x exp(s) + t, with s softly clamped (Dinh et al. 2016, equation 7).

    The raw parameter a gives s = clamp * tanh(a / clamp), so that |s| < clamp and no scale can overflow.

    Args:
        clamp: the largest log-scale, in nats; a positive number.

    Raises:
        ValueError: `clamp` is not positive.

    Example:
        >>> y, log_det = Affine().forward(torch.ones(1, 2), torch.zeros(1, 2, 2))
        >>> y, log_det
        (tensor([[1., 1.]]), tensor([[0., 0.]]))
    """

    clamp: float = 3.0
    num_params = 2

    def __post_init__(self) -> None:
        if not self.clamp > 0:
            raise ValueError(f"clamp must be a positive number, got {self.clamp!r}")

    def log_scale(self, raw: Tensor) -> Tensor:
        """Raw parameter -> log-scale in (-clamp, clamp), of the same shape."""
        return soft_clamp(raw, self.clamp)

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, 2, C, *S) -> y = x exp(s) + t (B, C, *S), s (B, C, *S)."""
        raw, shift = params.unbind(1)
        log_scale = self.log_scale(raw)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, 2, C, *S) -> x = (y - t) exp(-s) (B, C, *S), -s (B, C, *S)."""
        raw, shift = params.unbind(1)
        log_det = -self.log_scale(raw)
        return (y - shift) * log_det.exp(), log_det
