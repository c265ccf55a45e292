"""Conditional densities in the estimator: contexts as arrays, frames and series."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import conditional, frames, small

sklearn = pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.model_selection import GridSearchCV  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_conditional_density_follows_its_context() -> None:
    x, context = conditional()
    model = small(steps=400, width=16, lr=1e-2).fit(x, context=context)
    alone = small(steps=400).fit(x)
    assert model.score(x, context=context) > alone.score(x) + 1
    drawn = model.sample(300, random_state=0, context=np.array([[0.8, 0.0], [-0.8, 0.0]]))
    assert drawn.shape == (600, 1)
    assert drawn[:300].mean() == pytest.approx(2.4, abs=0.3)
    assert drawn[300:].mean() == pytest.approx(-2.4, abs=0.3)
    z = model.transform(x, context=context)
    assert np.allclose(model.inverse_transform(z, context=context), x)
    assert np.allclose(
        small().fit_transform(x, context=context), small().fit(x, context=context).transform(x, context=context)
    )


def test_contexts_that_do_not_fit_are_told() -> None:
    x, context = conditional(50)
    model, alone = small().fit(x, context=context), small().fit(x)
    for call, message in (
        (lambda: model.score(x), "conditional on a context of 2 columns, got no context"),
        (lambda: model.score(x, context=context[:, :1]), "got a context of 1"),
        (lambda: model.score(x, context=context[:9]), "X has 50 rows and context 9"),
        (lambda: alone.score(x, context=context), "not conditional"),
        (lambda: small().fit(x, context=context * np.nan), "Input context contains NaN"),
        (lambda: model.sample(2), "got no context"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_context_may_be_a_frame_or_a_series() -> None:
    x, context = conditional(50)
    frame = frames(context, ["u", "v"])["pandas"]
    model = small().fit(x, context=frame)
    assert np.array_equal(model.score_samples(x, context=frame), model.score_samples(x, context=context))
    with pytest.raises(ValueError, match="must have the columns"):
        model.score(x, context=frame[["v", "u"]])
    assert small().fit(x, context=frame["u"]).n_context_features_in_ == 1


def test_grid_search_routes_the_context() -> None:
    x, context = conditional(60)
    with sklearn.config_context(enable_metadata_routing=True):
        model = small(steps=10).set_fit_request(context=True).set_score_request(context=True)
        search = GridSearchCV(model, {"depth": [1, 2]}, cv=2).fit(x, context=context)
    assert search.best_estimator_.n_context_features_in_ == 2
