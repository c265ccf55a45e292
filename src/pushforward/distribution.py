"""A flow as a `torch.distributions.Distribution`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

if TYPE_CHECKING:
    from .flow import Flow


class FlowDistribution(Distribution):
    """What `Flow.distribution` returns: the flow given one context (*M, K), or none."""

    arg_constraints = {}  # noqa: RUF012  # type: ignore[assignment]  # the form torch.distributions asks for

    def __init__(self, flow: Flow, context: Tensor | None, batch_shape: tuple[int, ...]) -> None:
        self._flow, self._context = flow, context
        self.has_rsample = flow.base.has_rsample
        super().__init__(torch.Size(batch_shape), torch.Size(flow.shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each row, in nats; see `Flow.log_prob`."""
        return self._flow.log_prob(value, self._context)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Rows of the given leading shape."""
        x = self._flow.sample(math.prod(sample_shape), self._context)
        return x.view(*sample_shape, *self.batch_shape, *self.event_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """As `sample`, with gradients."""
        x = self._flow.rsample(math.prod(sample_shape), self._context)
        return x.view(*sample_shape, *self.batch_shape, *self.event_shape)
