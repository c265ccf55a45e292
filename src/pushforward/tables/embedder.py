"""Discrete columns as numbers for a network, and how much rare states may tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FARTHEST = 10.0  # of a number that a network sees
_DOUBT = 30.0  # rows of a state, of which a training believes a half


def trust(states: Tensor, size: int) -> Tensor:
    """How far the effects of each state (size,) are believed: n / (n + 30) for n of the rows with states (N,).

    A normal prior on them would shrink them so. AdamW alone does not: it moves what few rows tell as fast as all else.
    """
    counts = torch.bincount(states[states < size].long(), minlength=size)
    return counts / (counts + _DOUBT)


class Embedder(nn.Module):
    """Discrete columns as numbers for a network: one-hot where a column has few states, else a learned vector.

    Args:
        sizes: states of each discrete column; a state beyond the last, which stands for the unknown, becomes zeros, as
            does a hidden one (below zero).
        reals: further columns that are numbers already; a fixed linear map, the identity at first, goes before them.
        generator: the source of the initial vectors.

    Example:
        >>> Embedder([2, 3], reals=1)(torch.tensor([[1.0, 0.0, 0.5]]))
        tensor([[0.0000, 1.0000, 1.0000, 0.0000, 0.0000, 0.5000]])
    """

    whitening: Tensor

    _few = 24  # states up to which a column is one-hot: a network's first layer is then its embedding
    _width = 12

    def __init__(self, sizes: Sequence[int], reals: int = 0, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.sizes, self.reals = tuple(sizes), reals
        self.register_buffer("whitening", torch.eye(reals))
        self._trust: list[Tensor] | None = None
        self.vectors = nn.ParameterList()
        for size in self.sizes:
            if size > self._few:
                self.vectors.append(nn.Parameter(torch.empty(size, self._width).normal_(0, 0.5, generator=generator)))

    @property
    def features_in(self) -> int:
        """Width of what `forward` takes."""
        return len(self.sizes) + self.reals

    @property
    def features_out(self) -> int:
        """Width of what `forward` gives."""
        return sum(self._width if s > self._few else s for s in self.sizes) + self.reals

    def shrink(self, h: Tensor) -> None:
        """Until `settle`, vectors of states that are rare among rows h (N, M + R) or absent are small or zero."""
        self._trust = [trust(h[:, i], size) for i, size in enumerate(self.sizes) if size > self._few]

    @torch.no_grad()
    def settle(self) -> None:
        """Ends the shrinkage of a training: the vectors become what they counted as."""
        for vectors, share in zip(self.vectors, self._trust or (), strict=self._trust is not None):
            vectors.mul_(share.to(vectors)[:, None])
        self._trust = None

    def forward(self, h: Tensor) -> Tensor:
        """States and numbers h (B, M + R), as floats -> (B, features_out)."""
        vectors: Iterable[Tensor] = self.vectors
        if self._trust is not None:
            vectors = [v * share.to(v)[:, None] for v, share in zip(self.vectors, self._trust, strict=True)]
        parts, learned = [], iter(vectors)
        for i, size in enumerate(self.sizes):
            state = h[:, i].long()
            state = torch.where(state < 0, size, state.clamp(max=size))
            if size > self._few:
                parts.append(F.embedding(state, F.pad(next(learned), (0, 0, 0, 1))))
            else:
                parts.append(F.one_hot(state, size + 1)[:, :size].to(h.dtype))
        if self.reals:
            parts.append((h[:, len(self.sizes) :] @ self.whitening.T).clamp(-_FARTHEST, _FARTHEST))
        return torch.cat(parts, 1)
