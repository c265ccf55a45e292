"""Flow: a bijection and a base make a density, log p(x) = log p_Z(f(x)) + log|det df/dx|."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ._fast.kernels.chunks import by_chunks, map_rows, spans_of
from ._fast.kernels.rounding import Rounding, compare, hidden_dtype, some_rows
from .bases import Base, as_base, as_shape
from .bijections import Bijection
from .density import Density, InnerFlow, Mixture, Tensors, Vectors, as_generator
from .distribution import FlowDistribution


class Flow(Density):
    """A density over x of a fixed shape, given by a bijection from x to z and a base density of z.

    All methods take any leading axes, convert numbers to the flow's dtype, and work in the data's units. Without
    gradients (`torch.no_grad()`), rows are worked on in chunks by all threads, so memory stays flat in their number.

    Args:
        bijection: maps x (B, C, *S) to z of the same shape.
        shape: the shape (C, *S) of one x; an integer D stands for (D,).
        base: the density of z: a `Base`, a `torch.distributions` object, or None for `StandardNormal`.
        embed: a module applied to the context before the bijection sees it, (B, K) -> (B, K').
        context_dim: K, checked against each context; 0 refuses any context, None checks nothing.

    Attributes:
        rounding: how far the last call with `precision="bf16"` was from exact (`mean` and `largest` difference in
            log p, in nats); None before the first.

    Raises:
        ValueError: the shapes of base and flow do not agree.

    Example:
        >>> from pushforward import Chain
        >>> flow = Flow(Chain(), shape=2)
        >>> flow.log_prob(torch.zeros(3, 2))
        tensor([-1.8379, -1.8379, -1.8379])
    """

    def __init__(
        self,
        bijection: Bijection,
        shape: int | Sequence[int],
        base: Base | Distribution | None = None,
        embed: nn.Module | None = None,
        *,
        context_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = as_shape(shape)
        self.space: Tensors = Vectors(self.shape[0]) if len(self.shape) == 1 else Tensors(self.shape)
        self.bijection = bijection
        self.base = as_base(base, self.shape)
        self.embed = embed
        self.context_dim = context_dim
        self.recipe: dict[str, Any] | None = None  # name and arguments, by which `save` and `load` rebuild the flow
        self.rounding: Rounding | None = None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The hot path: x (B, *shape), context (B, K) -> log p(x) (B,), in nats. One batch axis, the flow's dtype."""
        z, log_det = self._to_latent(x, context)
        return self.base.log_prob(z) + log_det

    def log_prob(self, x: Any, context: Any = None, *, precision: str | None = None) -> Tensor:
        """Log-density of each row: x (*N, *shape), context (*N, K) or broadcast to it -> log p(x) (*N,), in nats.

        Args:
            x: the rows, in data units.
            context: one for each row, or one for all.
            precision: "bf16" rounds what the hidden layers of each `MLP` multiply to bfloat16, which is faster on many
                processors (1.5x measured). Densities are then not exact: the call also scores some rows exactly, keeps
                the difference in `rounding`, and warns with it the first time. Only without gradients.

        Raises:
            ValueError: x or the context has the wrong shape or device; the precision is unknown, or gradients are on.
        """
        hidden = hidden_dtype(precision)
        rows, contexts, leading = self._rows(x, context)
        log_prob = self._score(rows, contexts, hidden)
        if hidden is not None:
            self._measure_rounding(rows, contexts, hidden)
        return log_prob.view(leading)

    @torch.no_grad()
    def initialize(self, x: Any, context: Any = None) -> None:
        """As the function `initialize`."""
        rows, contexts, _ = self._rows(x, context)
        if contexts is not None and hasattr(self.embed, "initialize"):
            cast(Any, self.embed).initialize(contexts)
        self.bijection.initialize(rows, self._embedded(contexts))

    def latent(self, x: Any, context: Any = None) -> Tensor:
        """x (*N, *shape), context (*N, K) -> z (*N, *shape), of the density `base`."""
        return self.f(x, context)[0]

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """Itself, with x (N, *shape) and context (N, K) as it takes them."""
        return [InnerFlow(self, *self._rows(x, context)[:2])]

    def f(self, x: Any, context: Any = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (*N, *shape), context (*N, K) -> z (*N, *shape), log|det dz/dx| (*N,)."""
        rows, contexts, leading = self._rows(x, context)
        z, log_det = map_rows(self._to_latent, rows, contexts, [self.shape, ()])
        return z.view(*leading, *self.shape), log_det.view(leading)

    def g(self, z: Any, context: Any = None) -> Tensor:
        """Latent to data, the inverse of f: z (*N, *shape), context (*N, K) -> x (*N, *shape)."""
        rows, contexts, leading = self._rows(z, context)
        x, _ = map_rows(self._to_data, rows, contexts, [self.shape, ()])
        return x.view(*leading, *self.shape)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Any = None,
        *,
        generator: torch.Generator | int | None = None,
        precision: str | None = None,
    ) -> Tensor:
        """Draws n rows for each context: -> (n, *shape); context (*M, K) -> (n, *M, *shape).

        Args:
            n: how many, at least 0.
            context: one context (K,), or many (*M, K), each of which gets n rows.
            generator: the source of randomness, or a seed; torch's global one when None.
            precision: as in `log_prob`: "bf16" draws from the rounded density, whose difference to the exact one is
                kept in `rounding`.

        Raises:
            ValueError: n is negative, the context has the wrong shape, or the precision is unknown.
        """
        return self._sample(n, context, generator, False, hidden_dtype(precision))[0]

    @torch.no_grad()
    def sample_with_log_prob(
        self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, with the log-density of each row: -> x (n, *M, *shape), log p(x) (n, *M), in nats."""
        return self._sample(n, context, generator, True, None)

    def rsample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        """As `sample`, with gradients to the flow's parameters and the context (reparametrised draws).

        Raises:
            ValueError: the base has no reparametrised sample (a mixture picks a component).
        """
        if not self.base.has_rsample:
            raise ValueError(f"{type(self.base).__name__} has no reparametrised sample; use sample()")
        contexts, leading = self._contexts(context)
        count = _check_count(n) * math.prod(leading)
        z = self.base.sample(count, generator=as_generator(generator, self._like().device))
        x, _ = self._to_data(z, None if contexts is None else contexts.repeat(n, 1))
        return x.view(n, *leading, *self.shape)

    def distribution(self, context: Any = None) -> Distribution:
        """The flow as a `torch.distributions.Distribution`, of batch shape (*M,) for a context (*M, K)."""
        contexts, leading = self._contexts(context)
        return FlowDistribution(self, None if contexts is None else contexts.view(*leading, -1), leading)

    def _to_latent(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected x of shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return self.bijection(x, self._embedded(context))

    def _to_data(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.bijection.inverse(z, self._embedded(context))

    def _check_context(self, context: Tensor | None) -> None:
        got = 0 if context is None else context.shape[-1]
        if self.context_dim is not None and got != self.context_dim:
            raise ValueError(
                f"this flow takes {f'a context of width {self.context_dim}' if self.context_dim else 'no context'}"
                f", got {f'one of width {got}' if got else 'none'}"
            )

    def _embedded(self, context: Tensor | None) -> Tensor | None:
        self._check_context(context)
        return context if context is None or self.embed is None else self.embed(context)

    def _sample(
        self,
        n: int,
        context: Any,
        generator: torch.Generator | int | None,
        with_log_prob: bool,
        hidden: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        contexts, leading = self._contexts(context)
        total = _check_count(n) * math.prod(leading)
        like = self._like()
        generator = as_generator(generator, like.device)
        x = like.new_empty(total, *self.shape)
        log_prob = like.new_empty(total if with_log_prob else 0)

        def draw(span: slice) -> tuple[Tensor, Tensor | None]:
            z = self.base.sample(span.stop - span.start, generator=generator)
            of_row = torch.arange(span.start, span.stop, device=x.device)
            return z, None if contexts is None else contexts[of_row % len(contexts)]

        def to_data(z: Tensor, rows: Tensor | None) -> Sequence[Tensor]:
            x, log_det = self._to_data(z, rows)
            return (x, self.base.log_prob(z) - log_det) if with_log_prob else (x,)

        outputs, spans = (x, log_prob) if with_log_prob else (x,), spans_of(total, math.prod(self.shape), x.device)
        by_chunks(to_data, draw, spans, outputs, hidden)
        if hidden is not None:
            self._measure_rounding(x, None if contexts is None else contexts.repeat(n, 1), hidden)
        return x.view(n, *leading, *self.shape), log_prob.view(n, *leading) if with_log_prob else log_prob

    def _score(self, rows: Tensor, contexts: Tensor | None, hidden: torch.dtype | None = None) -> Tensor:
        (log_prob,) = map_rows(lambda *chunk: (self.forward(*chunk),), rows, contexts, [()], hidden=hidden)
        return log_prob

    def _measure_rounding(self, rows: Tensor, contexts: Tensor | None, hidden: torch.dtype) -> None:
        if not len(rows):
            return
        some = some_rows(len(rows), rows.device)
        rows, contexts = rows[some], None if contexts is None else contexts[some]
        exact, rounded = self._score(rows, contexts), self._score(rows, contexts, hidden)
        self.rounding = compare(rounded, exact, warn=self.rounding is None)

    def _like(self) -> Tensor:
        """A tensor with the dtype and device of the flow."""
        tensors: Iterator[Tensor] = (t for s in (self.parameters(), self.buffers()) for t in s if t.is_floating_point())
        return next(tensors, torch.empty(0))

    def _tensor(self, values: Any, name: str) -> Tensor:
        like = self._like()
        if isinstance(values, Tensor) and values.device != like.device:
            raise ValueError(f"{name} is on {values.device} and the flow on {like.device}: move one of them with .to()")
        if "complex" in str(getattr(values, "dtype", "")):
            raise ValueError(
                f"{name} must be real numbers, got {values.dtype}: give real and imaginary parts as columns"
            )
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    def _rows(self, x: Any, context: Any) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Flattens leading axes: -> x (B, *shape), context (B, K) or None, the leading axes."""
        x = self._tensor(x, "x")
        rank = len(self.shape)
        if x.ndim < rank or tuple(x.shape[x.ndim - rank :]) != self.shape:
            raise ValueError(f"expected x of shape (..., {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        leading = tuple(x.shape[: x.ndim - rank])
        if context is not None:
            context = self._tensor(context, "context")
            try:
                leading = tuple(torch.broadcast_shapes(leading, context.shape[:-1]))
            except RuntimeError:
                raise ValueError(
                    f"the leading axes of x {tuple(x.shape)} and context {tuple(context.shape)} do not broadcast"
                ) from None
            context = context.expand(*leading, context.shape[-1]).reshape(-1, context.shape[-1])
            x = x.expand(*leading, *self.shape)
        return x.reshape(-1, *self.shape), context, leading

    def _contexts(self, context: Any) -> tuple[Tensor | None, tuple[int, ...]]:
        """context (*M, K) -> (M, K), the leading axes *M."""
        if context is None:
            return None, ()
        context = self._tensor(context, "context")
        if context.ndim < 1:
            raise ValueError("expected a context of shape (..., K), got a single number")
        return context.reshape(-1, context.shape[-1]), tuple(context.shape[:-1])


def initialize(flow: Flow, x: Any, context: Any = None) -> None:
    """Sets the data-dependent state of a flow (Standardize, ActNorm, the context's scale) from a batch, once.

    Layers that were initialised before keep their state; whether they were is part of the state_dict.

    Args:
        flow: any flow.
        x: (B, *shape), in data units.
        context: (B, K).

    Raises:
        ValueError: a column is constant, or there are fewer than 2 rows.
    """
    flow.initialize(x, context)


def Ensemble(flows: Sequence[Flow]) -> Mixture:  # noqa: N802  # it reads as the class that it once was
    """The mixture, in equal parts, of flows that differ in their weights alone.

    `fit` trains such flows at once, in batched matrix products, which costs less than one after another.

    Args:
        flows: at least one, all of the same layers and sizes, such as those of one recipe with other seeds.

    Raises:
        ValueError: there is no flow, they differ in more than weights, or share parameters.

    Example:
        >>> from pushforward import real_nvp
        >>> ensemble = Ensemble([real_nvp(2, depth=2, width=8, seed=k) for k in range(3)])
        >>> ensemble.log_prob(torch.zeros(5, 2)).shape, ensemble.sample(4).shape
        (torch.Size([5]), torch.Size([4, 2]))
    """
    if not flows:
        raise ValueError("an ensemble needs at least one flow, got none")
    first, *others = (_structure(flow) for flow in flows)
    for k, other in enumerate(others, 1):
        if other != first:
            raise ValueError(f"the flows of an ensemble must be of one shape: flow {k} differs from flow 0")
    return Mixture(flows)


def _structure(flow: Flow) -> object:
    """What flows that differ in their weights alone have in common."""
    kinds = [type(module) for module in flow.modules()]
    return flow.shape, flow.context_dim, kinds, [(name, t.shape) for name, t in flow.state_dict().items()]


def _check_count(n: int) -> int:
    if n < 0:
        raise ValueError(f"the number of samples must be at least 0, got {n}")
    return n
