"""FlowOutlierDetector: rows of low density are outliers; a scikit-learn detector on top of FlowDensity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ..flow import Flow
from .density import FlowDensity

Array = NDArray[np.float64]
LOWEST = -float(np.finfo(np.float32).max)  # the score of a row outside of the support; metrics refuse -inf


class FlowOutlierDetector(OutlierMixin, BaseEstimator):
    """Calls the rows of lowest density outliers: those below a quantile of the training rows' log-densities.

    Rows are of numbers or mixed, as those of `FlowDensity`. Train on normal rows (then `contamination` is the rate of
    false alarms) or on rows of which that part may be outliers; few outliers among many rows move the density little,
    but where they lie close together it learns them.

    Args:
        contamination: the fraction of the training rows to call outliers, above 0 and at most 0.5.
        recipe, depth, width, members, stack, seconds, epochs, steps, batch, lr, val_fraction, patience, noise,
            training, kinds, warm_start, verbose, device, random_state: as `FlowDensity`, which does the work.

    Attributes:
        density_: the fitted `FlowDensity`.
        offset_: the log-density that separates; `decision_function` is `score_samples` minus this.
        n_features_in_: columns seen in `fit`.
        feature_names_in_: their names, if they are all strings.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(300, 2))
        >>> model = FlowOutlierDetector(contamination=0.01, steps=100, random_state=0).fit(X)
        >>> model.predict([[0.0, 0.0], [8.0, 8.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        *,
        contamination: float = 0.1,
        recipe: str | Callable[..., Flow] = "auto",
        depth: int | None = None,
        width: int | None = None,
        members: int = 1,
        stack: bool | None = None,
        seconds: float | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        batch: int | None = None,
        lr: float | None = None,
        val_fraction: float = 0.1,
        patience: float | None = 0.5,
        noise: float | None = None,
        training: Mapping[str, Any] | None = None,
        kinds: Mapping[str, Any] | None = None,
        warm_start: bool = False,
        verbose: bool = False,
        device: str | torch.device | None = None,
        random_state: Any = None,
    ) -> None:
        self.contamination = contamination
        self.recipe = recipe
        self.depth = depth
        self.width = width
        self.members = members
        self.stack = stack
        self.seconds = seconds
        self.epochs = epochs
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.val_fraction = val_fraction
        self.patience = patience
        self.noise = noise
        self.training = training
        self.kinds = kinds
        self.warm_start = warm_start
        self.verbose = verbose
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> FlowOutlierDetector:  # noqa: N803
        """Learns the density of the rows, given their context if there is one, and the threshold.

        Args:
            X: (N, D), a table of any kind, at least 2 rows.
            y: ignored.
            context: (N, K): rows are then outliers if they are unusual for their context.
            sample_weight: (N,), not negative: how often each row counts.

        Raises:
            ValueError: as `FlowDensity.fit`, or contamination is out of range.
        """
        if not isinstance(self.contamination, Real) or isinstance(self.contamination, bool) or not (
            0 < self.contamination <= 0.5
        ):  # fmt: skip
            raise ValueError(f"contamination must be above 0 and at most 0.5, got {self.contamination!r}")
        settings = self.get_params(deep=False)
        del settings["contamination"]
        before = getattr(self, "density_", None)
        density = before.set_params(**settings) if self.warm_start and before is not None else FlowDensity(**settings)
        self.density_ = density.fit(X, context=context, sample_weight=sample_weight)
        self.n_features_in_ = density.n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if (names := getattr(density, "feature_names_in_", None)) is not None:
            self.feature_names_in_ = names
        scores = self.score_samples(X, context=context)
        weights = _check_sample_weight(sample_weight, scores[:, None], dtype=np.float64)
        self.offset_ = _threshold(scores, weights, self.contamination)
        return self

    def score_samples(self, X: Any, *, context: Any = None) -> Array:  # noqa: N803
        """Log-density of each row: (N,) nats; the lowest float32 for an impossible row."""
        check_is_fitted(self)
        return np.maximum(self.density_.score_samples(X, context=context), LOWEST)

    def decision_function(self, X: Any, *, context: Any = None) -> Array:  # noqa: N803
        """Log-density above the threshold: (N,) nats, negative for outliers."""
        return self.score_samples(X, context=context) - self.offset_

    def predict(self, X: Any, *, context: Any = None) -> NDArray[np.int64]:  # noqa: N803
        """1 for each inlier, -1 for each outlier: (N,)."""
        return np.where(self.decision_function(X, context=context) >= 0, 1, -1)

    def fit_predict(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> Any:  # noqa: N803  # type: ignore[override]
        """`fit`, then `predict` of the same rows."""
        return self.fit(X, context=context, sample_weight=sample_weight).predict(X, context=context)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "density_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.kinds is not None
        return tags


def _threshold(scores: Array, weights: Array, part: float) -> float:
    """A value that the given part of the weight lies below, half way between two scores."""
    kept = weights > 0
    order = np.argsort(scores[kept], kind="stable")
    scores, weights = scores[kept][order], weights[kept][order]
    total = np.cumsum(weights)
    first = int(np.searchsorted(total, part * total[-1] * (1 + 1e-9), side="right"))
    first = min(first, len(scores) - 1)
    below = scores[:first][scores[:first] < scores[first]]
    # Where no row lies below, a hair under the lowest: rounding must not make an outlier of it.
    return (
        float((below[-1] + scores[first]) / 2) if len(below) else float(scores[first] - 1e-9 * (1 + abs(scores[first])))
    )
