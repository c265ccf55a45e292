"""The shades of images: which of the 256 bytes their pixels take, and what the others are to a density."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..bijections.dequantization import BYTES

_MOST = BYTES // 2  # shades, above which all bytes are taken
_MISSED = 1e-3  # of the pixels may have a shade that was not seen, by the estimate of Good and Turing
_OTHERS = 1e-6  # of the mass of a cell is for bytes that are no shade


@dataclass(frozen=True)
class Shades:
    """The bytes of pixels that a density tells apart: all 256, or few, as of masks, drawings and scans.

    Each byte belongs to the cell of the nearest shade, the darker of two. A density is over cells. Of the mass of a
    cell, a millionth is spread over its other bytes: images with a byte that was never seen are unlikely, but not
    impossible, and none are drawn.

    Args:
        values: at least 2 different bytes, in increasing order.

    Raises:
        ValueError: they are others.

    Example:
        >>> shades = Shades((0, 100, 255))
        >>> shades.cells(torch.tensor([0, 50, 51, 250], dtype=torch.uint8))
        tensor([0, 0, 1, 2], dtype=torch.uint8)
    """

    values: tuple[int, ...] = tuple(range(BYTES))

    def __post_init__(self) -> None:
        known = [v for v in self.values if isinstance(v, int) and not isinstance(v, bool) and 0 <= v < BYTES]
        if len(self.values) < 2 or list(self.values) != sorted(set(known)):
            raise ValueError(f"shades must be at least 2 different bytes in increasing order, got {self.values}")

    @classmethod
    def of(cls, values: Sequence[int] | None) -> Shades:
        """Those of bytes in any sequence or array; all 256 for None.

        Raises:
            ValueError: as the constructor.
        """
        return cls() if values is None else cls(tuple(np.asarray(values).tolist()))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def are_all(self) -> bool:
        """Whether each byte is a shade."""
        return len(self) == BYTES

    def cells(self, images: Tensor) -> Tensor:
        """Bytes of any shape -> the numbers of their cells."""
        return images if self.are_all else self._cell_of.to(images.device)[images.long()]

    def bytes(self, cells: Tensor) -> Tensor:
        """Numbers of cells -> their shades."""
        return (
            cells if self.are_all else torch.tensor(self.values, dtype=torch.uint8, device=cells.device)[cells.long()]
        )

    def log_share(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> the log-mass of their bytes given their cells, in nats (N,), float64."""
        if self.are_all:
            return torch.zeros(len(images), dtype=torch.float64, device=images.device)
        return self._log_share_of.to(images.device)[images.long()].flatten(1).sum(1)

    @cached_property
    def _cell_of(self) -> Tensor:
        """The cell of each byte (256,)."""
        distance = (torch.arange(BYTES)[:, None] - torch.tensor(self.values)).abs()
        return distance.min(1).indices.to(torch.uint8)

    @cached_property
    def _log_share_of(self) -> Tensor:
        """The log-mass of each byte given its cell (256,)."""
        cell = self._cell_of.long()
        others = torch.bincount(cell, minlength=len(self)).double() - 1
        log_share = (_OTHERS / others).log()[cell]
        log_share[list(self.values)] = torch.log1p(-_OTHERS * (others > 0).double())
        return log_share


def find_shades(parts: Iterable[np.ndarray]) -> Shades:
    """The shades of images of bytes, given in parts: those that occur if there are few, none of them by chance.

    All 256 where more than 128 occur, or only one, or where the pixels are so few that others are likely to be missed.

    Example:
        >>> len(find_shades([np.array([0, 255] * 500)])), len(find_shades([np.arange(100)]))
        (2, 256)
    """
    counts = np.zeros(BYTES, dtype=np.int64)
    for part in parts:
        counts += np.bincount(part.ravel(), minlength=BYTES)
        if (counts > 0).sum() > _MOST:
            return Shades()
    values = np.flatnonzero(counts)
    is_known = len(values) >= 2 and (counts == 1).sum() <= _MISSED * counts.sum()
    return Shades(tuple(values.tolist())) if is_known else Shades()
