"""PyODFlow: FlowDensity as a detector of PyOD (Zhao, Nasrullah, Li 2019, arXiv 1901.01588); needs the package pyod."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from .density import FlowDensity
from .detector import LOWEST

if TYPE_CHECKING:
    PyODFlow: Any


def __getattr__(name: str) -> Any:
    """Makes the class when it is first asked for: its base is PyOD's, and importing that takes seconds."""
    if name == "PyODFlow":
        return _make()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _make() -> Any:
    try:
        from pyod.models.base import BaseDetector  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError('PyODFlow needs PyOD: pip install "pushforward[pyod]"') from error

    class PyODFlow(BaseDetector):
        """A `pyod.models.base.BaseDetector` whose anomaly score is the negative log-density under a flow, in nats.

        Args:
            contamination: the fraction of the training rows to label as outliers, above 0 and at most 0.5.
            density: an unfitted `FlowDensity`; None takes the defaults. It is cloned, never changed.

        Attributes:
            density_: the fitted `FlowDensity`.
            decision_scores_: the scores of the training rows (N,); higher is more unusual.
            threshold_: the score above which a row is labelled an outlier.
            labels_: 1 for outliers among the training rows, else 0.

        Example:
            >>> detector = PyODFlow(contamination=0.05, density=FlowDensity(steps=50, random_state=0))
            >>> _ = detector.fit(np.random.default_rng(0).normal(size=(100, 2)))
            >>> detector.predict(np.array([[0.0, 0.0], [9.0, 9.0]]))
            array([0, 1])
        """

        def __init__(self, contamination: float = 0.1, density: FlowDensity | None = None) -> None:
            super().__init__(contamination=contamination)
            self.density = density

        def fit(self, X: Any, y: Any = None) -> Any:  # noqa: N803
            """Learns the density of X (N, D), a table of any kind, as `FlowDensity` does; y is ignored."""
            self._set_n_classes(y)
            density: Any = FlowDensity() if self.density is None else clone(self.density)
            self.density_ = density.fit(X)
            self.decision_scores_ = self.decision_function(X)
            self._process_decision_scores()
            return self

        def decision_function(self, X: Any) -> Any:  # noqa: N803
            """Negative log-density of each row: X (N, D) -> (N,), nats; higher is more unusual."""
            from sklearn.utils.validation import check_is_fitted

            check_is_fitted(self, ["density_"])
            return -np.maximum(self.density_.score_samples(X), LOWEST)

    # Pickles name the class by module and name; `__getattr__` above finds it there again.
    PyODFlow.__qualname__ = "PyODFlow"
    PyODFlow.__module__ = __name__
    return PyODFlow
