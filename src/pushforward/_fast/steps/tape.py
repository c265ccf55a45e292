"""What a training step by hand keeps from the forward to the backward pass: rows, gradients, and memory used again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

FEW_ROWS = 512
tanh_backward: Any = torch.ops.aten.tanh_backward


class Buffers:
    """Memory by name and shape that is used again at each step: fresh memory costs page faults.

    Args:
        places: of each name, side by side.
    """

    def __init__(self, places: int = 1) -> None:
        self.places = places
        self._memory: dict[tuple[object, ...], tuple[Tensor, Sequence[Tensor]]] = {}

    def take(self, name: object, like: Tensor, width: int, place: int = 0) -> Tensor:
        """(..., B, width) for rows like (..., B, any); what was there is lost."""
        return self._both(name, like, width)[1][place]

    def all(self, name: object, like: Tensor, width: int) -> Tensor:
        """(places, ..., B, width), all places of a name."""
        return self._both(name, like, width)[0]

    def _both(self, name: object, like: Tensor, width: int) -> tuple[Tensor, Sequence[Tensor]]:
        key = (name, like.shape[:-1], width, like.dtype, like.device)
        taken = self._memory.get(key)
        if taken is None:
            whole = like.new_empty(self.places, *like.shape[:-1], width)
            taken = self._memory[key] = whole, whole.unbind()
        return taken


class Tape:
    """What passes from layer to layer, forward and backward.

    Values and their gradients are (..., B, D), but lie in memory as (..., D, B): so halves have no gaps, and products
    with few columns become products with few rows, which are faster.

    Attributes:
        halves: both parts of the current values, (..., B, D // 2) and (..., B, D - D // 2).
        context: (..., B, K) or None.
        share: (..., B, 1), the part of each row in the mean.
        first: whether gradients are written; else they are added to what is there.
        log_dets: of the layers, (..., B, any), to be summed over the last axis.
        constants: log-dets that all rows share, (...).
        gradients: of the loss in both halves, in the backward pass.
        grad_context: (..., B, K), the gradient in the context so far; None where it is not wanted.
        scratch: memory for gradients of hidden layers.
        few: whether so few rows of one flow that products of several networks at once pay, see `Stacked`.
    """

    def __init__(
        self, z: Tensor, context: Tensor | None, share: Tensor, sizes: list[int], first: bool, scratch: Buffers
    ) -> None:
        self.context, self.share, self.sizes, self.first, self.scratch = context, share, sizes, first, scratch
        self.minus_share, self.few = -share, z.ndim == 2 and len(z) <= FEW_ROWS
        self.split(z)
        self.log_dets: list[Tensor] = []
        self.constants: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.grad_context: Tensor | None = None

    def whole(self) -> Tensor:
        """The current values (..., B, D)."""
        return beside(self.halves)

    def split(self, z: Tensor) -> None:
        """Takes new values (..., B, D)."""
        self.halves = list(z.split(self.sizes, -1))

    def whole_gradient(self) -> Tensor:
        """The current gradient (..., B, D)."""
        return beside(self.gradients)

    def split_gradient(self, gradient: Tensor) -> None:
        """Takes a new gradient (..., B, D)."""
        self.gradients = list(gradient.split(self.sizes, -1))


class Step(ABC):
    """One layer: what its forward leaves for its backward."""

    @abstractmethod
    def forward(self, tape: Tape) -> None:
        """Moves the rows and notes the log-det."""

    @abstractmethod
    def backward(self, tape: Tape, further: bool) -> None:
        """Writes the gradients of its parameters, and takes those of the rows back if there is a layer before."""


def by_columns(t: Tensor) -> Tensor:
    """t (..., B, D), in memory as (..., D, B)."""
    return t.mT.contiguous().mT


def beside(parts: Sequence[Tensor]) -> Tensor:
    """(..., B, any) -> (..., B, sum), in memory as (..., sum, B)."""
    return torch.cat([part.mT for part in parts], -2).mT


def add_product(into: Tensor, a: Tensor, b: Tensor, first: bool) -> None:
    """into (..., O, I) = or += a^T b, of a (..., B, O) and b (..., B, I)."""
    if 2 * b.shape[-1] <= a.shape[-1] and (b.shape[-1] > 1 or into.ndim > 2):
        # Products with few columns, unless 16 or 32, take two to seven times as long as those with few rows.
        into, a, b = into.mT, b, a
    batched = into.ndim > 2
    if not into.is_contiguous():  # neither is fast into memory with gaps
        put(into, torch.bmm(a.mT, b) if batched else torch.mm(a.t(), b), first)
    elif first:  # with beta = 0, `addmm` takes 5 to 10 % longer
        (torch.bmm if batched else torch.mm)(a.mT, b, out=into)
    else:
        (torch.baddbmm if batched else torch.addmm)(into, a.mT, b, out=into)


def add_sum(into: Tensor, a: Tensor, first: bool) -> None:
    """into (..., O) = or += the sum of a (..., B, O) over its rows."""
    if first:
        torch.sum(a, -2, out=into)
    else:
        into += a.sum(-2)


def put(into: Tensor, value: Tensor, first: bool) -> None:
    """into = or += value."""
    if first:
        into.copy_(value)
    else:
        into += value


def apart(t: Tensor, count: int) -> Sequence[Tensor]:
    """One tensor for each member: t itself if there is one only, and has no axis of members."""
    return (t,) if count == 1 else t.unbind()


def together(parts: Sequence[Tensor]) -> Tensor:
    """The inverse of `apart`."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts))


def zero(parameters: Iterable[Tensor]) -> None:
    """Sets their gradients to zero, in place."""
    for p in parameters:
        cast(Tensor, p.grad).zero_()


def wanted(outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves out what depends on nothing that has a gradient, such as the log-det of a shift."""
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    return [o for o, _ in pairs], [g for _, g in pairs]
