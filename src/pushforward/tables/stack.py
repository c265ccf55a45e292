"""Stacking: simple densities beside the flow of few rows, with the weights that held-out rows give them.

Few rows do not tell a flow what it needs to know, and a Gaussian may be nearer to the truth; which of them is, the rows
that stopped the flow's training say (Smyth and Wolpert 1999, "Linearly combining density estimators via stacking").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..baselines import fit_baselines
from ..density import Density
from ..mixture import Mixture

FEW_ROWS = 5000  # up to which a table is stacked
_ROUNDS = 200
_LEAST = 0.005  # a smaller weight is dropped
_PRIOR = 1.0  # row, that all densities are thought to have shared beforehand


@torch.no_grad()
def stacked(
    inner: Density,
    x: Tensor,
    context: Tensor | None,
    val: Tensor,
    val_context: Tensor | None,
    noise: Tensor,
    seed: int,
    context_sizes: Sequence[int] = (),
) -> tuple[Density, dict[str, float]]:
    """A trained density, mixed with simple ones where held-out rows favour them.

    Args:
        inner: over rows (B, M + C), trained on x.
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        context: (N, G), or None.
        val: (V, M + C), rows that `inner` was not trained on.
        val_context: (V, G), or None.
        noise: (V, C) of the unit interval, for what `inner` fills.
        seed: of the fits.
        context_sizes: the number of states of the first columns of the context.

    Returns:
        the mixture, whose simple densities are fitted to all rows, or `inner` itself where none of them is worth it;
        the weights by name.
    """
    sizes = inner.space.sizes
    fitted = fit_baselines(x, sizes, context, seed, context_sizes=context_sizes)
    settings = {"noise": noise} if inner.takes_noise else {}
    own = inner.log_prob(val, val_context, **settings).double()
    scores = {name: density.log_prob(val, val_context).double() for name, density in fitted.items()}
    simple = [name for k, name in enumerate(scores) if not _is_among(scores[name], list(scores.values())[:k])]
    weights = mixing_weights(torch.stack([own, *(scores[name] for name in simple)]))
    kept = {name: w for name, w in zip(simple, weights[1:].tolist(), strict=True) if w >= _LEAST}
    if not kept:
        return inner, {"flow": 1.0}
    contexts = None if context is None or val_context is None else torch.cat([context, val_context])
    every = fit_baselines(torch.cat([x, val]), sizes, contexts, seed, context_sizes=context_sizes)
    kept = {name: w for name, w in kept.items() if name in every}
    shares = [float(weights[0]), *kept.values()]
    total = sum(shares)
    mixture = Mixture([inner, *(every[name] for name in kept)], shares)
    return mixture, {"flow": shares[0] / total} | {name: w / total for name, w in kept.items()}


def _is_among(scores: Tensor, others: list[Tensor]) -> bool:
    """Whether a density is one of others, as a Gaussian mixture of one component is a Gaussian."""
    return any(torch.allclose(scores, other, rtol=1e-3, atol=1e-3) for other in others)


def mixing_weights(log_probs: Tensor) -> Tensor:
    """Log-densities (K, V) of held-out rows -> the weights (K,) of the likeliest mixture, by EM, with a weak prior.

    Example:
        >>> mixing_weights(torch.tensor([[0.0, 0.0, 0.0], [-9.0, -9.0, -9.0]]))
        tensor([0.8750, 0.1250])
    """
    count = len(log_probs)
    weights = log_probs.new_full((count,), 1 / count)
    finite = log_probs.clamp(min=-1e6)
    for _ in range(_ROUNDS):
        owner = (finite + weights.log()[:, None]).softmax(0)
        weights = (owner.sum(1) + _PRIOR / count) / (log_probs.shape[1] + _PRIOR)
    return weights
