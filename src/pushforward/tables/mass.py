"""An exact mass function over discrete columns: a masked autoregressive network with one softmax a column.

Germain et al. 2015 (MADE, arXiv 1502.03509), with categories in place of bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import as_generator
from ..density import Density, Vectors
from ..training.objective import Batch
from .embedder import Embedder, trust
from .exclusions import Exclusions, Pair, find_exclusions

_SCORED_ROWS = 2048  # whose hidden units stay in cache, so that memory is flat in the number of rows
_SAMPLED_ROWS = 4096  # drawn at a time: their hidden units stay in cache
_ROUNDS = 50  # of EM
_PSEUDO_ROWS = 0.5  # of the marginal, added to those of each state of a parent


def hide(states: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """States (N, M) with a random share of them hidden: s becomes -1 - s, see `MassFunction.forward`."""
    is_hidden = torch.rand(states.shape, generator=generator) < share
    return torch.where(is_hidden, -1 - states, states)


def _revealed(states: Tensor) -> Tensor:
    return torch.where(states < 0, -1 - states, states)


class MassFunction(Density):
    """P(states) = prod_j P(state_j | states before it, given): normalised exactly, whatever its weights are.

    The columns are modelled in their own order, or in that of `set_order`.

    Each factor is a softmax, whose logits start from the column's smoothed frequencies, mixed with these frequencies by
    the weight `exp(log_mix)`, so that no state that the schema knows has probability zero. Frequencies are those given
    the column's parent, if it has one, without what `set_exclusions` rules out. A state beyond the last of its column
    is not there: it is integrated out, and columns after it see zeros in its place. A state s given as -1 - s is
    hidden: it counts, and columns after it see zeros in its place.

    Args:
        sizes: states of each of the M columns, at least 2 each.
        given: embeds what the mass is conditional on; None for nothing.
        width: hidden units of each of the two layers; None takes 32 a column, from 64 to 512.
        seed: of the initial weights; torch's global generator when None.

    Raises:
        ValueError: there are no columns, or one has fewer than 2 states.

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
        self._degrees = torch.arange(self.width, device="cpu") % max(columns - 1 - first, 1) + first
        # Masks are rebuilt, not saved. A module built without memory (as `load` does) keeps them all the same.
        mask_mid = (self._degrees[:, None] >= self._degrees[None, :]).to(torch.get_default_dtype())
        self.register_buffer("_mask_mid", mask_mid, persistent=False)
        self.parents: dict[int, int] = {}
        self.exclusions: Exclusions | None = None
        self.set_order(range(columns))
        offsets = torch.tensor([0, *sizes[:-1]], device="cpu").cumsum(0)
        self.register_buffer("_offsets", offsets, persistent=False)
        self.register_buffer("_sizes", torch.tensor(sizes, device="cpu"), persistent=False)
        self.register_buffer("log_marginal", torch.cat([torch.full((s,), -math.log(s)) for s in sizes]))
        self.register_buffer("log_mix", torch.full((columns,), math.log(0.01)))

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
        self._trust: Tensor | None = None

    def set_order(self, order: Sequence[int], parents: Mapping[int, int] | None = None) -> None:
        """Sets the order in which the columns are modelled, and drawn, each given those before it.

        Args:
            order: the columns, each once.
            parents: for some columns another one before it, which they determine as a zone its borough. The factor of
                such a column starts from its frequencies given the parent, and is mixed with them.

        Raises:
            ValueError: it does not name each column once, or a parent does not come before its column.
        """
        columns, parents = len(self.sizes), dict(parents or {})
        if sorted(order) != list(range(columns)):
            raise ValueError(f"the order must name each of the {columns} columns once, got {list(order)}")
        place = torch.empty(columns, dtype=torch.int64, device="cpu")
        place[list(order)] = torch.arange(columns, device="cpu")
        if not all(c in order and p in order and place[p] < place[c] for c, p in parents.items()):
            raise ValueError(f"parents must come before their columns in the order {list(order)}, got {parents}")
        for child in self.parents:
            delattr(self, f"log_given_{child}")
        self.order, self.parents, self.exclusions = tuple(order), parents, None
        of_state = torch.repeat_interleave(place, torch.tensor(self.sizes, device="cpu"))
        masks = {"_mask_in": self._degrees >= place[:, None], "_mask_out": of_state[:, None] > self._degrees}
        for name, mask in masks.items():
            self.register_buffer(name, mask.to(self._mask_mid), persistent=False)
        for child, parent in parents.items():  # (states of the parent and the unknown one, own states)
            table = torch.zeros(self.sizes[parent] + 1, self.sizes[child]).log_softmax(1).to(self.log_marginal)
            self.register_buffer(f"log_given_{child}", table)

    @property
    def log_given(self) -> dict[int, tuple[int, Tensor]]:
        """For each column with a parent: the parent, and log-frequencies given its states, of which one is unknown."""
        return {child: (parent, getattr(self, f"log_given_{child}")) for child, parent in self.parents.items()}

    @property
    def _states_seen(self) -> int:
        """States of the modelled columns and of the given ones."""
        return sum(self.sizes) + (0 if self.given is None else sum(self.given.sizes))

    def set_exclusions(self, pairs: Sequence[Pair]) -> None:
        """Sets which states exclude others, as `find_exclusions` gives them for the order of the columns."""
        self.exclusions = Exclusions(pairs, sum(self.sizes), self._states_seen) if pairs else None
        if self.exclusions is not None:
            self.exclusions.to(self.bias_out)

    @property
    def excluded_pairs(self) -> tuple[Pair, ...]:
        """The pairs of states that exclude each other, see `find_exclusions`."""
        return () if self.exclusions is None else self.exclusions.pairs

    @property
    def needs_training(self) -> bool:
        """False where the marginal, which `set_frequencies` sets, is all there is to know."""
        return len(self.sizes) > 1 or self.given is not None

    @torch.no_grad()
    def set_frequencies(
        self, states: Tensor, weights: Tensor | None = None, context: Tensor | None = None
    ) -> None:  # fmt: skip
        """Sets the marginals, and what excludes what, from the training rows.

        Args:
            states: (N, M).
            weights: (N,) of mean 1.
            context: (N, G), what the mass is conditional on.
        """
        n = len(states)
        given = () if self.given is None or context is None else self.given.sizes
        seen = states if not given or context is None else torch.cat([states, context[:, : len(given)].long()], 1)
        self.set_exclusions(find_exclusions(seen.cpu().numpy(), (*self.sizes, *given), self.order, len(self.sizes)))
        frequencies = []
        for j, size in enumerate(self.sizes):
            share = None if weights is None else weights.double()
            counts = torch.bincount(states[:, j], weights=share, minlength=size)[:size].double()
            frequencies.append((counts + 0.5) / (counts.sum() + 0.5 * size))
        marginal = torch.cat(frequencies).log()
        self.log_marginal.copy_(marginal)
        for child, (parent, table) in self.log_given.items():
            rows, columns = (self.sizes[c] + 1 for c in (parent, child))
            pairs = states[:, parent] * columns + states[:, child]
            share = None if weights is None else weights.double()
            counts = torch.bincount(pairs, weights=share, minlength=rows * columns).double().view(rows, columns)[:, :-1]
            usual = frequencies[child] * _PSEUDO_ROWS
            table.copy_(((counts + usual) / (counts + usual).sum(1, keepdim=True)).log())
        self.bias_out.copy_(marginal)
        self.log_mix.fill_(math.log(min(0.01, 10 / n)))

    @torch.no_grad()
    def shrink(self, states: Tensor, context: Tensor | None) -> None:
        """Until `settle`, states that are rare among rows (N, M) tell little of others, and are told little by them.

        What weights decay to are then the frequencies of `set_frequencies`.
        """
        columns = zip(states.unbind(1), self.sizes, strict=True)
        self._trust = torch.cat([trust(s, size) for s, size in columns])[:, None].to(self.bias_out)
        self.bias_out.zero_()
        if self.given is not None and context is not None:
            self.given.shrink(context)

    @torch.no_grad()
    def settle(self) -> None:
        """Ends the shrinkage of a training: the weights become what they counted as."""
        if self._trust is not None:
            self.weight_in.mul_(self._trust)
            self.weight_out.mul_(self._trust)
            self.bias_out.mul_(self._trust[:, 0]).add_(self.log_marginal)
            self._trust = None
        if self.given is not None:
            self.given.settle()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """States x (B, M), context (B, G) -> log P(states | context) (B,), in nats.

        Training hides states at random (`hide`), as dropout does units (Srivastava et al. 2014).
        """
        log_p, log_marginal = self._factors(x, context)
        return _mixed(log_p, log_marginal, self.log_mix).sum(1)

    @torch.no_grad()
    def interpolation(
        self, x: Tensor, context: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """How much of its marginal each column's factor should have, to be likeliest for rows not learned from.

        As deleted interpolation does (Jelinek and Mercer 1980), by EM, with a pseudo-count of half a row for each part.

        Args:
            x: (N, M), states.
            context: (N, G).
            weights: (N,), of mean 1.

        Returns:
            the `log_mix` (M,) of that, and the log-mass (N,) of these rows with it.
        """
        given = (None,) * len(x) if context is None else context.split(_SCORED_ROWS)
        chunks = [self._factors(part, some) for part, some in zip(x.split(_SCORED_ROWS), given, strict=False)]
        log_p, log_marginal = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        share = torch.ones_like(log_p) if weights is None else weights[:, None].to(log_p)
        least, mix = self.log_mix.exp(), torch.full_like(self.log_mix, 0.5)
        for _ in range(_ROUNDS):
            of_marginal = torch.sigmoid(log_marginal - log_p + torch.logit(mix))
            mix = ((share * of_marginal).sum(0) + 0.5) / (share.sum(0) + 1)
        log_mix = torch.maximum(mix, least).log()
        return log_mix, _mixed(log_p, log_marginal, log_mix).sum(1)

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
        seen, offsets = self._start(n, given), self._offsets.tolist()
        first, hidden = torch.zeros_like(seen), torch.zeros_like(seen)
        excluded = None if self.exclusions is None else self.exclusions(self._given_index(n, given))
        for place, j in enumerate(self.order):
            # Units that see the columns before this one alone are complete now; each is calculated once.
            new = (self._degrees == place - 1).nonzero()[:, 0].to(seen.device)
            first[:, new] = torch.relu(seen[:, new])
            mid = self.weight_mid[new] * self._mask_mid[new]
            hidden[:, new] = first[:, new] + torch.relu(F.linear(first, mid, self.bias_mid[new]))
            own = slice(offsets[j], offsets[j] + self.sizes[j])
            logits = F.linear(hidden, self.weight_out[own] * self._mask_out[own], self.bias_out[own])
            usual = self.log_marginal[own]
            if j in self.parents:
                usual = self.log_given[j][1][states[:, self.parents[j]]]
            if excluded is not None:
                usual = usual + excluded[:, own]
            logits = logits + (usual - self.log_marginal[own])
            p = _mixed(logits.log_softmax(1), usual.log_softmax(-1), self.log_mix[j]).exp()
            states[:, j] = torch.multinomial(p, 1, generator=generator)[:, 0]
            index = offsets[j] + states[:, j]
            seen = seen + self.weight_in[index] * self._mask_in[j]
            if self.exclusions is not None and excluded is not None:
                excluded = excluded + self.exclusions(index[:, None])
        return states

    def _factors(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, M) of states x (B, M), of the network and by frequencies; 0 for what is absent."""
        states = _revealed(x.long())
        is_known = states < self._sizes
        index = torch.where(is_known, states, 0) + self._offsets
        log_p, usual = (of_all.gather(1, index) for of_all in self._log_softmax(x, context))
        return torch.where(is_known, log_p, 0.0), torch.where(is_known, usual, 0.0)

    def _prior(self, states: Tensor, given: Tensor | None) -> Tensor:
        """The log-odds of every state of each column by frequencies given the columns before it, (B, total)."""
        if not self.parents and self.exclusions is None:
            return self.log_marginal.expand(len(states), -1)
        parts = list(self.log_marginal.expand(len(states), -1).split(self.sizes, 1))
        for child, (parent, table) in self.log_given.items():
            parts[child] = table[states[:, parent]]
        prior = torch.cat(parts, 1)
        if self.exclusions is None:
            return prior
        seen = torch.where(states < self._sizes, states + self._offsets, self.exclusions.seen)
        return prior + self.exclusions(torch.cat([seen, self._given_index(len(states), given)], 1))

    def _given_index(self, n: int, given: Tensor | None) -> Tensor:
        """The given states, counted through all columns, for n rows: (n, G)."""
        if self.given is None or given is None:
            return torch.zeros(n, 0, dtype=torch.int64, device=self.bias_out.device)
        sizes = torch.tensor(self.given.sizes, dtype=torch.int64, device=self.bias_out.device)
        states, first = given[:, : len(sizes)].long(), sum(self.sizes) + sizes.cumsum(0) - sizes
        return torch.where((states >= 0) & (states < sizes), states + first, self._states_seen).expand(n, -1)

    def _normalized(self, log_odds: Tensor) -> Tensor:
        return torch.cat([part.log_softmax(1) for part in log_odds.split(self.sizes, 1)], 1)

    def _log_softmax(self, states: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, total) of every state of each column given those before it: of the network, and by
        frequencies."""
        prior = self._prior(_revealed(states.long()), given)
        seen = self._start(len(states), given)
        if self._mask_in.shape[0] > 1:
            is_seen = (states >= 0) & (states < self._sizes)
            index = torch.where(is_seen, states.long() + self._offsets, len(self.weight_in))
            weights = self.weight_in * torch.repeat_interleave(self._mask_in, self._sizes, 0)
            weights = weights if self._trust is None else weights * self._trust
            seen = seen + F.embedding_bag(index, F.pad(weights, (0, 0, 0, 1)), mode="sum")
        h = self._hidden(seen, self.weight_mid * self._mask_mid)
        logits = F.linear(h, self.weight_out * self._mask_out, self.bias_out)
        if self._trust is not None:
            logits = logits * self._trust[:, 0] + self.log_marginal
        usual = prior if self.exclusions is None else self._normalized(prior)
        return self._normalized(logits + (prior - self.log_marginal)), usual

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


def interpolated(mass: Density, batch: Batch) -> Tensor:
    """The negative log-likelihood of a batch, if each column had as much of its marginal as suits these rows."""
    assert isinstance(mass, MassFunction)
    return -batch.mean(mass.interpolation(batch.x, batch.context, batch.weights)[1])


def _mixed(log_p: Tensor, log_marginal: Tensor, log_mix: Tensor) -> Tensor:
    """Log-probabilities of the network, with some of the marginals."""
    return torch.logaddexp(log_p + torch.log1p(-log_mix.exp()), log_marginal + log_mix)
