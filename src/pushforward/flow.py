"""Flow: a bijection and a base make a density, log p(x) = log p_Z(f(x)) + log|det df/dx|."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Distribution

from .arguments import as_generator, as_leading, as_numbers, has_dtype, repeated
from .bases import Base, StandardNormal, as_base, as_shape
from .bijections import Bijection, Chain, OnChannels, checked, warn_of_rounding
from .bijections.base import is_fixed
from .chunks import in_chunks, map_rows, spans_of
from .conditional import Conditional, as_context_dim
from .density import InnerFlow, Tensors, Vectors
from .distribution import FlowDistribution
from .fixed_start import FixedStart
from .switch import PLAIN, is_eager, is_unaltered

fast: Any = None
if not PLAIN:
    from ._fast.kernels import rounding as fast

if TYPE_CHECKING:
    from ._fast.kernels.rounding import Rounding


class Flow(Conditional):
    """A density over x of a fixed shape, given by a bijection from x to z and a base density of z.

    All methods take any leading axes, convert numbers to the flow's dtype, and work in the data's units. Float64 rows
    keep their digits up to the first layer where that is a `Standardize` or a `Precondition`; else a rounding that
    shows is warned of, once. Without gradients (`torch.no_grad()`), rows are worked on in chunks by all threads, so
    memory stays flat in their number.

    Args:
        bijection: maps x (B, C, *S) to z of the same shape.
        shape: the shape (C, *S) of one x; an integer D stands for (D,).
        base: the density of z: a `Base`, a `torch.distributions` object, or None for `StandardNormal`.
        embed: a module applied to the context before the bijection sees it, (B, K) or (B, *context_dim) -> (B, K'). A
            context that many rows share is embedded once.
        context_dim: K, or the shape of one context that `embed` takes, such as (1, 64, 64); checked against each
            context. 0 refuses any context. None accepts any width K; of contexts that are no vectors, which `embed`
            turns into vectors, the first call tells the number of axes.

    Attributes:
        kept_apart: names of its attributes that a density around it sets and keeps in files, whatever the recipe says.
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

    has_map = True
    kept_apart: tuple[str, ...] = ()

    def __init__(
        self,
        bijection: Bijection,
        shape: int | Sequence[int],
        base: Base | Distribution | None = None,
        embed: nn.Module | None = None,
        *,
        context_dim: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise ValueError(f"bijection must be a Bijection, such as a Chain, got {type(bijection).__name__}")
        self.shape = as_shape(shape)
        space = Vectors(self.shape[0]) if len(self.shape) == 1 else Tensors(self.shape)
        self.space: Tensors = space  # type: ignore[override]  # never another one than of tensors
        self.bijection = bijection
        self.base = as_base(base, self.shape)
        self.embed = embed
        self.context_dim = as_context_dim(context_dim)
        if isinstance(self.context_dim, tuple):
            self.space.context_rank = len(self.context_dim)
        self._rounding_seen = False
        self.recipe: dict[str, Any] | None = None  # name and arguments, by which `save` and `load` rebuild the flow
        self.rounding: Rounding | None = None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The hot path: x (B, *shape), context (B, K) -> log p(x) (B,), in nats. One batch axis, the flow's dtype."""
        embedded = self._embedded(context)
        if context is not None and embedded is not None and not self._reads_context:
            self.note_rank(context.ndim - 1)
            self._check_reader(embedded)
        return self._log_prob(x, embedded)

    def log_prob(self, x: Any, context: Any = None, *, precision: str | None = None) -> Tensor:
        """Log-density of each row: x (*N, *shape), context (*N, K) or broadcast to it -> log p(x) (*N,), in nats.

        With gradients and more than 32,768 rows (131,072 on a GPU), the backward pass evaluates chunks of them again,
        in place of a graph of some 50 kB a row; `forward` never does.

        Args:
            x: the rows, in data units.
            context: one for each row, or one for all.
            precision: "bf16" rounds what the hidden layers of each `MLP` multiply to bfloat16, which is faster on many
                processors (1.5x measured). Densities are then not exact: the call also scores some rows exactly, keeps
                the difference in `rounding`, and warns with it the first time. Only without gradients.

        Raises:
            ValueError: x or the context has the wrong shape or device; the precision is unknown, gradients are on, or
                there is no fast path.
        """
        hidden = _hidden_dtype(precision)
        rows, embedded, leading = self._rows(x, context, embed=True)
        log_prob = self._without_overflow(self._score(rows, embedded, hidden), rows, embedded)
        if hidden is not None:
            self._measure_rounding(rows, embedded, hidden)
        return log_prob.view(leading)

    @torch.no_grad()
    def initialize(self, x: Any, context: Any = None) -> None:
        """Sets data-dependent state (Standardize, ActNorm, the context's scale) from a batch, once.

        Layers that were initialised before keep their state; whether they were is part of the state_dict.

        Args:
            x: (B, *shape), in data units.
            context: (B, K).

        Raises:
            ValueError: a column is constant, there are fewer than 2 rows, or they are not finite; then nothing is set.
        """
        rows, contexts, _ = self._rows(x, context)
        self._check_context(contexts)
        for name, values in (("x", rows), ("context", contexts)):
            if values is not None and not bool(values.isfinite().all()):
                raise ValueError(f"{name} must hold finite numbers alone")
        self._check_can_change()
        before = {name: value.clone() for name, value in self.state_dict().items()}
        try:
            if contexts is not None and hasattr(self.embed, "initialize"):
                cast(Any, self.embed).initialize(contexts)
            embedded = self._embedded_in_chunks(contexts)
            self.bijection.initialize(rows, embedded)
        except BaseException:
            self.load_state_dict(before)
            raise
        self._check_reader(embedded)

    def latent(self, x: Any, context: Any = None) -> Tensor:
        """x (*N, *shape), context (*N, K) -> z (*N, *shape), of the density `base`."""
        return self.f(x, context)[0]

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """Itself, with x (N, *shape) and context (N, K) as it takes them."""
        return [InnerFlow(self, *self._rows(x, context)[:2])]

    def fixed_start(self) -> FixedStart | None:
        """The first layer and the `embed`, where nothing of them is trained; the rest is a flow of the other layers. If
        these act on some channels alone (`OnChannels`) and the base is standard normal, it is over those channels, and
        the log-density of the others is a part of the log-determinant."""
        if type(self.bijection) is not Chain or not len(self.bijection) or not is_unaltered(self, Flow):
            return None
        first, *others = self.bijection
        if not is_fixed(first):
            return None
        embed, further = (self.embed, None) if is_fixed(self.embed) else (None, self.embed)
        shape, base, inner = self.shape, self.base, others[0] if len(others) == 1 else None
        channels: Tensor | None = None
        if isinstance(inner, OnChannels) and type(base) is StandardNormal:
            channels = inner.channels
            shape = (len(channels), *shape[1:])
            base = StandardNormal(shape).to(next(base.buffers()))
            others = list(inner.inner) if type(inner.inner) is Chain else [inner.inner]
        rest = Flow(Chain(*others), shape, base, further, context_dim=self.context_dim if embed is None else None)
        rest.recipe = self.recipe

        def apply(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
            embedded = context if embed is None else self._embedded(context)
            z, log_det = first(x, embedded)
            if channels is not None:
                is_apart = torch.ones(z.shape[1], dtype=torch.bool, device=z.device).index_fill(0, channels, False)
                apart, z = z[:, is_apart].double(), z[:, channels]
                if apart.shape[1]:
                    log_det = log_det + StandardNormal(apart.shape[1:]).log_prob(apart)
            return z, embedded, log_det

        return FixedStart(apply, rest, (first, embed, channels))

    def f(self, x: Any, context: Any = None) -> tuple[Tensor, Tensor]:
        """Data to latent: x (*N, *shape), context (*N, K) -> z (*N, *shape), log|det dz/dx| (*N,)."""
        rows, embedded, leading = self._rows(x, context, embed=True)
        z, log_det = map_rows(self._to_latent, rows, embedded, module=self)
        return z.view(*leading, *self.shape), log_det.view(leading)

    def g(self, z: Any, context: Any = None) -> Tensor:
        """Latent to data, the inverse of f: z (*N, *shape), context (*N, K) -> x (*N, *shape)."""
        rows, embedded, leading = self._rows(z, context, embed=True, latent=True)
        x, _ = map_rows(self._to_data, rows, embedded, module=self)
        return x.view(*leading, *self.shape)

    @torch.no_grad()
    def sample(
        self,
        n: int | Sequence[int],
        context: Any = None,
        *,
        generator: torch.Generator | int | None = None,
        precision: str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draws n rows for each context: -> (n, *shape); context (*M, K) -> (n, *M, *shape).

        Args:
            n: how many, at least 0; a tuple stands for several leading axes in its place.
            context: one context (K,), or many (*M, K), each of which gets n rows.
            generator: the source of randomness, or a seed; torch's global one when None.
            precision: as in `log_prob`: "bf16" draws from the rounded density, whose difference to the exact one is
                kept in `rounding`.
            temperature: what the draws of the base are multiplied by; with another than 1, rows are not those of
                `log_prob`.

        Raises:
            ValueError: n is negative, the context has the wrong shape, or the precision is unknown.
        """
        return self._sample(n, context, generator, False, _hidden_dtype(precision), temperature)[0]

    @torch.no_grad()
    def sample_with_log_prob(
        self, n: int | Sequence[int], context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, with the log-density of each row: -> x (n, *M, *shape), log p(x) (n, *M), in nats."""
        x, log_prob = self._sample(n, context, generator, True, None)
        return x, cast(Tensor, log_prob)

    def rsample(
        self, n: int | Sequence[int], context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> Tensor:
        """As `sample`, with gradients to the flow's parameters and the context (reparametrised draws).

        Raises:
            ValueError: n is negative, the context has the wrong shape, or the base has no reparametrised sample (a
                mixture picks a component).
        """
        if not self.base.has_rsample:
            raise ValueError(f"{type(self.base).__name__} has no reparametrised sample; use sample()")
        shape = as_leading(n)
        embedded, leading = self._embedded_contexts(context)
        each = math.prod(shape)
        count = each * math.prod(leading)
        z = self.base.sample(count, generator=as_generator(generator, self._like().device))
        x, _ = self._to_data(z, repeated(embedded, each))
        return x.view(*shape, *leading, *self.shape)

    def distribution(self, context: Any = None) -> Distribution:
        """The flow as a `torch.distributions.Distribution`, of batch shape (*M,) for a context (*M, K)."""
        contexts, leading = self._contexts(context)
        if contexts is not None:
            contexts = contexts.view(*leading, *contexts.shape[1:])
        return FlowDistribution(self, contexts, leading)

    def _to_latent(self, x: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor]:
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected x of shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        return checked(self.bijection(x, embedded), x, self.bijection)

    def _to_data(self, z: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor]:
        return checked(self.bijection.inverse(z, embedded), z, self.bijection)

    def _log_prob(self, x: Tensor, embedded: Tensor | None) -> Tensor:
        z, log_det = self._to_latent(x, embedded)
        return self.base.log_prob(z) + log_det

    def _sample(
        self,
        n: int | Sequence[int],
        context: Any,
        generator: torch.Generator | int | None,
        with_log_prob: bool,
        hidden_dtype: torch.dtype | None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor | None]:
        shape = as_leading(n)
        embedded, leading = self._embedded_contexts(context)
        each = math.prod(shape)
        total = each * math.prod(leading)
        x, log_prob = self._draw(total, embedded, None, generator, with_log_prob, hidden_dtype, temperature)
        if hidden_dtype is not None:
            self._measure_rounding(x, repeated(embedded, each), hidden_dtype)
        x = x.view(*shape, *leading, *self.shape)
        return x, None if log_prob is None else log_prob.view((*shape, *leading))

    @torch.no_grad()
    def sample_at(
        self, index: NDArray[np.int64], contexts: Any, *, generator: torch.Generator | int | None = None
    ) -> Tensor:
        """Draws a row for each of some contexts: index (N,) of contexts (M, K) -> (N, *shape)."""
        self.note_rank(contexts.ndim - 1)
        embedded, _ = self._embedded_contexts(contexts)
        places = torch.from_numpy(index).to(self._like().device)
        return self._draw(len(index), embedded, places, generator, False, None)[0]

    def _draw(
        self,
        total: int,
        embedded: Tensor | None,
        index: Tensor | None,
        generator: torch.Generator | int | None,
        with_log_prob: bool,
        hidden_dtype: torch.dtype | None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor | None]:
        """Rows (N, *shape) for the contexts of an index (N,), or for all of them in turn, and their log-densities."""
        device = self._like().device
        generator = as_generator(generator, device)

        def draw(span: slice) -> tuple[Tensor, Tensor | None]:
            z = self.base.sample(span.stop - span.start, generator=generator)
            z = z if temperature == 1 else temperature * z
            if embedded is None:
                return z, None
            rows = torch.arange(span.start, span.stop, device=device)
            return z, embedded[rows % len(embedded) if index is None else index[span]]

        def to_data(z: Tensor, embedded: Tensor | None) -> Sequence[Tensor]:
            x, log_det = self._to_data(z, embedded)
            return (x, self.base.log_prob(z) - log_det) if with_log_prob else (x,)

        spans = spans_of(total, math.prod(self.shape), device)
        x, *log_prob = in_chunks(to_data, draw, spans, device, hidden_dtype=hidden_dtype)
        return x, log_prob[0] if log_prob else None

    def _score(self, rows: Tensor, embedded: Tensor | None, hidden_dtype: torch.dtype | None = None) -> Tensor:
        def score(x: Tensor, embedded: Tensor | None) -> Sequence[Tensor]:
            return (self._log_prob(x, embedded),)

        return map_rows(score, rows, embedded, hidden_dtype=hidden_dtype, module=self)[0]

    def _measure_rounding(self, rows: Tensor, embedded: Tensor | None, hidden_dtype: torch.dtype) -> None:
        if not len(rows):
            return
        some = fast.some_rows(len(rows), rows.device)
        rows, embedded = rows[some], None if embedded is None else embedded[some]
        exact, rounded = self._score(rows, embedded), self._score(rows, embedded, hidden_dtype)
        self.rounding = fast.compare(rounded, exact, warn=self.rounding is None)

    def _rows(
        self, x: Any, context: Any, embed: bool = False, latent: bool = False
    ) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Flattens leading axes: -> x (B, *shape), contexts (B, K) or None, embedded if wanted, the leading axes.

        Rows, not latents, of other numbers than the flow's stay float64 where the first layer takes that; else a first
        loss of digits that shows is told.
        """
        given, keeps = x, self.bijection.takes_float64 and not latent
        x = as_numbers(x, "x", self._like(), torch.float64 if keeps and not has_dtype(x, self._like().dtype) else None)
        rank = len(self.shape)
        if x.ndim < rank or tuple(x.shape[x.ndim - rank :]) != self.shape:
            raise ValueError(f"expected x of shape (..., {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        leading = tuple(x.shape[: x.ndim - rank])
        if not (keeps or latent or self._rounding_seen) and has_dtype(given, torch.float64) and is_eager():
            self._rounding_seen = True
            exact = as_numbers(given, "x", x, torch.float64)
            warn_of_rounding(exact, x.detach().reshape(-1, math.prod(self.shape)))
        read = self._embedded_contexts if embed else self._contexts
        contexts, context_leading = read(context, leading)
        if contexts is not None:
            try:
                leading = tuple(torch.broadcast_shapes(leading, context_leading))
            except RuntimeError:
                raise ValueError(
                    f"the leading axes of x {tuple(x.shape)} and of {math.prod(context_leading)} contexts "
                    f"{context_leading} do not broadcast; a context that is no vector needs its shape as the flow's "
                    "context_dim"
                ) from None
            x, context_shape = x.expand(*leading, *self.shape), contexts.shape[1:]
            contexts = contexts.view(*context_leading, *context_shape).expand(*leading, *context_shape)
            contexts = contexts.reshape(math.prod(leading), *context_shape)
        return x.reshape(-1, *self.shape), contexts, leading


def initialize(flow: Flow, x: Any, context: Any = None) -> None:
    """Calls `flow.initialize(x, context)`: see `Flow.initialize`."""
    flow.initialize(x, context)


def _hidden_dtype(precision: str | None) -> torch.dtype | None:
    """The number format between hidden layers; None for that of the weights."""
    if precision is None:
        return None
    if not fast:
        raise ValueError(f"precision={precision!r} needs the fast path, which PUSHFORWARD_PLAIN switches off")
    return fast.hidden_dtype(precision)
