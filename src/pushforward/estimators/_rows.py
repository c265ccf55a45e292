"""The rows an estimator trains on: each distinct row once with its weight, split once, no row with too much weight."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight

from ..training.data import validation_count

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedRows:
    """Rows x (N, D) with context (N, K) or None and weights (N,)."""

    x: Array
    context: Array | None
    weights: Array

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: NDArray[np.int64]) -> WeightedRows:
        return WeightedRows(
            self.x[index], None if self.context is None else self.context[index], self.weights[index]
        )  # fmt: skip

    def triple(self) -> tuple[Array, Array | None, Array | None]:
        """x, context and the weights, None where they are all equal."""
        return self.x, self.context, None if np.ptp(self.weights) == 0 else self.weights


def merged(x: Array, context: Array | None, weights: Array) -> WeightedRows:
    """Each distinct row (with its context) once, with the sum of its weights, in lexicographic order.

    So a whole number as a weight means exactly what repeating the row means, a weight of zero what leaving it out
    means, and the training depends neither on the order of the rows nor on the units of the columns.
    """
    if not weights.all():
        kept = weights > 0
        x, context, weights = x[kept], None if context is None else context[kept], weights[kept]
    joint = (x if context is None else np.column_stack([x, context])) + 0.0  # -0.0 becomes 0.0
    order = np.lexsort(joint.T[::-1])
    joint = joint[order]
    first = np.concatenate([[True], (joint[1:] != joint[:-1]).any(1)])
    totals = np.bincount(np.cumsum(first) - 1, weights[order]).astype(np.float64, copy=False)
    joint = joint[first]
    width = x.shape[1]
    return WeightedRows(joint[:, :width], None if context is None else joint[:, width:], totals)


def split(rows: WeightedRows, fraction: float, seed: int) -> tuple[WeightedRows, WeightedRows | None]:
    """-> the rows to train on, and those held out for validation, or None where there are too few.

    Distinct rows are held out, so that no row to validate with has a copy among those to train on.
    """
    count = validation_count(len(rows), fraction)
    if count == 0:
        return rows, None
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[count:]], rows[order[:count]]


def spread(rows: WeightedRows) -> WeightedRows:
    """Copies each row that weighs more than 1.5 times the mean, so that no batch hangs on a single row."""
    weights = rows.weights / rows.weights.mean()
    copies = np.maximum(np.rint(weights), 1).astype(np.int64)
    if len(rows) == 1:
        copies[:] = 2  # the least that a training takes
    rows = WeightedRows(rows.x, rows.context, weights / copies)
    return rows if bool((copies == 1).all()) else rows[np.repeat(np.arange(len(rows)), copies)]


def representative(rows: WeightedRows, most: int, seed: int) -> WeightedRows:
    """At most about `most` rows, with those among them that hold a column's smallest and largest value."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
    return rows[np.unique(np.concatenate([chosen, rows.x.argmin(0), rows.x.argmax(0)]))]


def read_weights(sample_weight: Any, rows: int) -> Array:
    """Weights of the rows -> (N,) float64; ones for None.

    Raises:
        ValueError: they have another shape, are not finite, negative, or all zero.
    """
    weights = _check_sample_weight(sample_weight, np.empty((rows, 0)), dtype=np.float64, ensure_non_negative=True)
    if not weights.any():  # scikit-learn before 1.9 lets them pass
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def seed_of(random_state: Any) -> int:
    """A seed from an int, a numpy generator (which moves on), or None: a new one each time, from the system.

    scikit-learn takes None as numpy's global generator, which here is left alone.
    """
    if random_state is None:
        return secrets.randbelow(2**31)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    raise ValueError(f"random_state must be None, a whole number of at least 0 or a generator, got {random_state!r}")
