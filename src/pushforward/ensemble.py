"""Ensemble: several flows of one shape whose densities are averaged, p(x) = mean of p_k(x)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .flow import Flow


class Ensemble(nn.Module):
    """The mixture of flows with equal weights. `fit` trains all members at once, in batched matrix products.

    Members that agree in all but their weights, such as those of one recipe with other seeds, cost less together than
    one after another. A mixture has no latent space of its own: f and g are those of a member, `ensemble[k].f(x)`.

    Args:
        flows: at least one, all of the same layers and sizes, and none of them twice.

    Raises:
        ValueError: there is no flow, they differ in shape, or share parameters.

    Example:
        >>> from pushforward import real_nvp
        >>> ensemble = Ensemble([real_nvp(2, depth=2, width=8, seed=k) for k in range(3)])
        >>> ensemble.log_prob(torch.zeros(5, 2)).shape, ensemble.sample(4).shape
        (torch.Size([5]), torch.Size([4, 2]))
    """

    def __init__(self, flows: Sequence[Flow]) -> None:
        super().__init__()
        if not flows:
            raise ValueError("an ensemble needs at least one flow, got none")
        first, *others = (_form(flow) for flow in flows)
        for k, other in enumerate(others, 1):
            if other != first:
                raise ValueError(f"the flows of an ensemble must be of one shape: flow {k} differs from flow 0")
        tensors = [id(p) for flow in flows for p in flow.parameters()]
        if len(set(tensors)) < len(tensors):
            raise ValueError("the flows of an ensemble must not share parameters")
        self.flows = nn.ModuleList(flows)
        self.shape, self.context_dim = flows[0].shape, flows[0].context_dim
        self.recipe = _without_seed([flow.recipe for flow in flows])
        self.schema: dict[str, Any] | None = None
        self.training_summary: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.flows)

    def __getitem__(self, index: int) -> Flow:
        return cast(Flow, self.flows[index])

    def __iter__(self) -> Iterator[Flow]:
        return (cast(Flow, flow) for flow in self.flows)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The hot path: x (B, *shape), context (B, K) -> log p(x) (B,), in nats."""
        return self.mixed(torch.stack([flow(x, context) for flow in self]))

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        """Log-density of each row: x (*N, *shape), context (*N, K) or broadcast to it -> log p(x) (*N,), in nats.

        Raises:
            ValueError: x or the context has the wrong shape or device.
        """
        return self.mixed(torch.stack([flow.log_prob(x, context) for flow in self]))

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws n rows for each context, each from a member chosen at random: as `Flow.sample`."""
        first = self[0]
        contexts, leading = first._contexts(context)
        if n < 0:
            raise ValueError(f"the number of samples must be at least 0, got {n}")
        total = n * math.prod(leading)
        like = first._like()
        device = like.device if generator is None else generator.device
        chosen = torch.randint(len(self), (total,), generator=generator, device=device).to(like.device)
        x = like.new_empty(total, *self.shape)
        for k, flow in enumerate(self):
            index = (chosen == k).nonzero()[:, 0]
            if contexts is None:
                x[index] = flow.sample(len(index), generator=generator)
            elif len(index):
                x[index] = flow.sample(1, contexts[index % len(contexts)], generator=generator)[0]
        return x.view(n, *leading, *self.shape)

    @torch.no_grad()
    def sample_with_log_prob(
        self, n: int, context: Any = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, with the mixture's log-density of each row: -> x (n, *M, *shape), log p(x) (n, *M), in nats."""
        x = self.sample(n, context, generator=generator)
        return x, self.log_prob(x, context)

    @staticmethod
    def mixed(log_probs: Tensor) -> Tensor:
        """Log-densities of the members (M, *N) -> those of the mixture (*N,)."""
        return log_probs.logsumexp(0) - math.log(len(log_probs))


def _form(flow: Flow) -> object:
    """What the flows of an ensemble have in common: the kinds of their modules, and names and shapes of tensors."""
    kinds = [type(module) for module in flow.modules()]
    return flow.shape, flow.context_dim, kinds, [(name, t.shape) for name, t in flow.state_dict().items()]


def _without_seed(recipes: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The recipe of all members, whose seeds may differ; None where they have no recipe in common."""
    first, *others = (r and {**r, "arguments": {**r["arguments"], "seed": None}} for r in recipes)
    return first if all(other == first for other in others) else None
