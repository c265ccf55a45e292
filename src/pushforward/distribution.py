"""A flow, given a context, as a `torch.distributions.Distribution`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from .arguments import as_leading

if TYPE_CHECKING:
    from .flow import Flow


def _unknown(name: str, what: str, estimate: str) -> Any:
    """A method for what has no closed form, which says how to estimate it."""

    def unknown(self: FlowDistribution, *_: Any) -> NoReturn:
        """Not known in closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"a flow has no closed form of its {what}: estimate it from samples, {estimate}")

    unknown.__name__, unknown.__qualname__ = name, f"FlowDistribution.{name}"
    return unknown


class FlowDistribution(Distribution):
    """What `Flow.distribution` returns: the flow given contexts (*M, K), or none.

    Args:
        flow: of which the rows are.
        context: (*M, *context shape), or None.
        batch_shape: *M.
    """

    arg_constraints = {}  # noqa: RUF012  # type: ignore[assignment]  # the form torch.distributions asks for

    def __init__(self, flow: Flow, context: Tensor | None, batch_shape: Sequence[int]) -> None:
        self._flow, self._context = flow, context
        self.has_rsample = flow.base.has_rsample
        super().__init__(torch.Size(batch_shape), torch.Size(flow.shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: int | Sequence[int], _instance: Any = None) -> FlowDistribution:
        """The same density for each place of a larger batch shape.

        Raises:
            ValueError: it is no batch shape that the own one can be expanded to.
        """
        batch_shape, context = as_leading(batch_shape), self._context
        own = tuple(self.batch_shape)
        pairs = zip(own[::-1], batch_shape[::-1], strict=False)
        if len(batch_shape) < len(own) or any(size not in (1, wanted) for size, wanted in pairs):
            raise ValueError(f"a distribution of batch shape {own} cannot be expanded to {batch_shape}")
        if context is not None:
            context = context.expand(*batch_shape, *context.shape[len(self.batch_shape) :])
        return FlowDistribution(self._flow, context, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each row, in nats; see `Flow.log_prob`."""
        log_prob = self._flow.log_prob(value, self._context)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def sample(self, sample_shape: int | Sequence[int] = ()) -> Tensor:
        """Rows (*sample_shape, *batch_shape, *event_shape)."""
        return self._shaped(self._flow.sample, sample_shape)

    def rsample(self, sample_shape: int | Sequence[int] = ()) -> Tensor:
        """As `sample`, with gradients."""
        return self._shaped(self._flow.rsample, sample_shape)

    mean: Any = property(_unknown("mean", "mean", "sample(n).mean(0)"))
    variance: Any = property(_unknown("variance", "variance", "sample(n).var(0)"))
    mode: Any = property(_unknown("mode", "mode", "the row of sample(n) with the highest log_prob"))
    cdf = _unknown("cdf", "distribution function", "the share of sample(n) below the value")
    icdf = _unknown("icdf", "quantiles", "sample(n).quantile(q, 0)")
    entropy = _unknown("entropy", "entropy", "-log_prob(sample(n)).mean()")

    def enumerate_support(self, expand: bool = True) -> NoReturn:
        """There is no end of its values.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a flow is over real numbers, which cannot be enumerated")

    def _shaped(self, draw: Any, sample_shape: int | Sequence[int]) -> Tensor:
        shape = torch.Size(as_leading(sample_shape))
        places = 1 if self._context is not None else math.prod(self.batch_shape)
        return draw(math.prod(shape) * places, self._context).view(*shape, *self.batch_shape, *self.event_shape)


def _no_divergence(p: Distribution, q: Distribution) -> NoReturn:
    raise NotImplementedError(
        "the divergence from or to a flow has no closed form: estimate it from samples x of p as "
        "(p.log_prob(x) - q.log_prob(x)).mean()"
    )


register_kl(FlowDistribution, FlowDistribution)(_no_divergence)
register_kl(FlowDistribution, Distribution)(_no_divergence)
register_kl(Distribution, FlowDistribution)(_no_divergence)
