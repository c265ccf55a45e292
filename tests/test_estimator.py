"""The estimator of densities: scikit-learn's own checks, then what a user does with arrays beyond those."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from estimators import normal_rows, small

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fitted() -> pf.FlowDensity:
    return small(steps=300).fit(normal_rows(1000))


@parametrize_with_checks([pf.FlowDensity(steps=15, stack=False), pf.FlowOutlierDetector(steps=15, stack=False)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([pf.FlowDensity(steps=60)])
def test_scikit_learns_checks_with_a_stack(estimator: Any, check: Any) -> None:
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
    models = [small().fit(x), small().fit(x), *(pf.FlowDensity(steps=5, stack=False).fit(x) for _ in range(2))]
    models[0].sample(10)
    pf.FlowOutlierDetector(steps=5, stack=False).fit(x)
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
