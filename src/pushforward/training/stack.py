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
from .objective import Batch
from .progress import Fit

FEW_ROWS = 5000  # up to which rows are stacked
STACK_FRACTION = 0.2  # of the rows, held out: they stop the flow and give the weights
_SHARE, _MOST = 0.25, 0.375  # of the time given: when no further simple density is begun, when they are fitted once
_MORE = 1.5  # times as long as fitting simple densities to the training rows takes fitting them to all
_HALVED_ROWS = 1000  # up to which the simple densities are cross-validated
_ROUNDS = 200
_LEAST = -1e6  # below which log-densities are clamped
_LEAST_WEIGHT = 0.005  # a smaller one is dropped; of few rows none is, for a small weight insures against a far row
_PRIOR = 1.0  # pseudo-count of equal weights, in rows, for all simple densities together
_PRIOR_BESIDE_FLOW = 4.0  # likewise, with the flow, whose scores of `val` are optimistic: its training stopped by them


def is_stacked(asked: bool | None, rows: int, problem: str | None) -> bool:
    """Whether simple densities are mixed with a flow: where it was asked for, or for at most 5,000 rows.

    Args:
        asked: None leaves it open.
        rows: how many there are.
        problem: why simple densities cannot be fitted to them, or None.

    Raises:
        ValueError: `asked` is neither True, False nor None, or it is True and there is a problem.
    """
    if asked is not None and not isinstance(asked, bool):
        raise ValueError(f"stack must be True, False or None, got {asked!r}")
    if asked and problem:
        raise ValueError(f"rows cannot be stacked: {problem}")
    return problem is None and (rows <= FEW_ROWS if asked is None else asked)


class Stack:
    """Simple densities of some rows, to be mixed with a density that is trained on the same rows.

    The simple densities of the mixture are fitted to all rows, `val` as well, and with few rows a larger training set
    makes them clearly better. Their weights therefore come from a two-fold cross-validation on `val`: each half is
    scored by densities fitted to `rows` and the other half. With more than 1,000 rows, or too little time, all of `val`
    is scored by densities fitted to `rows` alone. A second step weighs the trained density against their mixture.

    Args:
        rows: x (N, M + C), M states, then C numbers, NaN where there is none; context (N, G), or None.
        val: x (V, M + C) and context (V, G), rows that are held out.
        seed: of the fits.
        val_noise: (V, C) of the unit interval, for what a density fills in the held-out rows; None for nothing.
        sizes: the number of states of the M columns.
        context_sizes: the number of states of the first columns of the context.
        seconds: of the whole fit, after a quarter of which no further simple density is begun; None fits all of them.

    Attributes:
        mixing_seconds: about what `mixed_with` takes.
    """

    def __init__(
        self, rows: Batch, val: Batch, seed: int, *, val_noise: Tensor | None = None, sizes: Sequence[int] = (),
        context_sizes: Sequence[int] = (), seconds: float | None = None,
    ) -> None:  # fmt: skip
        began = time.perf_counter()
        self._rows, self._val, self._val_noise = _on_cpu(rows), _on_cpu(val), val_noise
        self._sizes, self._context_sizes, self._seed = sizes, context_sizes, seed
        self._all = _joined(self._rows, self._val)
        self._simple = self._fit(self._rows, None, None if seconds is None else _SHARE * seconds)
        took = time.perf_counter() - began
        self._refits = seconds is None or took <= _MOST * seconds
        self.mixing_seconds = _MORE * took if self._refits else 0.0
        has_time = seconds is None or 3 * took <= _SHARE * seconds
        self._scores = self._by_halves() if len(self._all) <= _HALVED_ROWS and has_time else self._by_rows()

    def _fit(self, rows: Batch, names: Sequence[str] | None, seconds: float | None = None) -> dict[str, Baseline]:
        return fit_baselines(
            rows.x, self._sizes, rows.context, self._seed, context_sizes=self._context_sizes, names=names,
            seconds=seconds,
        )  # fmt: skip

    @torch.no_grad()
    def _by_rows(self) -> dict[str, Tensor]:
        """Log-densities (V,) of `val` by name, under the simple densities fitted to `rows`."""
        return {name: d.log_prob(self._val.x, self._val.context).double() for name, d in self._simple.items()}

    @torch.no_grad()
    def _by_halves(self) -> dict[str, Tensor]:
        """Log-densities (V,) of `val` by name, each half under densities fitted to all rows but this half."""
        half = torch.arange(len(self._val)) % 2 == 0
        scores = {name: torch.empty(len(half), dtype=torch.float64) for name in self._simple}
        for some in (half, ~half):
            left_out = self._val[some]
            fitted = self._fit(_joined(self._rows, self._val[~some]), list(scores))
            scores = {name: scores[name] for name in fitted}
            for name, density in fitted.items():
                scores[name][some] = density.log_prob(left_out.x, left_out.context).double()
        return scores

    def mix_into(self, result: Fit) -> None:
        """Puts the mixture in the place of the density that was trained, which stays as `unstacked`."""
        assert result.density is not None
        result.unstacked = result.density.eval()
        result.density, result.facts["stack"] = self.mixed_with(result.unstacked)

    @torch.no_grad()
    def mixed_with(self, inner: Density) -> tuple[Density, dict[str, float]]:
        """A trained density, mixed with simple ones where the scores of `val` favour them.

        Args:
            inner: over rows (B, M + C), trained on x.

        Returns:
            the mixture, whose simple densities are fitted to all rows if there is time, or `inner` itself where none of
            them is worth it; the weights by name.
        """
        settings = {"noise": self._val_noise} if inner.takes_noise and self._val_noise is not None else {}
        val = self._val
        own = inner.log_prob(val.x, val.context, **settings).double().cpu()
        all_scores = list(self._scores.values())
        simple = [name for k, name in enumerate(self._scores) if not _is_among(all_scores[k], all_scores[:k])]
        if not simple:
            return inner, {"flow": 1.0}
        scores = torch.stack([self._scores[name] for name in simple]).nan_to_num(nan=_LEAST)
        shares = mixing_weights(scores)
        together = (scores + shares.log()[:, None]).logsumexp(0)
        # The prior has all densities equal, the simple ones together as many as they are.
        prior = _PRIOR_BESIDE_FLOW * torch.tensor([1.0, len(simple)]) / (1 + len(simple))
        flow, rest = mixing_weights(torch.stack([own, together]), prior).tolist()
        kept = {n: rest * w for n, w in zip(simple, shares.tolist(), strict=True) if rest * w >= _LEAST_WEIGHT}
        every = self._fit(self._all, list(kept)) if kept and self._refits else self._simple
        kept = {name: w for name, w in kept.items() if name in every}
        if not kept:
            return inner, {"flow": 1.0}
        total = flow + sum(kept.values())
        mixture = Mixture([inner, *(every[name] for name in kept)], [flow, *kept.values()])
        return mixture, {"flow": flow / total} | {name: w / total for name, w in kept.items()}


def _on_cpu(rows: Batch) -> Batch:
    return Batch(rows.x.cpu(), None if rows.context is None else rows.context.cpu())


def _joined(rows: Batch, more: Batch) -> Batch:
    context = None
    if rows.context is not None and more.context is not None:
        context = torch.cat([rows.context, more.context])
    return Batch(torch.cat([rows.x, more.x]), context)


def _is_among(scores: Tensor, others: list[Tensor]) -> bool:
    """Whether a density is one of others, as a Gaussian mixture of one component is a Gaussian."""
    return any(torch.allclose(scores, other, rtol=1e-3, atol=1e-3) for other in others)


def mixing_weights(log_probs: Tensor, prior: Tensor | None = None) -> Tensor:
    """Log-densities (K, V) of rows -> the weights (K,) of the likeliest mixture, by EM, with a weak prior.

    Args:
        log_probs: of rows that the densities have not seen.
        prior: (K,), the pseudo-count of each density, in rows; one row of equal shares when None.

    Example:
        >>> mixing_weights(torch.tensor([[0.0, 0.0, 0.0], [-9.0, -9.0, -9.0]]))
        tensor([0.8750, 0.1250])
    """
    count = len(log_probs)
    prior = log_probs.new_full((count,), _PRIOR / count) if prior is None else prior.to(log_probs)
    weights = prior / prior.sum()
    finite = log_probs.nan_to_num(nan=_LEAST).clamp(min=_LEAST)
    for _ in range(_ROUNDS):
        owner = (finite + weights.log()[:, None]).softmax(0)
        weights = (owner.sum(1) + prior) / (log_probs.shape[1] + prior.sum())
    return weights
