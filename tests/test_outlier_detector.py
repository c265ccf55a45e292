"""The outlier detectors: thresholds, weights, contexts, and PyOD's interface."""

from __future__ import annotations

import inspect
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import pushforward as pf
from estimators import conditional, normal_rows, small

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.base import clone

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_detector_takes_the_parameters_of_the_density() -> None:
    ours, theirs = (inspect.signature(c).parameters for c in (pf.FlowOutlierDetector, pf.FlowDensity))
    assert {k: v.default for k, v in ours.items()} == {"contamination": 0.1} | {k: v.default for k, v in theirs.items()}


def test_outliers_are_found() -> None:
    from sklearn.metrics import roc_auc_score

    x = normal_rows(500)
    far = x[:50] + np.array([3, -60])
    model = pf.FlowOutlierDetector(contamination=0.05, depth=2, width=8, steps=100, random_state=0).fit(x)
    assert (model.predict(x) == -1).sum() == 25
    assert (model.predict(far) == -1).mean() > 0.95
    assert np.array_equal(model.decision_function(x), model.score_samples(x) - model.offset_)
    assert np.array_equal(model.score_samples(x), model.density_.score_samples(x))
    assert roc_auc_score(np.repeat([1, 0], [500, 50]), model.decision_function(np.vstack([x, far]))) > 0.98
    for bad in (0, 0.6, True):
        with pytest.raises(ValueError, match="contamination must be"):
            pf.FlowOutlierDetector(contamination=bad).fit(x)


def test_the_threshold_weighs_rows() -> None:
    x = normal_rows(100)
    weights = np.random.default_rng(0).integers(0, 3, 100)
    settings: dict[str, Any] = {"depth": 2, "width": 8, "steps": 20, "random_state": 0, "contamination": 0.2}
    weighted = pf.FlowOutlierDetector(**settings).fit(x, sample_weight=weights)
    repeated = pf.FlowOutlierDetector(**settings).fit(np.repeat(x, weights, axis=0))
    assert weighted.offset_ == repeated.offset_


def test_outliers_given_a_context() -> None:
    x, context = conditional(300)
    model = pf.FlowOutlierDetector(contamination=0.02, depth=2, width=16, steps=300, random_state=0)
    model.fit(x, context=context)
    assert model.predict([[2.4]], context=[[0.8, 0.0]]) == [1]
    assert model.predict([[2.4]], context=[[-0.8, 0.0]]) == [-1]


def test_a_row_off_a_constant_column_is_an_outlier_with_a_finite_score() -> None:
    x = np.insert(normal_rows(50), 0, 1.0, axis=1)
    model = pf.FlowOutlierDetector(depth=2, width=8, steps=5, random_state=0).fit(x)
    x[0, 0] = 2
    with pytest.warns(UserWarning, match="1 of 50 rows depart"):
        decision = model.decision_function(x)
    assert np.isfinite(decision).all()
    assert decision.argmin() == 0


def test_pyod_detector() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyOD's own imports warn of
        base = pytest.importorskip("pyod.models.base", reason="the adapter needs pyod", exc_type=ImportError)
    x = normal_rows(200)
    far = np.array([[60.0, 3.0]])
    detector = pf.PyODFlow(contamination=0.05, density=small())
    assert isinstance(detector, base.BaseDetector)
    detector.fit(x)
    assert detector.labels_.sum() == 10
    assert np.allclose(detector.decision_scores_, -detector.density_.score_samples(x))
    assert list(detector.predict(np.vstack([x.mean(0), far]))) == [0, 1]
    assert detector.predict_proba(far)[0, 1] == 1
    assert not hasattr(detector.density, "flow_")
    loaded = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(loaded.decision_function(x), detector.decision_function(x))
    assert clone(detector).get_params()["density__depth"] == 2
