"""The estimators: scikit-learn's own checks, then what a user does with them beyond those."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.training.settings import TrainSettings

sklearn = pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402


@pytest.fixture(autouse=True)
def quiet_torch() -> Any:
    """One thread: the trainings here are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normal_rows(n: int = 300, d: int = 2, seed: int = 0) -> np.ndarray:
    """Correlated normal rows of very different scales."""
    z = np.random.default_rng(seed).normal(size=(n, d))
    return z @ (np.eye(d) + 0.5 * np.tri(d, k=-1)) * np.geomspace(0.1, 10, d) + 3.0


def small(**settings: Any) -> pf.FlowDensity:
    return pf.FlowDensity(**{"depth": 2, "width": 8, "steps": 40, "stack": False, "random_state": 0} | settings)


@pytest.fixture(scope="module")
def fitted() -> pf.FlowDensity:
    return small(steps=300).fit(normal_rows(1000))


@parametrize_with_checks([pf.FlowDensity(steps=15), pf.FlowOutlierDetector(steps=15, members=2)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([pf.FlowDensity()])
def test_scikit_learns_checks_with_the_default_training(estimator: Any, check: Any) -> None:
    check(estimator)


# The density


def test_the_density_of_a_normal_is_found(fitted: pf.FlowDensity) -> None:
    x = normal_rows(4000, seed=1)
    covariance = np.diag([0.1, 10]) @ (m := np.eye(2) + 0.5 * np.tri(2, k=-1)).T @ m @ np.diag([0.1, 10])
    entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1]
    assert fitted.score(x) == pytest.approx(-entropy, abs=0.08)
    scores = fitted.score_samples(x)
    assert scores.dtype == np.float64
    assert scores.shape == (4000,)
    assert fitted.score(x) == pytest.approx(scores.mean())


def test_the_density_integrates_to_one(fitted: pf.FlowDensity) -> None:
    low, high = normal_rows(1000).min(0), normal_rows(1000).max(0)
    margin = 0.5 * (high - low)
    axes = [np.linspace(a, b, 300) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    assert np.exp(fitted.score_samples(grid)).sum() * cell == pytest.approx(1, abs=0.01)


def test_scores_are_in_the_units_of_the_data() -> None:
    x = normal_rows()
    here, there = small().fit(x), small().fit(x * [100, 1])
    assert here.score(x) - there.score(x * [100, 1]) == pytest.approx(math.log(100), abs=1e-3)


def test_latents_have_the_base_density_of_the_flow() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 1, 1000), rng.normal(2, 0.5, 1000)])[:, None]
    model = pf.FlowDensity(steps=400, lr=2e-2, random_state=0).fit(x)
    assert model.flow_ is not None
    z, drawn = model.transform(x), model.flow_.base.sample(2000, generator=torch.Generator().manual_seed(0))
    parts = np.linspace(0.05, 0.95, 10)
    assert np.allclose(np.quantile(z, parts), np.quantile(drawn.detach().numpy(), parts), atol=0.3)


def test_transform_and_back(fitted: pf.FlowDensity) -> None:
    x = normal_rows(50, seed=2)
    z = fitted.transform(x)
    assert np.allclose(fitted.inverse_transform(z), x, atol=1e-9)
    assert np.abs(fitted.transform(normal_rows(2000, seed=3)).mean(0)).max() < 0.2
    assert list(fitted.get_feature_names_out()) == ["flowdensity0", "flowdensity1"]


def test_samples_are_reproducible_and_from_the_density(fitted: pf.FlowDensity) -> None:
    assert np.array_equal(fitted.sample(20, random_state=1), fitted.sample(20, random_state=1))
    assert not np.array_equal(fitted.sample(20, random_state=1), fitted.sample(20, random_state=2))
    assert not np.array_equal(fitted.sample(20), fitted.sample(20))
    generators = [np.random.default_rng(3), np.random.RandomState(3)]
    for generator in generators:  # a generator moves on
        assert not np.array_equal(fitted.sample(5, generator), fitted.sample(5, generator))
    x = fitted.sample(4000, random_state=0)
    truth = normal_rows(4000, seed=5)
    assert (np.abs(x.mean(0) - truth.mean(0)) < 0.15 * truth.std(0)).all()
    assert np.allclose(x.std(0), truth.std(0), rtol=0.15)
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="n_samples must be"):
            fitted.sample(bad)  # type: ignore[arg-type]


def test_fits_are_reproducible_and_leave_the_global_generators_alone() -> None:
    x = normal_rows()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    models = [small().fit(x), small().fit(x), pf.FlowDensity(steps=5).fit(x), pf.FlowDensity(steps=5).fit(x)]
    models[0].sample(10)
    pf.FlowOutlierDetector(steps=5).fit(x)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # type: ignore[index]
    scores = [m.score_samples(x) for m in models]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[2], scores[3])


def test_clone_and_pickle(fitted: pf.FlowDensity) -> None:
    x = normal_rows(20)
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "flow_")
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.score_samples(x), fitted.score_samples(x))
    assert np.array_equal(loaded.sample(5, random_state=0), fitted.sample(5, random_state=0))


@pytest.mark.slow
def test_grid_search_over_depth_in_two_processes() -> None:
    search = GridSearchCV(small(steps=20), {"depth": [1, 3]}, cv=2, n_jobs=2).fit(normal_rows(200))
    assert search.best_params_["depth"] in (1, 3)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.best_estimator_.flow_.recipe["arguments"]) > 3


def test_in_a_pipeline() -> None:
    x = normal_rows()
    pipe = make_pipeline(StandardScaler(), small()).fit(x)
    inside = math.log(x.std(0).prod())  # the pipeline scores scaled rows, the density alone scores rows
    assert pipe.score(x) - inside == pytest.approx(small().fit(x).score(x), abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [2, 3, 30])
def test_any_size(n: int, d: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, d))
    model = pf.FlowDensity(random_state=0).fit(x)
    assert np.isfinite(model.score_samples(x)).all()
    assert model.sample(4, random_state=0).shape == (4, d)
    assert np.isfinite(model.sample(50, random_state=0)).all()


def test_one_column_gets_its_shape() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.5, rng.normal(-3, 0.5, 2000), rng.normal(3, 0.5, 2000))[:, None]
    model = pf.FlowDensity(steps=400, lr=2e-2, random_state=0).fit(x)
    two_normals = -0.5 * math.log(2 * math.pi * math.e * 0.25) - math.log(2)
    assert model.score(x) == pytest.approx(two_normals, abs=0.1)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_columns_far_from_zero_keep_their_detail(offset: float) -> None:
    x = normal_rows(200)
    near, far = small().fit(x), small().fit(x + offset)
    assert far.score(x + offset) == pytest.approx(near.score(x), abs=0.1)
    assert np.allclose(far.sample(100, random_state=0).std(0), x.std(0), rtol=0.3)
    assert far.flow_ is not None
    assert next(far.flow_.parameters()).dtype == torch.float64


def test_float32_comes_back_as_float32() -> None:
    x = normal_rows().astype(np.float32)
    model = small().fit(x)
    assert model.sample(3).dtype == np.float32
    assert model.transform(x).dtype == np.float32
    assert model.score_samples(x).dtype == np.float64
    assert small().fit(x.astype(np.float64)).transform(x.astype(np.float64)).dtype == np.float64


# Constant columns


def test_a_constant_column_is_a_point_mass() -> None:
    x = normal_rows()
    with_constant = np.insert(x, 1, 7.5, axis=1)
    model, plain = small().fit(with_constant), small().fit(x)
    assert model.constant_columns_ == {1: 7.5}
    assert np.allclose(model.score_samples(with_constant), plain.score_samples(x))
    assert (model.sample(10)[:, 1] == 7.5).all()
    z = model.transform(with_constant)
    assert z.shape == with_constant.shape
    assert (z[:, 1] == 0).all()
    assert np.allclose(model.inverse_transform(z), with_constant)
    with_constant[[2, 5], 1] = 8
    with pytest.warns(UserWarning, match=r"2 of 300 rows depart.*'x1' \(always 7.5\)"):
        scores = model.score_samples(with_constant)
    assert (scores[[2, 5]] == -np.inf).all()
    assert np.isfinite(np.delete(scores, [2, 5])).all()


def test_all_columns_constant() -> None:
    model = pf.FlowDensity().fit(np.ones((5, 2)))
    assert model.flow_ is None
    assert model.score(np.ones((3, 2))) == 0
    assert np.array_equal(model.sample(2), np.ones((2, 2)))
    assert np.array_equal(model.inverse_transform(model.transform(np.ones((2, 2)))), np.ones((2, 2)))
    with pytest.warns(UserWarning, match="1 of 1 rows depart"):
        assert model.score(np.array([[1.0, 2.0]])) == -np.inf


def test_a_constant_is_told_from_its_rounding() -> None:
    x = np.column_stack([normal_rows(50, 1), np.full(50, 0.1)]).astype(np.float32)
    model = small().fit(x)
    assert np.isfinite(model.score_samples(x.astype(np.float64))).all()
    x[:, 1] = 0.1
    assert np.isfinite(model.score_samples(np.column_stack([x[:, 0], np.full(50, 0.1)]))).all()


# Weights


def test_whole_weights_are_repetitions_and_zeros_omissions() -> None:
    x = normal_rows(60)
    weights = np.random.default_rng(1).integers(0, 4, len(x))
    weighted = small().fit(x, sample_weight=weights)
    repeated = small().fit(np.repeat(x, weights, axis=0))
    assert np.array_equal(weighted.score_samples(x), repeated.score_samples(x))
    assert weighted.score(x, sample_weight=weights) == pytest.approx(repeated.score(np.repeat(x, weights, axis=0)))
    assert not np.array_equal(weighted.score_samples(x), small().fit(x).score_samples(x))


def test_weights_move_the_density() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 0.5, (300, 1)), rng.normal(2, 0.5, (300, 1))])
    weights = np.repeat([0.9, 0.1], 300)
    model = small(steps=300).fit(x, sample_weight=weights)
    assert (model.sample(2000, random_state=0) < 0).mean() == pytest.approx(0.9, abs=0.05)


def test_one_heavy_row_does_not_break_the_training() -> None:
    x = normal_rows(100)
    weights = np.ones(100)
    weights[3] = 50
    assert np.isfinite(small().fit(x, sample_weight=weights).score(x))


def test_bad_weights() -> None:
    x = normal_rows(10)
    for weights, message in (
        (np.zeros(10), "at least one non-zero"),
        (-np.ones(10), "[Nn]egative"),
        (np.ones(9), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            small().fit(x, sample_weight=weights)


# Tables of all kinds


def frames(x: np.ndarray, names: list[str]) -> dict[str, Any]:
    pd, pl, pa = (pytest.importorskip(m, reason="the kinds of frames") for m in ("pandas", "polars", "pyarrow"))
    columns = {n: x[:, i] for i, n in enumerate(names)}
    return {"pandas": pd.DataFrame(columns, index=range(10, 10 + len(x))), "polars": pl.DataFrame(columns),
            "pyarrow": pa.table(columns)}  # fmt: skip


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_the_same_kind_of_table_comes_back(kind: str) -> None:
    x = np.insert(normal_rows(100), 1, 4.0, axis=1)
    frame = frames(x, ["a", "b", "c"])[kind]
    of_array, model = small().fit(x), small().fit(frame)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert np.array_equal(model.score_samples(frame), of_array.score_samples(x))
    drawn = model.sample(5, random_state=0)
    assert type(drawn) is type(frame)
    assert list(drawn.column_names if kind == "pyarrow" else drawn.columns) == ["a", "b", "c"]
    assert np.array_equal(np.asarray(drawn), of_array.sample(5, random_state=0))
    z = model.transform(frame)
    assert type(z) is type(frame)
    assert np.allclose(np.asarray(z), of_array.transform(x))
    back = model.inverse_transform(z)
    assert type(back) is type(frame)
    assert np.allclose(np.asarray(back), x)
    if kind == "pandas":
        assert list(z.index) == list(frame.index) == list(back.index)


def test_set_output_asks_for_a_kind() -> None:
    x = normal_rows(50)
    frame = frames(x, ["a", "b"])["pyarrow"]
    model = small().fit(frame)
    z = model.set_output(transform="pandas").transform(frame)
    assert type(z).__module__.startswith("pandas")
    assert list(z.columns) == ["flowdensity0", "flowdensity1"]
    with sklearn.config_context(transform_output="polars"):
        assert type(small().fit(x).transform(x)).__module__.startswith("polars")


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_columns_in_another_order_are_refused_as_scikit_learn_does(kind: str) -> None:
    x = normal_rows(50)
    model = small().fit(frames(x, ["a", "b"])[kind])
    with pytest.raises(ValueError, match="must be in the same order"):
        model.score_samples(frames(x[:, ::-1], ["b", "a"])[kind])
    with pytest.raises(ValueError, match="unseen at fit time"):
        model.score_samples(frames(x, ["a", "d"])[kind])


def test_frames_of_float32_and_of_numbered_columns() -> None:
    pd = pytest.importorskip("pandas", reason="the kinds of frames")
    x = normal_rows(50)
    assert (small().fit(pd.DataFrame(x.astype(np.float32))).sample(2).dtypes == np.float32).all()
    assert list(small().fit(pd.DataFrame(x)).sample(2).columns) == [0, 1]
    counted = pd.DataFrame({"a": np.arange(50), "b": pd.array(np.arange(50) % 7, dtype="Int64")})
    assert np.isfinite(small().fit(counted).score(counted))


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("values", [["u", "v"], [True, False]])
def test_columns_that_are_not_numbers_are_named_where_there_were_none(kind: str, values: list[Any]) -> None:
    column = np.array(values * 10)
    frame = frames(np.column_stack([np.arange(20.0)]), ["a"])[kind]
    model = small(steps=1).fit(frame)
    if kind == "pandas":
        frame["city"] = column
    elif kind == "polars":
        frame = frame.with_columns(city=column)
    else:
        frame = frame.append_column("city", [column.tolist()])
    with pytest.raises(ValueError, match="X has columns that do not hold numbers: 'city'"):
        model.score(frame)


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_get_scikit_learns_error(kind: str, value: float) -> None:
    x = normal_rows(20)
    model = small(steps=1).fit(frames(x, ["a", "b"])[kind])
    x[3, 1] = value
    frame = frames(x, ["a", "b"])[kind]
    calls = [lambda: small().fit(x), lambda: model.score(frame)]
    for call in calls if np.isnan(value) else [*calls, lambda: small().fit(frame)]:
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            call()


# Conditional densities


def conditional(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    context = rng.uniform(-1, 1, (n, 2))
    return (3 * context[:, :1] + 0.3 * rng.normal(size=(n, 1))), context


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


# Members, more training, recipes


def test_members_are_averaged_exactly() -> None:
    x = normal_rows(100)
    model = small(members=3, steps=10).fit(x)
    assert len(model.flows_) == 3
    assert model.fit_record_.flow is not None
    each = np.stack([f.log_prob(x).detach().numpy() for f in model.flows_])
    assert np.allclose(model.score_samples(x), np.log(np.exp(each).mean(0)))
    assert model.score(x) >= each.mean() - 1e-9  # a mixture is at least as good as its members on average
    assert model.sample(50, random_state=0).shape == (50, 2)
    assert np.array_equal(model.sample(50, random_state=0), model.sample(50, random_state=0))
    for method in (model.transform, model.inverse_transform):
        with pytest.raises(ValueError, match="no single latent space"):
            method(x)
    with pytest.raises(ValueError, match="members must be"):
        small(members=0).fit(x)


def test_partial_fit_goes_on() -> None:
    x = normal_rows(2000)
    model = pf.FlowDensity(depth=2, width=8, batch=50, lr=5e-3, random_state=0).partial_fit(x[:200])
    before = model.score(x)
    for i in range(200, 2000, 200):
        model.partial_fit(x[i : i + 200])
    assert model.score(x) > before
    model.partial_fit(x[:1])
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(np.ones((4, 3)))
    constant = small().partial_fit(np.insert(x[:50], 0, 1.0, axis=1))
    with pytest.raises(ValueError, match=r"\['x0'\] were constant when first fitted"):
        constant.partial_fit(np.insert(x[:50], 0, 2.0, axis=1))


def test_warm_start_goes_on_from_the_weights() -> None:
    x = normal_rows(300)
    model = small(steps=200, warm_start=True).fit(x)
    scale = model.flow_.bijection.bijections[0].matrix.clone()  # type: ignore[union-attr]
    before = model.score(x)
    model.set_params(steps=2, lr=1e-5).fit(x[:250])
    assert model.score(x) == pytest.approx(before, abs=0.02)
    assert torch.equal(model.flow_.bijection.bijections[0].matrix, scale)  # type: ignore[union-attr]
    cold = small(steps=2, lr=1e-5).fit(x[:250])
    assert cold.score(x) < before - 0.01


def test_a_recipe_by_name_or_function() -> None:
    x = normal_rows(50)
    assert small(recipe="real_nvp").fit(x).flow_.recipe["arguments"]["depth"] == 2  # type: ignore[index,union-attr]

    def mine(features: int, *, width: int, seed: int) -> pf.Flow:
        return pf.real_nvp(features, depth=1, width=width, seed=seed)

    assert np.isfinite(small(recipe=mine, depth=None).fit(x).score(x))
    with pytest.raises(ValueError, match="mine takes no depth"):
        small(recipe=mine).fit(x)
    with pytest.raises(ValueError, match="recipe must be auto, one of real_nvp"):
        small(recipe="nvp").fit(x)
    with pytest.raises(ValueError, match="must return a Flow"):
        small(recipe=lambda features, **_: None).fit(x)


def test_the_length_of_a_training() -> None:
    x = normal_rows(100)
    record = small(steps=7).fit(x).fit_record_
    assert record is not None
    assert record.summary["steps"] == 7
    assert small(steps=None, epochs=3, noise=0).fit(x).fit_record_.summary["epochs"] == 3  # type: ignore[union-attr]
    assert small(steps=None, epochs=6, batch=30).fit(x).fit_record_.summary["steps"] == 18  # type: ignore[union-attr]
    assert small(steps=None, seconds=0.3).fit(x).fit_record_.summary["seconds"] < 3  # type: ignore[union-attr]
    rows = normal_rows(40)  # soon learned by heart
    early, whole = (small(steps=600, lr=0.05, noise=0, patience=p).fit(rows).fit_record_ for p in (0.1, None))
    assert early is not None
    assert whole is not None
    assert early.stopped == "early"
    assert whole.stopped == "done"
    with pytest.raises(ValueError, match="at most one of epochs, steps and seconds"):
        small(epochs=3).fit(x)


def test_columns_over_which_a_density_has_no_bound_are_named_once() -> None:
    x = normal_rows(400)
    frame = frames(np.column_stack([x, x[:, 0] > 3]), ["a", "b", "smokes"])["pandas"]
    with pytest.warns(UserWarning, match=r"'smokes' is 0 in \d\d% of the rows.*set kinds=") as caught:
        small(steps=1, members=2).fit(frame)
    assert len(caught) == 1
    small(steps=1, noise=0.1).fit(frame)
    heavy = np.where(np.arange(400) == 7, 300.0, 1.0)  # a row that counts often is no column of ties
    small(steps=1).fit(x, sample_weight=heavy)


# Files


def test_a_model_file_holds_the_estimator(tmp_path: Path) -> None:
    x = np.insert(normal_rows(100), 1, 4.0, axis=1)
    for frame in (x.astype(np.float32), frames(x, ["a", "b", "c"])["pandas"]):
        model = small().fit(frame)
        model.save(tmp_path / "model.safetensors")
        again = pf.FlowDensity.load(tmp_path / "model.safetensors")
        assert np.array_equal(again.score_samples(frame), model.score_samples(frame))
        ours, theirs = again.sample(5, random_state=0), model.sample(5, random_state=0)
        assert type(ours) is type(theirs)
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        assert np.allclose(np.asarray(again.inverse_transform(again.transform(frame))), x, atol=1e-4)
        assert again.constant_columns_ == {1: 4.0}
    assert pf.load(tmp_path / "model.safetensors").space.names == ("a", "c")
    with pytest.raises(ValueError, match="pickle it instead"):
        pf.FlowDensity().fit(np.ones((3, 1))).save(tmp_path / "bad.safetensors")


def test_a_model_file_holds_several_members(tmp_path: Path) -> None:
    x = np.insert(normal_rows(100), 1, 4.0, axis=1)
    model = small(members=3, steps=2).fit(x)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert len(again.flows_) == 3
    assert np.array_equal(again.score_samples(x), model.score_samples(x))
    assert np.array_equal(again.sample(9, random_state=0), model.sample(9, random_state=0))


def test_a_conditional_model_file_and_one_of_a_plain_flow(tmp_path: Path) -> None:
    x, context = conditional(50)
    model = small().fit(x, context=context)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.score_samples(x, context=context), model.score_samples(x, context=context))
    flow = pf.real_nvp(2, depth=2)
    flow.space = pf.Vectors(["a", "b"])
    pf.save(flow, tmp_path / "flow.safetensors")
    assert list(pf.FlowDensity.load(tmp_path / "flow.safetensors").feature_names_in_) == ["a", "b"]


@pytest.mark.parametrize(
    "damage",
    [{"columns": ["a", "a"]}, {"columns": ["a"]}, {"constant": {"9": 1.0}}, {"kind": "list"}, {"dtype": "object"},
     {"context": ["u"]}, {"named": 1}],
)  # fmt: skip
def test_a_damaged_file_is_told(tmp_path: Path, damage: dict[str, Any]) -> None:
    small(steps=1).fit(normal_rows(30)).save(tmp_path / "model.safetensors")
    flow = pf.load(tmp_path / "model.safetensors")
    flow.about["estimator"] |= damage
    pf.save(flow, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="damaged header"):
        pf.FlowDensity.load(tmp_path / "model.safetensors")


# Parameters and settings


def test_the_parameters_that_are_settings_of_a_training_have_its_defaults() -> None:
    settings = {s.name: s.default for s in dataclasses.fields(TrainSettings)}
    ours = {n: p.default for n, p in inspect.signature(pf.FlowDensity).parameters.items() if n in settings}
    assert len(ours) == 8
    assert ours == {name: settings[name] for name in ours}


@pytest.mark.parametrize("name", sorted({s.name for s in dataclasses.fields(TrainSettings)}))
def test_every_setting_of_a_training_reaches_it(name: str) -> None:
    x = normal_rows(30)
    is_parameter = name in inspect.signature(pf.FlowDensity).parameters
    if is_parameter or name in ("seed", "check", "checkpoint"):
        with pytest.raises(ValueError, match=f"no parameters of their own, got '{name}'"):
            small(training={name: 1}).fit(x)
    if name not in ("seed", "check", "checkpoint"):
        bad = {"steps": None, name: "bad"} if is_parameter else {"training": {name: "bad"}}
        with pytest.raises(ValueError, match=f"{name}.* must be"):
            small(**bad).fit(x)


def test_further_settings_of_a_training() -> None:
    x = normal_rows(30)
    settings: dict[str, Any] = {"steps": 5, "val_fraction": 0.0}
    plain, decayed = small(**settings).fit(x), small(**settings, training={"weight_decay": 10.0}).fit(x)
    assert plain.score(x) != decayed.score(x)
    with pytest.raises(ValueError, match="got 'speed'"):
        small(training={"speed": 1}).fit(x)


# Outliers


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


# Imports


def run(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_scikit_learn_is_imported_only_for_what_needs_it() -> None:
    code = """
import json, sys, pushforward as pf
pf.real_nvp(2); names = dir(pf)
before = "sklearn" in sys.modules
pf.FlowDensity, pf.FlowOutlierDetector
print(json.dumps([before, "FlowDensity" in names, "sklearn" in sys.modules, "pyod" in sys.modules]))
"""
    before, listed, after, pyod = run(code)
    assert not before
    assert listed
    assert after
    assert not pyod


@pytest.mark.parametrize(("module", "name"), [("sklearn", "FlowDensity"), ("pyod.models.base", "PyODFlow")])
def test_what_is_missing_is_told(module: str, name: str) -> None:
    code = f"""
import json, sys, pushforward as pf
sys.modules[{module!r}] = None
pf.real_nvp(2)
try: pf.{name}
except ImportError as error: print(json.dumps(str(error)))
"""
    assert f'pip install "pushforward[{module.split(".")[0]}]"' in run(code)
