"""The contract of every bijection, and how bijections are joined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn


def sum_event(values: Tensor) -> Tensor:
    """Sums over all axes but the first: (B, ...) -> (B,). The one place where log-dets are summed over an event."""
    return values if values.ndim == 1 else values.flatten(1).sum(1)


def expand(log_det_of_site: Tensor, x: Tensor) -> Tensor:
    """The scalar log-det of one site -> (B,), for all sites of x (B, C, *S)."""
    return (log_det_of_site * math.prod(x.shape[2:])).expand(x.shape[0])


class Bijection(nn.Module, ABC):
    """An invertible map that keeps the shape (B, C, *S) of its input and knows its log-determinant.

    Concrete classes give `forward` (data to latent) and `inverse` (latent to data); each returns the log-determinant
    of the map that it just applied. A row's output depends on that row alone.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log|det dz/dx| (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log|det dx/dz| (B,)."""

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Sets data-dependent state from a batch x (B, C, *S), once, and returns z (B, C, *S)."""
        return self(x, context)[0]

    if TYPE_CHECKING:  # nn.Module.__call__ is untyped; this gives callers the type of forward.

        def __call__(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            """See forward."""
            ...


class Chain(Bijection):
    """Bijections one after the other: forward applies them in the given order, inverse in reverse.

    Args:
        bijections: in the order data to latent; none at all gives the identity.

    Example:
        >>> z, log_det = Chain()(torch.ones(3, 2))
        >>> log_det
        tensor([0., 0., 0.])
    """

    def __init__(self, *bijections: Bijection) -> None:
        super().__init__()
        for b in bijections:
            if not isinstance(b, Bijection):
                raise ValueError(f"Chain takes bijections, got {type(b).__name__}")
        self.bijections = nn.ModuleList(bijections)

    def __len__(self) -> int:
        return len(self.bijections)

    def __getitem__(self, index: int) -> Bijection:
        return cast(Bijection, self.bijections[index])

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        total = None
        for i, bijection in enumerate(self.bijections):
            x, log_det = bijection(x, context)
            _check(log_det, x, bijection, i)
            total = log_det if total is None else total + log_det
        return x, x.new_zeros(x.shape[0]) if total is None else total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        total = None
        for i in reversed(range(len(self))):
            z, log_det = self[i].inverse(z, context)
            _check(log_det, z, self[i], i)
            total = log_det if total is None else total + log_det
        return z, z.new_zeros(z.shape[0]) if total is None else total

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialises each bijection with what the ones before it make of x (B, C, *S); returns z (B, C, *S)."""
        for bijection in self.bijections:
            x = cast(Bijection, bijection).initialize(x, context)
        return x


class Inverse(Bijection):
    """A bijection with its two directions exchanged.

    Args:
        bijection: the one to turn round.

    Example:
        >>> Inverse(Chain())(torch.ones(1, 2))[0]
        tensor([[1., 1.]])
    """

    def __init__(self, bijection: Bijection) -> None:
        super().__init__()
        self.bijection = bijection

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inner inverse: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        return self.bijection.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inner forward: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        return self.bijection(z, context)


def _check(log_det: Tensor, x: Tensor, layer: nn.Module, place: int) -> None:
    if log_det.shape != x.shape[:1]:
        raise ValueError(
            f"layer {place} of the chain, {type(layer).__name__}, must return a log-determinant of shape "
            f"({x.shape[0]},), one for each row; got {tuple(log_det.shape)}"
        )
