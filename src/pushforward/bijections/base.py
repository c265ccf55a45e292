"""The contract of every bijection, and how bijections are joined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..switch import PLAIN, is_eager
from .reverse import reversible_forward

fast: Any = None
if not PLAIN:
    from .._fast.kernels import vectors as fast


def sum_event(values: Tensor) -> Tensor:
    """Sums over all axes but the first: (B, ...) -> (B,). The one place where log-dets are summed over an event."""
    if values.ndim == 1:
        return values
    return fast.sum_event(values) if fast and fast.fast_ok() else values.flatten(1).sum(1)


def log_det_of_sites(log_det_per_site: Tensor, x: Tensor) -> Tensor:
    """The scalar log-det of one site -> (B,), for all sites of x (B, C, *S)."""
    return (log_det_per_site * math.prod(x.shape[2:])).expand(x.shape[0])


def check_channels(channels: int) -> None:
    """Checks how many channels a layer is to have.

    Raises:
        ValueError: there are none.
    """
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}")


def checked(
    result: tuple[Tensor, Tensor], x: Tensor, layer: nn.Module, place: int | None = None
) -> tuple[Tensor, Tensor]:
    """What a layer made of x (B, C, *S), if its shapes are z (B, C, *S) and log_det (B,); no value is looked at.

    Args:
        result: of `forward` or `inverse`.
        x: what the layer was given.
        layer: named in the message.
        place: its number in a chain, for the message.

    Raises:
        ValueError: it is no pair of such tensors. Another log-determinant would be broadcast to a wrong density.
    """
    are_tensors = type(result) is tuple and len(result) == 2 and all(isinstance(part, Tensor) for part in result)
    if are_tensors and result[0].shape == x.shape and result[1].shape == x.shape[:1]:
        return result
    name = type(layer).__name__ if place is None else f"layer {place} of the chain, {type(layer).__name__},"
    if not are_tensors:
        got = ", ".join(type(part).__name__ for part in (result if type(result) is tuple else (result,)))
        raise ValueError(f"{name} must return a pair (z, log_det) of tensors, got {got}")
    if result[0].shape != x.shape:
        raise ValueError(f"{name} must keep the shape {tuple(x.shape)} of its input, got {tuple(result[0].shape)}")
    raise ValueError(
        f"{name} must return a log-determinant of shape ({x.shape[0]},), one for each row; got {tuple(result[1].shape)}"
    )


class Conditioned(nn.Module):
    """A map whose parameters come from networks, its conditioners.

    These are its child modules that are neither maps themselves nor lists of maps or parameters.
    """


def is_fixed(layer: nn.Module | None) -> bool:
    """Whether a layer says that it is fixed once it is initialised, and has nothing to train."""
    return bool(getattr(layer, "is_fixed", False)) and not any(True for _ in cast(nn.Module, layer).parameters())


class Bijection(Conditioned, ABC):
    """An invertible map that keeps the shape (B, C, *S) of its input and knows its log-determinant.

    Concrete classes give `forward` (data to latent) and `inverse` (latent to data); each returns the log-determinant
    of the map that it just applied. A row's output depends on that row alone.

    Attributes:
        takes_float64: whether it maps float64 rows as they are, whatever the dtype of its flow.
        is_fixed: whether nothing of it changes once it is initialised, so that a training applies it once; a context
            that it reads is one that no `embed` with weights maps.
    """

    takes_float64: bool = False
    is_fixed: bool = False

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

    Attributes:
        reversible: recompute the inputs of the layers in the backward pass instead of storing them; see `train`.

    Example:
        >>> z, log_det = Chain()(torch.ones(3, 2))
        >>> log_det
        tensor([0., 0., 0.])
    """

    reversible: bool = False

    def __init__(self, *bijections: Bijection) -> None:
        super().__init__()
        for b in bijections:
            if not isinstance(b, Bijection):
                hint = ": give them one by one, as Chain(*layers)" if isinstance(b, list | tuple) else ""
                raise ValueError(f"Chain takes bijections, got {type(b).__name__}{hint}")
        self.bijections = nn.ModuleList(bijections)
        self.takes_float64 = len(bijections) > 0 and bijections[0].takes_float64

    def __len__(self) -> int:
        return len(self.bijections)

    def __getitem__(self, index: int) -> Bijection:
        return cast(Bijection, self.bijections[index])

    def __iter__(self) -> Iterator[Bijection]:
        return (cast(Bijection, bijection) for bijection in self.bijections)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        if self.reversible and torch.is_grad_enabled() and is_eager():
            return reversible_forward(list(self), x, context)
        total = None
        for i, bijection in enumerate(self.bijections):
            x, log_det = checked(bijection(x, context), x, bijection, i)
            total = log_det if total is None else total + log_det
        return x, x.new_zeros(x.shape[0]) if total is None else total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        total = None
        for i in reversed(range(len(self))):
            z, log_det = checked(self[i].inverse(z, context), z, self[i], i)
            total = log_det if total is None else total + log_det
        return z, z.new_zeros(z.shape[0]) if total is None else total

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialises each bijection with what the ones before it make of x (B, C, *S); returns z (B, C, *S)."""
        for bijection in self.bijections:
            x = cast(Bijection, bijection).initialize(x, context)
        return x


class Inverse(Bijection):
    """A bijection with its two directions exchanged; `initialize` leaves it as it is.

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
        return checked(self.bijection.inverse(x, context), x, self.bijection)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inner forward: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        return checked(self.bijection(z, context), z, self.bijection)
