"""What flows do with a context: find its axes, embed it, check that it fits and that a layer reads it."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor, nn

from .arguments import as_numbers, first_floating, has_dtype, possible_ranks, split_contexts
from .bases import Base
from .bijections import Bijection, reads_context, warn_of_rounding
from .chunks import map_rows
from .density import Density, Tensors
from .switch import is_eager


class Conditional(Density, ABC):
    """The part of `Flow` that knows contexts.

    Attributes:
        space: whose `context_rank` is how many axes one context has.
        shape: of one x.
        bijection: which reads the embedded context.
        base: the density of z.
        embed: a module applied to the context before the bijection sees it, or None.
        context_dim: K, the shape of one context, or None for any.
    """

    space: Tensors  # type: ignore[assignment]  # never another one than of tensors
    shape: tuple[int, ...]
    bijection: Bijection
    base: Base
    embed: nn.Module | None
    context_dim: int | tuple[int, ...] | None
    _context_rank_seen = False  # whether the contexts' number of axes was found out
    _reads_context = False  # whether a layer was seen to
    _context_rounding_seen = False  # whether contexts in float64 were looked at

    def note_context(self, context: Any) -> None:
        """Finds out how many axes one context has, where the embedding alone can tell."""
        self._contexts(context)

    def _embedded(self, context: Tensor | None) -> Tensor | None:
        """Contexts (B, K), checked -> (B, K'), what the bijection sees."""
        self._check_context(context)
        return context if context is None or self.embed is None else self.embed(context)

    def _check_context(self, context: Tensor | None) -> None:
        wanted = (self.context_dim,) if isinstance(self.context_dim, int) else self.context_dim
        got = (0,) if context is None else tuple(context.shape[1:])
        if wanted is None or got == wanted or (context is None and wanted == (0,)):
            return
        raise ValueError(f"expected {_in_words(wanted)}, got {_in_words(got)}")

    def _contexts(
        self, context: Any, x_leading: tuple[int, ...] | None = None
    ) -> tuple[Tensor | None, tuple[int, ...]]:
        """context (*M, K) -> (M, K), the leading axes *M."""
        if context is None:
            return None, ()
        context = self._as_numbers(context)
        if len(self._ranks(context, x_leading)) > 1:
            with torch.no_grad():
                self._embedded_contexts(context, x_leading)
        return split_contexts(context, self.space.context_rank)

    def _as_numbers(self, context: Any) -> Tensor:
        """A context in the dtype of the flow, or in its own float64 where the embedding maps that first."""
        reference = self._like()
        is_other, keeps = not has_dtype(context, reference.dtype), getattr(self.embed, "takes_float64", False)
        numbers = as_numbers(context, "context", reference, torch.float64 if keeps and is_other else None)
        if not (keeps or self._context_rounding_seen) and has_dtype(context, torch.float64) and is_other and is_eager():
            self._context_rounding_seen = True
            if numbers.ndim > 1:
                exact = as_numbers(context, "context", reference, torch.float64)
                warn_of_rounding(exact, numbers.detach().flatten(0, -2), "contexts")
        return numbers

    def _embedded_contexts(
        self, context: Any, x_leading: tuple[int, ...] | None = None
    ) -> tuple[Tensor | None, tuple[int, ...]]:
        """context (*M, K) -> (M, K'), the leading axes *M; x_leading, those of the rows, help to tell the axes."""
        if context is None:
            return self._embedded_in_chunks(None), ()
        context, failure = self._as_numbers(context), None
        ranks = self._ranks(context, x_leading)
        for rank in ranks:
            contexts, leading = split_contexts(context, rank)
            try:
                embedded = self._embedded_in_chunks(contexts)
            except Exception as error:  # an embedding may raise anything
                if len(ranks) == 1:
                    raise
                failure = failure or error
                continue
            if len(ranks) == 1 or (embedded is not None and embedded.shape[:-1] == (len(contexts),)):
                self.note_rank(rank)
                self._check_reader(embedded)
                return embedded, leading
        raise ValueError(
            f"the flow's embed turns no part of a context of shape {tuple(context.shape)} into vectors (B, K'): "
            f"{failure or 'it gave another number of axes'}"
        ) from failure

    def _ranks(self, context: Tensor, x_leading: tuple[int, ...] | None) -> list[int]:
        """How many axes one context may have, likeliest first; more than one where only the embedding can tell."""
        if self.embed is None or self.context_dim is not None or self._context_rank_seen or context.ndim < 2:
            return [self.space.context_rank]
        return possible_ranks(tuple(context.shape), x_leading)

    @property
    def context_rank_found(self) -> int | None:
        """How many axes one context has, where the embedding alone could tell and did; None elsewhere."""
        return self.space.context_rank if self._context_rank_seen else None

    def note_rank(self, rank: int) -> None:
        """Records how many axes one context has, where that is not yet known."""
        if self.embed is not None and self.context_dim is None and not self._context_rank_seen:
            self.space.context_rank, self._context_rank_seen = rank, True

    def _embedded_in_chunks(self, contexts: Tensor | None) -> Tensor | None:
        """As `_embedded`, for any number of contexts."""
        if contexts is None or self.embed is None:
            return self._embedded(contexts)
        (embedded,) = map_rows(lambda part, _: (cast(Tensor, self._embedded(part)),), contexts, module=self.embed)
        return embedded

    def _check_reader(self, embedded: Tensor | None) -> None:
        """Raises ValueError, at the first context, if no layer reads it: the flow would be an unconditional one."""
        if embedded is None or self._reads_context or not is_eager() or not len(embedded):
            return
        row = torch.zeros(1, *self.shape, dtype=embedded.dtype, device=embedded.device)
        if not reads_context(self.bijection, row, embedded[:1]):
            raise ValueError(
                f"a context of shape {tuple(embedded.shape[1:])} came, but no layer of this flow reads one: give the "
                "layers' networks a context_dim, or leave the context out"
            )
        self._reads_context = True

    def _without_overflow(self, log_prob: Tensor, rows: Tensor, embedded: Tensor | None) -> Tensor:
        """log_prob (B,), -inf in place of NaN where rows, contexts and weights are finite: then numbers overflowed.

        With gradients on a GPU nothing is looked at, which would wait for it.
        """
        waits = log_prob.device.type != "cpu" and log_prob.requires_grad
        if waits or log_prob.is_meta or not is_eager() or not bool(log_prob.isnan().any()):
            return log_prob
        if not all(bool(t.isfinite().all()) for t in (*self.parameters(), *self.buffers())):
            return log_prob
        is_finite = ~rows.flatten(1).isnan().any(1)
        if embedded is not None:
            is_finite &= ~embedded.flatten(1).isnan().any(1)
        return log_prob.masked_fill(log_prob.isnan() & is_finite, -math.inf)

    def _check_can_change(self) -> None:
        """Raises ValueError where the flow was built in inference mode, outside of which it cannot be changed."""
        if not torch.is_inference_mode_enabled() and any(t.is_inference() for t in self.state_dict().values()):
            raise ValueError("the flow was built within torch.inference_mode(), and cannot change: build it outside")

    def _like(self) -> Tensor:
        """A tensor with the dtype and device of the flow."""
        return first_floating(self.parameters(), self.base.buffers(), self.buffers())


def as_context_dim(context_dim: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    """The width of contexts, or their shape as a tuple of integers; None for any."""
    if context_dim is None:
        return None
    return int(context_dim) if isinstance(context_dim, Integral) else tuple(map(int, cast(Sequence[int], context_dim)))


def _in_words(shape: tuple[int, ...]) -> str:
    return "no context" if shape == (0,) else f"a context of shape ({', '.join(map(str, ('N', *shape)))})"
