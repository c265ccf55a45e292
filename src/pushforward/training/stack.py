"""Stacking: simple densities beside the flow of few rows, with the weights that held-out rows give them.

Few rows do not tell a flow what it needs to know, and a Gaussian may be nearer to the truth; which of them is, the rows
that stopped the flow's training say (Smyth and Wolpert 1999, "Linearly combining density estimators via stacking").
Rows of tables and of arrays are stacked alike: as M states, then C numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ..baselines import Baseline, fit_baselines
from ..density import Density
from ..mixture import Mixture

FEW_ROWS = 5000  # up to which rows are stacked
STACK_FRACTION = 0.2  # of the rows, held out: they stop the flow and give the weights
_SHARE, _MOST = 0.25, 0.375  # of the time given: when no further simple density is begun, when they are fitted once
_MORE = 1.5  # times as long as fitting simple densities to the training rows takes fitting them to all
_ROUNDS = 200
_LEAST_WEIGHT = 0.005  # a smaller one is dropped; of few rows none is, for a small weight insures against a far row
_PRIOR = 1.0  # pseudo-count of equal weights, in rows, for all densities together


class Stack:
    """Simple densities of some rows, to be mixed with a density that is trained on the same rows.

    Args:
        x: (N, M + C), M states, then C numbers, NaN where there is none.
        context: (N, G), or None.
        val: (V, M + C), rows that are held out.
        val_context: (V, G), or None.
        seed: of the fits.
        val_noise: (V, C) of the unit interval, for what a density fills in the held-out rows; None for nothing.
        sizes: the number of states of the M columns.
        context_sizes: the number of states of the first columns of the context.
        seconds: that all of the fit is given, in a quarter of which simple densities are fitted; None for all of them.

    Attributes:
        mixing_seconds: about what `mixed_with` takes.
    """

    def __init__(
        self, x: Tensor, context: Tensor | None, val: Tensor, val_context: Tensor | None, seed: int, *,
        val_noise: Tensor | None = None, sizes: Sequence[int] = (), context_sizes: Sequence[int] = (),
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        began = time.perf_counter()
        self._val, self._val_context, self._val_noise = val, val_context, val_noise
        self._x = torch.cat([x, val])
        self._context = None if context is None or val_context is None else torch.cat([context, val_context])
        self._sizes, self._context_sizes, self._seed = sizes, context_sizes, seed
        self._simple = self._fit(x, context, None, None if seconds is None else _SHARE * seconds)
        took = time.perf_counter() - began
        self._refits = seconds is None or took <= _MOST * seconds
        self.mixing_seconds = _MORE * took if self._refits else 0.0

    def _fit(
        self, x: Tensor, context: Tensor | None, names: Sequence[str] | None, seconds: float | None = None
    ) -> dict[str, Baseline]:
        return fit_baselines(
            x, self._sizes, context, self._seed, context_sizes=self._context_sizes, names=names, seconds=seconds
        )  # fmt: skip

    @torch.no_grad()
    def mixed_with(self, inner: Density) -> tuple[Density, dict[str, float]]:
        """A trained density, mixed with simple ones where held-out rows favour them.

        Args:
            inner: over rows (B, M + C), trained on x.

        Returns:
            the mixture, whose simple densities are fitted to all rows if there is time, or `inner` itself where none of
            them is worth it; the weights by name.
        """
        settings = {"noise": self._val_noise} if inner.takes_noise and self._val_noise is not None else {}
        own = inner.log_prob(self._val, self._val_context, **settings).double()
        scores = {n: d.log_prob(self._val, self._val_context).double() for n, d in self._simple.items()}
        simple = [name for k, name in enumerate(scores) if not _is_among(scores[name], list(scores.values())[:k])]
        weights = mixing_weights(torch.stack([own.cpu(), *(scores[name] for name in simple)]))
        kept = {name: w for name, w in zip(simple, weights[1:].tolist(), strict=True) if w >= _LEAST_WEIGHT}
        every = self._fit(self._x, self._context, list(kept)) if kept and self._refits else self._simple
        kept = {name: w for name, w in kept.items() if name in every}
        if not kept:
            return inner, {"flow": 1.0}
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
    finite = log_probs.nan_to_num(nan=-1e6).clamp(min=-1e6)
    for _ in range(_ROUNDS):
        owner = (finite + weights.log()[:, None]).softmax(0)
        weights = (owner.sum(1) + _PRIOR / count) / (log_probs.shape[1] + _PRIOR)
    return weights
