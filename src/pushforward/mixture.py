"""Mixture: several densities over one space, each with a weight."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .arguments import as_generator
from .density import Density, InnerFlow, Space
from .fixed_start import FixedStart

if TYPE_CHECKING:
    from .flow import Flow


class Mixture(Density):
    """sum_k w_k p_k(x), for densities of any make over one space.

    Args:
        densities: at least one; of tensors all of one shape. They must not share parameters.
        weights: (M,), not negative, scaled to sum to 1; equal when None. They are a buffer: no gradient trains them.

    Raises:
        ValueError: there is no density, they are over different spaces, or the weights do not fit.

    Example:
        >>> from pushforward import Flow, Chain
        >>> mixture = Mixture([Flow(Chain(), 2), Flow(Chain(), 2)], weights=[0.25, 0.75])
        >>> mixture.log_prob(torch.zeros(3, 2)), mixture.sample(4).shape
        (tensor([-1.8379, -1.8379, -1.8379]), torch.Size([4, 2]))
    """

    weights: Tensor

    def __init__(self, densities: Sequence[Density], weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        if not densities:
            raise ValueError("a mixture needs at least one density, got none")
        for k, density in enumerate(densities):
            if not isinstance(density, Density):
                raise ValueError(f"a mixture is of densities: number {k} is a {type(density).__name__}")
            if not density.space.matches(densities[0].space):
                raise ValueError(f"the densities of a mixture must be over one space: number {k} differs from number 0")
        tensors = [id(p) for density in densities for p in density.parameters()]
        if len(set(tensors)) < len(tensors):
            raise ValueError("the densities of a mixture must not share parameters")
        values = torch.as_tensor([1.0] * len(densities) if weights is None else weights, dtype=torch.float64)
        if values.shape != (len(densities),):
            raise ValueError(f"expected {len(densities)} weights, got shape {tuple(values.shape)}")
        if values.device.type != "meta" and not (bool((values >= 0).all()) and 0 < float(values.sum()) < math.inf):
            raise ValueError(f"weights must be finite and not negative, nor all zero, got {values.tolist()}")
        self.densities = nn.ModuleList(densities)
        self.register_buffer("weights", values / values.sum())  # float64, whatever the densities are

    @property
    def space(self) -> Space:  # type: ignore[override]
        """The space of its densities."""
        return self[0].space

    @property
    def unsampled(self) -> float:  # type: ignore[override]
        """The mean over its densities."""
        return float(sum(w * d.unsampled for w, d in zip(self.weights.tolist(), self, strict=True)))

    @property
    def takes_noise(self) -> bool:  # type: ignore[override]
        """Whether any of its densities does."""
        return any(density.takes_noise for density in self)

    @property
    def members(self) -> list[Density]:
        """Its densities, in order."""
        return list(self)

    def initialize(self, x: Any, context: Any = None) -> None:
        """Each of its densities', from the same batch."""
        for density in self:
            density.initialize(x, context)

    def fixed_start(self) -> FixedStart | None:
        """That of its densities, if it is the same map of rows for all of them."""
        starts = [start for density in self if (start := density.fixed_start()) is not None]
        if len(starts) < len(self) or not all(start.is_same_map(starts[0]) for start in starts):
            return None
        return starts[0]._replace(rest=Mixture([start.rest for start in starts], self.weights))

    def __len__(self) -> int:
        return len(self.densities)

    def __getitem__(self, index: int) -> Density:
        return cast(Density, self.densities[index])

    def __iter__(self) -> Iterator[Density]:
        return (cast(Density, density) for density in self.densities)

    def log_prob(self, x: Any, context: Any = None, **settings: Any) -> Tensor:
        """Log-density of each row, in nats: x (N, ...) -> (N,); settings are those of every density's `log_prob`.

        Raises:
            ValueError: as the densities' own.
        """
        if settings.get("precision") is not None:
            return self._rounded(x, context, settings)
        without_noise = {name: value for name, value in settings.items() if name != "noise"}
        return self.combine(
            torch.stack([d.log_prob(x, context, **(settings if d.takes_noise else without_noise)) for d in self])
        )  # fmt: skip

    def _rounded(self, x: Any, context: Any, settings: dict[str, Any]) -> Tensor:
        """As `log_prob`, with rounded products where there are some: one warning of them tells enough."""
        parts = []
        others = {name: value for name, value in settings.items() if name not in ("precision", "noise")}
        for k, density in enumerate(self):
            with warnings.catch_warnings():
                if k > 0:
                    warnings.filterwarnings("ignore", "precision='bf16'")
                is_rounded = "precision" in inspect.signature(density.log_prob).parameters or len(density.members) > 1
                parts.append(density.log_prob(x, context, **(settings if is_rounded else others)))
        return self.combine(torch.stack(parts))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The hot path: x (B, *shape), context (B, K) -> log p(x) (B,), in nats."""
        return self.combine(torch.stack([density(x, context) for density in self]))

    def latent(self, x: Any, context: Any = None, **settings: Any) -> Tensor | None:
        """None, for there are several latent spaces; that of its density where it has but one."""
        return self[0].latent(x, context, **settings) if len(self) == 1 else None

    def inner_flows(self, x: Any, context: Any = None) -> list[InnerFlow]:
        """Those of its densities, in order."""
        return [flow for density in self for flow in density.inner_flows(x, context)]

    def combine(self, log_probs: Tensor) -> Tensor:
        """Log-densities of its members (M, *N) -> those of the mixture (*N,)."""
        weights = self.weights.double()  # in the dtype of a model they sum to 1 but for rounding
        log_weights = (weights / weights.sum()).log().to(log_probs)
        return (log_probs + log_weights.view(-1, *[1] * (log_probs.ndim - 1))).logsumexp(0)

    @torch.no_grad()
    def sample(
        self, n: int | Sequence[int], context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> Any:
        """Draws n rows, or n for each context, each of a density chosen by the weights.

        Raises:
            ValueError: n is negative, or as the densities' own.
        """
        self.note_context(context)
        contexts, index, count = self.space.index_contexts(n, context)
        rows = self._draw(count, index, contexts, generator)
        return self.space.unflatten_samples(rows, n, context)

    def sample_at(
        self, index: NDArray[np.int64], contexts: Any, *, generator: torch.Generator | int | None = None
    ) -> Any:
        """Draws a row for each of some contexts: index (N,) of M contexts -> N rows of the space."""
        return self._draw(len(index), index, contexts, generator)

    def note_context(self, context: Any) -> None:
        """Finds out how many axes one context has, where that is open."""
        self[0].note_context(context)

    @torch.no_grad()
    def _draw(
        self, count: int, index: NDArray[np.int64], contexts: Any, generator: torch.Generator | int | None
    ) -> Any:
        """So many rows, of contexts by their numbers (N,) where there are any."""
        generator = as_generator(generator, self.weights.device)
        device = self.weights.device if generator is None else generator.device
        weights = self.weights.to(device, torch.get_default_dtype())
        chosen = (
            torch.multinomial(weights, count, replacement=True, generator=generator) if count else weights[:0].long()
        )
        parts, order = [], []
        for k, density in enumerate(self):
            rows = (chosen == k).nonzero()[:, 0].cpu().numpy()
            parts.append(  # of no rows, too: each density has a dtype
                self.space.flatten_samples(density.sample(len(rows), generator=generator))
                if contexts is None
                else density.sample_at(index[rows], contexts, generator=generator)
            )
            order.append(rows)
        return self.space.join(parts)[np.concatenate(order).argsort()]

    @torch.no_grad()
    def sample_with_log_prob(
        self, n: int | Sequence[int], context: Any = None, *, generator: torch.Generator | int | None = None
    ) -> tuple[Any, Tensor]:
        """As `sample`, with the mixture's log-density of each row, in nats."""
        x = self.sample(n, context, generator=generator)
        return x, self.log_prob(x, context)


def averaged(flows: Sequence[Flow]) -> Flow | Mixture:
    """The only flow, or the `Ensemble` of several."""
    return flows[0] if len(flows) == 1 else Ensemble(flows)


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
