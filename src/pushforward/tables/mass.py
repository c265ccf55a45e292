"""An exact mass function over discrete columns: a masked autoregressive network with one softmax a column.

Germain et al. 2015 (MADE, arXiv 1502.03509), with categories in place of bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import as_generator
from ..density import Density, Vectors

_SCORED_ROWS = 2048  # whose hidden units stay in cache, so that memory is flat in the number of rows
_SAMPLED_ROWS = 4096  # drawn at a time: their hidden units stay in cache
_FARTHEST = 10.0  # of a number that a network sees


class Embedder(nn.Module):
    """Discrete columns as numbers for a network: one-hot where a column has few states, else a learned vector.

    Args:
        sizes: states of each discrete column; a state beyond the last, which stands for the unknown, becomes zeros.
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

    def forward(self, h: Tensor) -> Tensor:
        """States and numbers h (B, M + R), as floats -> (B, features_out)."""
        parts, learned = [], iter(self.vectors)
        for i, size in enumerate(self.sizes):
            state = h[:, i].long().clamp(0, size)
            if size > self._few:
                parts.append(F.embedding(state, F.pad(next(learned), (0, 0, 0, 1))))
            else:
                parts.append(F.one_hot(state, size + 1)[:, :size].to(h.dtype))
        if self.reals:
            parts.append((h[:, len(self.sizes) :] @ self.whitening.T).clamp(-_FARTHEST, _FARTHEST))
        return torch.cat(parts, 1)


class MassFunction(Density):
    """P(states) = prod_j P(state_j | states before it, given): normalised exactly, whatever its weights are.

    Each factor is a softmax mixed with a little of the smoothed marginal, so no state that the schema knows has
    probability zero.

    Args:
        sizes: states of each of the M columns, at least 2 each.
        given: embeds what the mass is conditional on; None for nothing.
        width: hidden units of each of the two layers; None takes 32 a column, from 64 to 512.
        seed: of the initial weights; torch's global generator when None.

    Example:
        >>> mass = MassFunction([2, 3], seed=0)
        >>> states = torch.cartesian_prod(torch.arange(2), torch.arange(3))
        >>> round(float(mass(states).detach().exp().sum()), 5)
        1.0
    """

    space: Vectors  # type: ignore[override]  # set once, never replaced by another space
    log_marginal: Tensor
    log_mix: Tensor
    _mask_in: Tensor
    _mask_mid: Tensor
    _mask_out: Tensor
    _offsets: Tensor
    _sizes: Tensor

    def __init__(
        self, sizes: Sequence[int], given: Embedder | None = None, *, width: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        if not sizes or min(sizes) < 2:
            raise ValueError(f"every column of a mass function needs at least 2 states, got {list(sizes)}")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        columns, total = len(sizes), sum(sizes)
        self.sizes, self.given = tuple(sizes), given
        self.space = Vectors(len(sizes))  # type: ignore[override]
        self.space.sizes = self.sizes
        self.width = width if width is not None else min(max(64, 32 * columns), 512)
        conditions = 0 if given is None else given.features_out
        first = 0 if given is None else -1  # degree -1: units that see the given columns alone
        degrees = torch.arange(self.width, device="cpu") % max(columns - 1 - first, 1) + first
        of_state = torch.repeat_interleave(torch.arange(columns, device="cpu"), torch.tensor(sizes, device="cpu"))
        # Masks are rebuilt, not saved. A module built without memory (as `load` does) keeps them all the same.
        buffers = {
            "_mask_in": degrees[None, :] >= torch.arange(columns, device="cpu")[:, None],
            "_mask_mid": degrees[:, None] >= degrees[None, :],
            "_mask_out": of_state[:, None] > degrees[None, :],
        }
        for name, mask in buffers.items():
            self.register_buffer(name, mask.to(torch.get_default_dtype()), persistent=False)
        offsets = torch.tensor([0, *sizes[:-1]], device="cpu").cumsum(0)
        self.register_buffer("_offsets", offsets, persistent=False)
        self.register_buffer("_sizes", torch.tensor(sizes, device="cpu"), persistent=False)
        self.register_buffer("log_marginal", torch.cat([torch.full((s,), -math.log(s)) for s in sizes]))
        self.register_buffer("log_mix", torch.tensor(math.log(0.01)))

        def weights(*shape: int, fan: int) -> nn.Parameter:
            bound = 1 / math.sqrt(max(fan, 1))
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        self.weight_in = weights(total, self.width, fan=columns)
        self.weight_given = weights(self.width, conditions, fan=conditions) if conditions else None
        self.bias_in = weights(self.width, fan=columns)
        self.weight_mid = weights(self.width, self.width, fan=self.width)
        self.bias_mid = weights(self.width, fan=self.width)
        self.weight_out = weights(total, self.width, fan=self.width)
        self.bias_out = nn.Parameter(torch.zeros(total))

    @property
    def needs_training(self) -> bool:
        """False where the marginal, which `set_frequencies` sets, is all there is to know."""
        return len(self.sizes) > 1 or self.given is not None

    @torch.no_grad()
    def set_frequencies(self, states: Tensor, weights: Tensor | None = None) -> None:
        """Sets the marginals from the training rows: states (N, M), weights (N,) of mean 1."""
        n = len(states)
        frequencies = []
        for j, size in enumerate(self.sizes):
            counts = torch.bincount(states[:, j], weights=None if weights is None else weights.double(), minlength=size)
            frequencies.append((counts.double() + 0.5) / (n + 0.5 * size))
        marginal = torch.cat(frequencies).log()
        self.log_marginal.copy_(marginal)
        self.bias_out.copy_(marginal)
        self.log_mix.fill_(math.log(min(0.01, 10 / n)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """States x (B, M), context (B, G) -> log P(states | context) (B,), in nats."""
        index = x.long() + self._offsets
        return self._mixed(self._log_softmax(x, context).gather(1, index), self.log_marginal[index]).sum(1)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log P(states | context) of states x (N, M), context (N, G) -> (N,), in nats, by chunks of rows."""
        spans = range(0, max(len(x), 1), _SCORED_ROWS)
        given = [None if context is None else context[i : i + _SCORED_ROWS] for i in spans]
        return torch.cat([self(x[i : i + _SCORED_ROWS], part) for i, part in zip(spans, given, strict=True)])

    @torch.no_grad()
    def sample(
        self, n: int, context: Tensor | None = None, *, generator: torch.Generator | int | None = None
    ) -> Tensor:
        """Draws n rows of states (n, M) int64; n for each context (*B, G): (n, *B, M)."""
        generator = as_generator(generator, self.bias_out.device)
        given, count = self.space.expand_context(n, context)
        parts = []
        for start in range(0, count, _SAMPLED_ROWS):
            part = None if given is None else given[start : start + _SAMPLED_ROWS]
            parts.append(self._sample(min(_SAMPLED_ROWS, count - start), part, generator))
        empty = torch.zeros(0, len(self.sizes), dtype=torch.int64, device=self.bias_out.device)
        return self.space.unflatten_samples(torch.cat(parts) if parts else empty, n, context)

    def _sample(self, n: int, given: Tensor | None, generator: torch.Generator | None) -> Tensor:
        states = torch.zeros(n, len(self.sizes), dtype=torch.int64, device=self.bias_out.device)
        seen = self._start(n, given)
        mid = self.weight_mid * self._mask_mid
        for j, (offset, size) in enumerate(zip(self._offsets.tolist(), self.sizes, strict=True)):
            own = slice(offset, offset + size)
            logits = F.linear(self._hidden(seen, mid), self.weight_out[own] * self._mask_out[own], self.bias_out[own])
            p = self._mixed(logits.log_softmax(1), self.log_marginal[own]).exp()
            states[:, j] = torch.multinomial(p, 1, generator=generator)[:, 0]
            seen = seen + self.weight_in[offset + states[:, j]] * self._mask_in[j]
        return states

    def _log_softmax(self, states: Tensor, given: Tensor | None) -> Tensor:
        """What the network makes of every state of each column given the columns before it, (B, total)."""
        seen = self._start(len(states), given)
        if self._mask_in.shape[0] > 1:
            index = states.long() + self._offsets
            of_state = torch.repeat_interleave(self._mask_in, self._sizes, 0)
            seen = seen + F.embedding_bag(index, self.weight_in * of_state, mode="sum")
        h = self._hidden(seen, self.weight_mid * self._mask_mid)
        logits = F.linear(h, self.weight_out * self._mask_out, self.bias_out)
        return torch.cat([part.log_softmax(1) for part in logits.split(self.sizes, 1)], 1)

    def _start(self, n: int, given: Tensor | None) -> Tensor:
        """The first layer before any state is seen, (n, width)."""
        if self.weight_given is None:
            return self.bias_in.expand(n, -1)
        if self.given is None or given is None:
            raise ValueError("this mass function is conditional: give what it is conditional on")
        return self.bias_in + F.linear(self.given(given), self.weight_given)

    def _hidden(self, seen: Tensor, mid: Tensor) -> Tensor:
        h = torch.relu(seen)
        return h + torch.relu(F.linear(h, mid, self.bias_mid))

    def _mixed(self, log_p: Tensor, log_marginal: Tensor) -> Tensor:
        """Log-probabilities of the network, with a little of the marginals."""
        return torch.logaddexp(log_p + torch.log1p(-self.log_mix.exp()), log_marginal + self.log_mix)
