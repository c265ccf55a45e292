"""Bijections of a part of the elements of each row, or of all of them in another arrangement."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .base import Bijection, checked
from .rearrange import Rearrangement


class _OfPart(Bijection):
    """A bijection `inner` of what `_take` takes out of a row, which is put back after it."""

    inner: Bijection

    @abstractmethod
    def _take(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """x (B, C, *S) -> what the inner bijection sees, and the function that puts such elements back into x."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,)."""
        part, put_back = self._take(x)
        z, log_det = checked(self.inner(part, context), part, self.inner)
        return put_back(z), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to data: z (B, C, *S), context (B, K) -> x (B, C, *S), log_det (B,)."""
        part, put_back = self._take(z)
        x, log_det = checked(self.inner.inverse(part, context), part, self.inner)
        return put_back(x), log_det

    def initialize(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialises the inner bijection from its part of x (B, C, *S); returns z (B, C, *S)."""
        part, put_back = self._take(x)
        return put_back(self.inner.initialize(part, context))


class Within(_OfPart):
    """A bijection of rearranged elements, which are put back after it: flowjax's `Sandwich`.

    Args:
        rearrangement: what the inner bijection sees the elements through.
        inner: over the shape that the rearrangement gives.

    Example:
        >>> from pushforward import ActNorm, Squeeze
        >>> Within(Squeeze(), ActNorm(12))(torch.zeros(1, 3, 4, 4))[0].shape
        torch.Size([1, 3, 4, 4])
    """

    def __init__(self, rearrangement: Rearrangement, inner: Bijection) -> None:
        super().__init__()
        self.rearrangement = rearrangement
        self.inner = inner

    def _take(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return self.rearrangement.forward(x), self.rearrangement.inverse


class OnChannels(_OfPart):
    """A bijection of some of the channels; the others pass unchanged: flowjax's `Partial`.

    Args:
        channels: their numbers, each once.
        inner: over so many channels, in this order.

    Raises:
        ValueError: a number comes twice or is negative, or there is none.

    Example:
        >>> from pushforward import Permute
        >>> OnChannels([0, 3], Permute([1, 0]))(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[0]
        tensor([[4., 2., 3., 1.]])
    """

    channels: Tensor

    def __init__(self, channels: Sequence[int], inner: Bijection) -> None:
        super().__init__()
        # A flow that is built without memory (as `load` does) keeps them all the same.
        device = "cpu" if torch.get_default_device().type == "meta" else None
        index = torch.as_tensor(channels, dtype=torch.int64, device=device)
        if index.ndim != 1 or not len(index) or len(index.unique()) < len(index) or int(index.min()) < 0:
            raise ValueError(f"channels must be numbers from 0 on, each once, got {list(channels)}")
        self.register_buffer("channels", index, persistent=False)
        self.inner = inner

    def _take(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return x.index_select(1, self.channels), lambda some: x.index_copy(1, self.channels, some)


class OnHalf(_OfPart):
    """A bijection of the second half of the channels; the first C // 2 pass unchanged.

    It is a case of `OnChannels`, for any C. Nest it for a multi-scale architecture: each scale leaves half of what it
    has to the next (Dinh et al. 2016, section 3.6).

    Args:
        inner: over C - C // 2 channels.

    Example:
        >>> from pushforward import Permute
        >>> OnHalf(Permute([1, 0]))(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))[0]
        tensor([[1., 2., 4., 3.]])
    """

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def _take(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        first, second = x.tensor_split([x.shape[1] // 2], 1)
        return second, lambda moved: torch.cat([first, moved], 1)
