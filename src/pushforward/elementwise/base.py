"""The contract of an elementwise map: a stateless, invertible scalar map, given its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


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
