"""A flow, given a context, as a `torch.distributions.Distribution`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

if TYPE_CHECKING:
    from .flow import Flow


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

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> FlowDistribution:
        """The same density for each place of a larger batch shape."""
        context = self._context
        if context is not None:
            context = context.expand(*batch_shape, *context.shape[len(self.batch_shape) :])
        return FlowDistribution(self._flow, context, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each row, in nats; see `Flow.log_prob`."""
        log_prob = self._flow.log_prob(value, self._context)
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Rows (*sample_shape, *batch_shape, *event_shape)."""
        return self._shaped(self._flow.sample, sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """As `sample`, with gradients."""
        return self._shaped(self._flow.rsample, sample_shape)

    def cdf(self, value: Tensor) -> NoReturn:
        """Not known in closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a flow's distribution function has no closed form: count samples below the value")

    def icdf(self, value: Tensor) -> NoReturn:
        """Not known in closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a flow's quantiles have no closed form: take those of samples, sample(n).quantile(q)"
        )

    def entropy(self) -> NoReturn:
        """Not known in closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a flow's entropy has no closed form: estimate it as -log_prob(sample(n)).mean()")

    def _shaped(self, draw: Any, sample_shape: Sequence[int]) -> Tensor:
        shape = torch.Size(sample_shape)
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
