"""Rearrangements of images, for `Within` (Dinh et al. 2016, arXiv 1605.08803, section 3.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Rearrangement(ABC):
    """A permutation of the elements of each row that may change its shape; its log-determinant is 0.

    Concrete classes are frozen dataclasses. A rearrangement is no bijection, which keeps the shape: see `Within`.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S) -> y (B, C', *S'), with as many elements."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """y (B, C', *S') -> x (B, C, *S)."""


@dataclass(frozen=True)
class Squeeze(Rearrangement):
    """Trades space for channels: the four pixels of each square of 2 x 2 become four channels.

    Example:
        >>> Squeeze().forward(torch.zeros(1, 3, 4, 6)).shape
        torch.Size([1, 12, 2, 3])
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, 4 C, H / 2, W / 2).

        Raises:
            ValueError: H or W is odd.
        """
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            raise ValueError(f"squeezing needs an even height and width, got {tuple(x.shape[-2:])}")
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        return x.unflatten(-1, (width, 2)).unflatten(-3, (height, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def inverse(self, y: Tensor) -> Tensor:
        """y (B, 4 C, H, W) -> (B, C, 2 H, 2 W)."""
        return y.unflatten(1, (y.shape[1] // 4, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


@dataclass(frozen=True)
class Checkerboard(Rearrangement):
    """Pixels of one colour of a checkerboard become the first half of the channels, those of the other the second.

    A `Coupling` within it moves the pixels of one colour, given the other.

    Example:
        >>> Checkerboard().forward(torch.arange(4.0).view(1, 1, 2, 2)).flatten(2)
        tensor([[[0., 3.],
                 [1., 2.]]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, 2 C, H, W / 2).

        Raises:
            ValueError: W is odd.
        """
        if x.shape[-1] % 2:
            raise ValueError(f"a checkerboard needs an even width, got {x.shape[-1]}")
        return torch.cat(self._turned(x.unflatten(-1, (-1, 2))).unbind(-1), 1)

    def inverse(self, y: Tensor) -> Tensor:
        """y (B, 2 C, H, W) -> (B, C, H, 2 W)."""
        return self._turned(torch.stack(y.chunk(2, 1), -1)).flatten(-2)

    @staticmethod
    def _turned(pairs: Tensor) -> Tensor:
        """Pairs of neighbours (B, C, H, W / 2, 2), exchanged in every second row."""
        odd = torch.arange(pairs.shape[-3], device=pairs.device)[:, None, None] % 2 == 1
        return torch.where(odd, pairs.flip(-1), pairs)


@dataclass(frozen=True)
class Flatten(Rearrangement):
    """Images become vectors, channel by channel and row by row.

    Args:
        shape: (C, H, W) of the images.

    Example:
        >>> Flatten((3, 2, 2)).forward(torch.zeros(5, 3, 2, 2)).shape
        torch.Size([5, 12])
    """

    shape: tuple[int, int, int]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C H W).

        Raises:
            ValueError: the images are of another shape.
        """
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected images of shape {self.shape}, got {tuple(x.shape[1:])}")
        return x.flatten(1)

    def inverse(self, y: Tensor) -> Tensor:
        """y (B, C H W) -> (B, C, H, W)."""
        return y.unflatten(1, self.shape)
