"""Training steps of densities that differ in their weights alone: gradients by hand where there is a rule, else by
autograd, and one fused AdamW over all weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...density import Density
from ...flow import Flow
from .by_hand import GradientsByHand, has_rules
from .graphs import Recorded
from .weights import FlatWeights

if TYPE_CHECKING:
    from ...training.settings import TrainSettings


class Rows(Protocol):
    """A batch: x (M, B, *shape), context (M, B, ...), weights (M, B); without the axis of members if M is 1."""

    x: Tensor
    context: Tensor | None
    weights: Tensor | None

    def __getitem__(self, index: int) -> Rows: ...


class FusedAdamW(FlatWeights):
    """AdamW over densities, with losses and gradients of a batch.

    Args:
        densities: M that differ in their weights alone.
        learners: what adds the gradients of a batch of each, by autograd, and gives its loss.
        settings: complete ones.
        by_hand: whether the losses are mean negative log-likelihoods, for which there are rules by hand.
        recordable: whether the losses depend on nothing but the weights and the batch.
    """

    def __init__(
        self,
        densities: Sequence[Density],
        learners: Sequence[Callable[..., Tensor]],
        settings: TrainSettings,
        by_hand: bool,
        recordable: bool = False,
    ) -> None:
        super().__init__(densities, settings)
        flows = [density for density in densities if isinstance(density, Flow)]
        self._learners = learners
        self._by_hand = None
        if by_hand and len(flows) == len(densities) and has_rules(flows):
            self._by_hand = GradientsByHand(flows, self)
        self._losses = Recorded(self._called) if recordable and self.flat.is_cuda else self._called

    def losses(self, batch: Rows) -> Tensor:
        """-> (M,), and overwrites the gradients."""
        return self._losses(batch)

    def _called(self, batch: Rows) -> Tensor:
        if self._by_hand is not None:
            return self._by_hand(batch.x, batch.context, batch.weights).view(-1)
        self.gradient.zero_()
        # Each adds to the parameters' views of the flat gradient while that is still in cache.
        only = len(self._learners) == 1
        return torch.stack([learn(batch if only else batch[k]) for k, learn in enumerate(self._learners)])


def fused(
    densities: Sequence[Density],
    learners: Sequence[Callable[..., Tensor]],
    settings: TrainSettings,
    *,
    by_hand: bool,
    recordable: bool = False,
) -> list[FusedAdamW] | None:
    """Densities that differ in their weights alone together, others one by one; arguments as of `FusedAdamW`.

    Returns:
        None where a density has parameters of several dtypes or on several devices.
    """
    together = _differ_in_weights_alone(densities)
    groups = [range(len(densities))] if together else [[k] for k in range(len(densities))]
    for group in groups:
        kinds = {(p.dtype, p.device) for k in group for p in densities[k].parameters() if p.requires_grad}
        if len(kinds) > 1:
            return None
    return [
        FusedAdamW([densities[k] for k in group], [learners[k] for k in group], settings, by_hand, recordable)
        for group in groups
    ]


def _differ_in_weights_alone(densities: Sequence[Density]) -> bool:
    """Whether densities have trainable parameters of the same names, shapes and dtypes, in one order."""
    names = [
        [(name, p.shape, p.dtype, p.device) for name, p in density.named_parameters() if p.requires_grad]
        for density in densities
    ]
    kinds = [[type(module) for module in density.modules()] for density in densities]
    return all(n == names[0] for n in names) and all(k == kinds[0] for k in kinds)
