"""What a training lowers: an objective takes a density and a batch, and gives one number.

Example:
    The reverse Kullback-Leibler divergence to a target that is known up to a constant draws its own rows:

    >>> from pushforward import real_nvp, train
    >>> def reverse_kl(density, batch):
    ...     z = density.base.sample(len(batch))
    ...     x, log_det = density.bijection.inverse(z)
    ...     return (density.base.log_prob(z) - log_det + x.square().sum(1)).mean()
    >>> flow = real_nvp(2, depth=2, width=8, seed=0)
    >>> records = list(train(flow, steps=10, objective=reverse_kl))
    >>> records[-1].step
    10
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..density import Density


@dataclass
class Batch:
    """Rows that belong together.

    Attributes:
        x: (B, *shape), in data units; (B, 0) where a training has no data.
        context: (B, ...) or None.
        weights: (B,), not negative, of mean 1 over all rows; None for equal ones.
    """

    x: Tensor
    context: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Some of the rows; or, where there is a leading axis of members, those of one or some of the members."""
        context, weights = (None if t is None else t[index] for t in (self.context, self.weights))
        return Batch(self.x[index], context, weights)

    def mean(self, values: Tensor) -> Tensor:
        """mean(weight * value), an estimate of the weighted mean over all rows: values (..., B) -> (...).

        The weights have mean 1 over all rows, not over those of the batch.
        """
        return (values if self.weights is None else values * self.weights).mean(-1)


Objective = Callable[[Density, Batch], Tensor]
"""The loss of a batch: a tensor of one number, whose gradient trains the density's parameters."""


def one_number(value: Tensor) -> Tensor:
    """Checks what an objective returned: a tensor of one number, of any number of axes -> ().

    Raises:
        ValueError: it is no tensor, or one of more or fewer numbers.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the objective must return a tensor of one number, got {got}")
    return value.reshape(()) if value.ndim else value


def learn(loss: Tensor) -> Tensor:
    """Adds the gradients of a loss () to those of its parameters -> the loss, without a graph.

    One that depends on no parameter, such as that of volume-preserving layers before a uniform base, has none to add.
    """
    if loss.requires_grad:
        loss.backward()
    return loss.detach()


def negative_log_likelihood(density: Density, batch: Batch) -> Tensor:
    """The mean of -log p(x) over the rows, in nats a row: maximum likelihood. -> ()."""
    return -batch.mean(density(batch.x, batch.context))


@torch.no_grad()
def evaluate(
    metric: Objective, density: Density, batch: Batch, with_gradients: bool = False
) -> tuple[float, list[float]]:
    """-> the metric of a density on validation rows, and of each of its members; some take gradients in the rows.

    Raises:
        ValueError: the metric is not one number.
    """
    if metric is negative_log_likelihood:  # a mixture needs its members' densities once, and `log_prob` works in chunks
        log_probs = torch.stack([member.log_prob(batch.x, batch.context) for member in density.members])
        return float(-batch.mean(density.combine(log_probs))), (-batch.mean(log_probs)).tolist()
    densities = [density] if len(density.members) == 1 else [density, *density.members]
    with torch.set_grad_enabled(with_gradients):
        results = [metric(each, batch) for each in densities]
    values = [float(one_number(v if v is None else torch.as_tensor(v)).detach()) for v in results]
    return values[0], values[1:] or values
