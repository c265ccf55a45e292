"""The estimators on mixed rows: frames with categories, dates, truth values, text and missing cells."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from estimators import small

sklearn = pytest.importorskip("sklearn", reason="the estimators need scikit-learn")
pd = pytest.importorskip("pandas", reason="mixed rows come in frames")
pl = pytest.importorskip("polars", reason="mixed rows come in frames")
pa = pytest.importorskip("pyarrow", reason="mixed rows are read by Arrow")
from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402

KINDS = ("pandas", "polars", "pyarrow")


def people(n: int = 200, seed: int = 0) -> Any:
    """A pandas frame: heights by sex, with a missing cell in ten."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], n, p=[0.7, 0.3])
    height = np.where(sex == "m", 180.0, 167.0) + 6 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "height": np.where(rng.random(n) < 0.1, np.nan, height),
            "sex": pd.Categorical(sex, categories=["m", "f", "x"]),
            "smokes": rng.random(n) < 0.2,
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "D"),
            "children": pd.array(rng.integers(0, 60, n), dtype="Int64"),
            "town": rng.choice(["Ayr", "Bath"], n).astype(object),
        }
    )


def as_kind(frame: Any, kind: str) -> Any:
    """A pandas frame as one of another kind."""
    if kind == "pandas":
        return frame
    table = pl.from_pandas(frame)
    return table if kind == "polars" else table.to_arrow()


def dtypes(table: Any) -> Any:
    return list(table.schema) if isinstance(table, pa.Table) else list(table.dtypes)


@pytest.fixture(scope="module")
def fitted() -> pf.FlowDensity:
    return small(steps=200, stack=None).fit(people(600))


# Fitting and sampling


def test_a_mixed_frame_is_learned(fitted: pf.FlowDensity) -> None:
    assert [c.kind for c in fitted.schema_.columns] == [  # type: ignore[union-attr]
        "real", "category", "category", "date", "integer", "category",
    ]  # fmt: skip
    drawn = fitted.sample(4000, random_state=0)
    assert (drawn["sex"] == "m").mean() == pytest.approx(0.3, abs=0.05)
    assert drawn["height"].isna().mean() == pytest.approx(0.1, abs=0.04)
    by_sex = drawn.groupby("sex", observed=True)["height"].mean()
    assert by_sex["m"] - by_sex["f"] == pytest.approx(13, abs=3)
    assert (drawn["children"] >= 0).all()
    assert drawn["children"].between(0, 119).mean() > 0.999  # of 0 to 59: a draw in a thousand may lie farther out
    assert fitted.flow_ is None
    assert fitted.n_features_in_ == 6
    assert list(fitted.feature_names_in_) == list(people(1).columns)


def test_scores_are_those_of_the_table_density(fitted: pf.FlowDensity) -> None:
    frame = people(50, seed=1)
    scores = fitted.score_samples(frame)
    assert scores.dtype == np.float64
    assert np.array_equal(scores, fitted.table_.log_prob(frame).numpy())
    assert fitted.score(frame) == pytest.approx(scores.mean())
    assert fitted.score(frame, sample_weight=np.arange(50)) == pytest.approx(np.average(scores, weights=np.arange(50)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [1, 2])
def test_samples_have_the_kind_the_dtypes_and_the_order_of_the_table(kind: str, members: int) -> None:
    frame = as_kind(people(60), kind)
    if kind == "polars":
        frame = frame.with_columns(town=pl.col("town").cast(pl.Enum(["Ayr", "Bath", "Ely"])))
    model = small(members=members, steps=2).fit(frame)
    drawn = model.sample(30, random_state=1)
    assert type(drawn) is type(frame)
    assert dtypes(drawn) == dtypes(frame)
    assert drawn.shape == (30, 6)
    assert np.isfinite(model.score_samples(drawn)).all()
    if kind == "pyarrow":
        assert drawn.schema == frame.schema


def test_further_dtypes_come_back() -> None:
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(
        {
            "single": rng.normal(size=n).astype("float32"),
            "small": rng.integers(0, 900, n).astype("int16"),
            "maybe": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
            "word": pd.array(rng.choice(["u", "v"], n), dtype="string"),
            "zone": pd.Timestamp("2024-05-01", tz="Asia/Tokyo") + pd.to_timedelta(rng.integers(0, 9000, n), "min"),
            "wait": pd.to_timedelta(rng.integers(0, 9000, n), "s"),
            "grade": pd.Categorical(rng.choice([1, 2, 5], n), categories=[1, 2, 5], ordered=True),
            "flag": rng.choice(np.array([True, None]), n),
        }
    )
    drawn = small(steps=2).fit(frame).sample(20, random_state=0)
    assert list(drawn.columns) == list(frame.columns)
    assert list(drawn.dtypes) == list(frame.dtypes)
    assert drawn["maybe"].isna().any()
    numbered = frame[["single", "word"]].set_axis([3, 5], axis=1)
    assert list(small(steps=2).fit(numbered).sample(2).columns) == [3, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_cells_alone_make_rows_mixed(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[::3, 1] = np.nan
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame = frame if kind == "pandas" else pl.DataFrame({"a": x[:, 0], "b": x[:, 1]})
    frame = frame.to_arrow() if kind == "pyarrow" else frame
    model = small(steps=60).fit(frame)
    assert np.isfinite(model.score(frame))
    drawn = model.sample(300, random_state=0)
    assert np.isnan(drawn["b"].to_numpy()).mean() == pytest.approx(1 / 3, abs=0.1)


def test_kinds_make_any_table_mixed() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=90), rng.integers(0, 50, 90)])
    assert small(steps=1).fit(x).schema_ is None
    model = small(steps=20, kinds={"x1": "integer"}).fit(x)
    drawn = model.sample(20, random_state=0)
    assert drawn.dtype == np.float64
    assert (drawn[:, 1] == np.round(drawn[:, 1])).all()
    x[3, 0] = np.nan
    assert np.isfinite(small(kinds={}).fit(x).score(x))
    frame = pd.DataFrame({"a": rng.integers(1, 4, 50), "b": rng.normal(size=50)})
    assert small(steps=1, kinds={"a": "category"}).fit(frame).schema_["a"].kind == "category"  # type: ignore[index]
    with pytest.raises(ValueError, match="kinds name a column 'z'"):
        small(kinds={"z": "integer"}).fit(frame)


def test_columns_are_matched_by_name(fitted: pf.FlowDensity) -> None:
    frame = people(20, seed=2)
    scores = fitted.score_samples(frame)
    assert np.array_equal(fitted.score_samples(frame[frame.columns[::-1]]), scores)
    assert np.array_equal(fitted.score_samples(pl.from_pandas(frame)), scores)
    with pytest.raises(ValueError, match="X lacks the columns 'sex': it must have those of fit, in any order"):
        fitted.score(frame.drop(columns="sex"))
    with pytest.raises(ValueError, match="X has the unseen columns 'new'"):
        fitted.score(frame.assign(new=1))


def test_a_column_of_ids_is_left_out_and_may_be_absent() -> None:
    frame = people(50).assign(id=[f"row {i}" for i in range(50)])
    with pytest.warns(UserWarning, match="'id' is left out"):
        model = small(steps=2).fit(frame)
    drawn = model.sample(5, random_state=0)
    assert list(drawn.columns) == list(people(1).columns)
    assert np.isfinite(model.score(drawn))
    assert np.isfinite(model.score(frame))


def test_a_category_never_seen_is_unlikely_and_counted(fitted: pf.FlowDensity) -> None:
    frame = people(20, seed=3)
    frame["sex"] = frame["sex"].astype(object)
    frame.loc[[3, 5], "sex"] = "x"
    with pytest.warns(UserWarning, match="2 of 20 rows hold what was never seen.*'x'"):
        scores = fitted.score_samples(frame)
    assert np.isfinite(scores).all()
    assert set(np.argsort(scores)[:2]) == {3, 5}


def test_fits_and_samples_are_reproducible_and_leave_the_global_generators_alone() -> None:
    frame = people(80)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    models = [small().fit(frame), small().fit(frame), small(random_state=1).fit(frame)]
    draws = [m.sample(30, random_state=3) for m in models]
    small(random_state=None, steps=1).fit(frame).sample(3)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # type: ignore[index]
    scores = [m.score_samples(frame) for m in models]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    pd.testing.assert_frame_equal(draws[0], draws[1])
    assert not draws[0].equals(models[0].sample(30, random_state=4))


def test_weights_move_the_masses_and_zeros_leave_rows_out() -> None:
    frame = people(300)
    heavy = np.where(frame["sex"] == "m", 9.0, 1.0)
    share = heavy[frame["sex"] == "m"].sum() / heavy.sum()
    drawn = small(steps=100).fit(frame, sample_weight=heavy).sample(2000, random_state=0)
    assert (drawn["sex"] == "m").mean() == pytest.approx(share, abs=0.06)
    none = (frame["sex"] != "m").astype(float)
    without = small().fit(frame, sample_weight=none)
    assert np.array_equal(without.score_samples(frame[none > 0]), small().fit(frame[none > 0]).score_samples(
        frame[none > 0]))  # fmt: skip
    assert without.schema_["sex"].categories == ("f",)  # type: ignore[index]
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        small().fit(frame, sample_weight=-heavy)


def test_noise_smooths_the_numbers() -> None:
    frame = people(60)
    models = [small(noise=n, steps=150, val_fraction=0.0, stack=False).fit(frame) for n in (0, 1.0)]
    heights = [m.sample(2000, random_state=0)["height"] for m in models]
    fine, coarse = (h.quantile(0.75) - h.quantile(0.25) for h in heights)  # tails follow the range of the rows
    assert coarse > 1.15 * fine


def test_members_are_averaged_exactly() -> None:
    frame = people(80)
    model = small(members=2).fit(frame)
    assert np.array_equal(model.score_samples(frame), model.table_.log_prob(frame).numpy())
    with pytest.raises(ValueError, match="no single latent space"):
        model.transform(frame)


# Conditional densities


@pytest.mark.parametrize("target", ["frame", "array"])
@pytest.mark.slow
def test_a_density_given_a_mixed_context(target: str) -> None:
    frame = people(500).dropna()
    x = frame[["height"]] if target == "frame" else frame[["height"]].to_numpy()
    context = frame[["sex", "children"]]
    model = small(steps=250).fit(x, context=context)
    assert model.n_context_features_in_ == 2
    few = pd.DataFrame({"children": [3, 3], "sex": ["m", "f"]})
    drawn = model.sample(200, random_state=0, context=few)
    assert type(drawn) is type(x)
    values = np.asarray(drawn)[:, 0]
    assert values[:200].mean() - values[200:].mean() == pytest.approx(13, abs=4)
    assert model.score(x, context=context) > small(steps=250, kinds={}).fit(x).score(x)
    assert model.score(x, context=context[["children", "sex"]]) == model.score(x, context=context)
    for call, message in (
        (lambda: model.score(x), "conditional on a context of 2 columns, got no context"),
        (lambda: model.score(x, context=context[["sex"]]), "got a context of 1"),
        (lambda: model.score(x[:9], context=context), "X has 9 rows and context"),
        (lambda: small().fit(frame[["height"]], context=frame[["height", "sex"]]), "both have a column 'height'"),
        (lambda: small().fit(frame).score(frame, context=context), "not conditional"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_mixed_density_given_numbers_or_a_series() -> None:
    frame = people(300)
    rng = np.random.default_rng(0)
    z = (frame["sex"] == "m").to_numpy() * 4.0 + 0.1 * rng.normal(size=300)
    given = small(steps=200).fit(frame[["sex"]], context=z)
    assert given.score(frame[["sex"]], context=z[:, None]) > -0.2
    series = small(steps=2).fit(frame[["height", "smokes"]], context=frame["sex"])
    assert np.isfinite(series.score(frame[["height", "smokes"]], context=frame["sex"]))
    assert list(series.sample(2, context=frame["sex"][:3], random_state=0).columns) == ["height", "smokes"]


# Latents, and what mixed rows do not have


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_the_numbers(kind: str) -> None:
    frame = as_kind(people(100), kind)
    model = small().fit(frame)
    z = model.transform(frame)
    assert type(z) is type(frame)
    assert z.shape == (100, 3)
    names = list(z.column_names if kind == "pyarrow" else z.columns)
    assert names == list(model.get_feature_names_out()) == ["flowdensity0", "flowdensity1", "flowdensity2"]
    assert np.array_equal(np.asarray(z), np.asarray(model.transform(frame)))
    with pytest.raises(ValueError, match="mixed rows cannot be got back"):
        model.inverse_transform(z)
    with pytest.raises(ValueError, match="no columns with numbers"):
        small(steps=1).fit(people(30)[["sex"]]).transform(people(30)[["sex"]])


def test_what_mixed_rows_do_not_have_is_told(fitted: pf.FlowDensity) -> None:
    frame = people(40)
    numbers = np.random.default_rng(0).normal(size=(30, 2))
    for call, message in (
        (lambda: small().partial_fit(frame), "mixed rows cannot be trained further"),
        (lambda: pickle.loads(pickle.dumps(fitted)).partial_fit(numbers), "mixed rows cannot be trained further"),
        (lambda: small(warm_start=True).fit(frame), "warm_start=True: mixed rows are always fitted afresh"),
        (lambda: small(steps=1).fit(frame).set_params(warm_start=True).fit(numbers), "warm_start=True"),
        (lambda: small(recipe=pf.real_nvp).fit(frame), "the name of a recipe"),
        (lambda: small(recipe="nvp").fit(frame), "unknown recipe 'nvp'"),
        (lambda: small(members=0).fit(frame), "members must be"),
        (lambda: small().fit(frame[:1]), "at least 2 rows"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_an_estimator_can_be_fitted_to_rows_of_the_other_sort() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    model = small(steps=2).fit(people(40))
    model.fit(x)
    assert model.schema_ is None
    assert model.table_ is None
    assert model.sample(2).shape == (2, 2)
    model.fit(people(40))
    assert model.flows_ == []
    assert list(model.sample(2).columns) == list(people(1).columns)


# With scikit-learn's tools


def test_clone_and_pickle(fitted: pf.FlowDensity) -> None:
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "schema_")
    loaded = pickle.loads(pickle.dumps(fitted))
    frame = people(20)
    assert np.array_equal(loaded.score_samples(frame), fitted.score_samples(frame))
    pd.testing.assert_frame_equal(loaded.sample(5, random_state=0), fitted.sample(5, random_state=0))


@pytest.mark.slow
def test_grid_search_and_cross_validation() -> None:
    frame = people(120)
    search = GridSearchCV(small(steps=5), {"depth": [1, 2]}, cv=2, n_jobs=2).fit(frame)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert list(search.best_estimator_.sample(2, random_state=0).dtypes) == list(frame.dtypes)
    scores = cross_val_score(small(steps=5), pl.from_pandas(frame), cv=2)
    assert np.isfinite(scores).all()


def test_in_a_pipeline() -> None:
    frame = people(60)
    pipe = make_pipeline(FunctionTransformer(lambda f: f.drop(columns="born")), small(steps=2)).fit(frame)
    assert np.isfinite(pipe.score(frame))
    assert "born" not in pipe[-1].sample(2)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_file_holds_the_estimator(tmp_path: Path, kind: str, members: int) -> None:
    frame = as_kind(people(60), kind)
    model = small(steps=2, members=members).fit(frame)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.score_samples(frame), model.score_samples(frame))
    drawn = again.sample(4, random_state=0)
    assert type(drawn) is type(frame)
    assert drawn.shape == (4, 6)
    assert list(again.feature_names_in_) == list(model.feature_names_in_)
    pf.save(pf.load(tmp_path / "model.safetensors"), tmp_path / "again.safetensors", about={})
    assert isinstance(pf.FlowDensity.load(tmp_path / "again.safetensors").sample(2), pa.Table)


# Outliers


@pytest.mark.slow
def test_the_detector_flags_rows_that_are_unusual_or_new() -> None:
    frame = people(400).dropna()
    model = pf.FlowOutlierDetector(contamination=0.02, depth=2, width=8, steps=200, random_state=0).fit(frame)
    assert (model.predict(frame) == -1).mean() == pytest.approx(0.02, abs=0.01)
    odd = frame[:3].copy()
    odd["sex"] = odd["sex"].astype(object)
    odd.iloc[0, 0] = 290.0
    odd.iloc[1, 1] = "x"
    with pytest.warns(UserWarning, match="1 of 3 rows hold what was never seen"):
        decision = model.decision_function(odd)
    assert np.isfinite(decision).all()
    assert list(np.sign(decision)[:2]) == [-1, -1]
    assert model.n_features_in_ == 6
    given = pf.FlowOutlierDetector(depth=2, width=8, steps=200, contamination=0.02, random_state=0)
    given.fit(frame[["height"]], context=frame[["sex"]])
    context = pd.DataFrame({"sex": ["m", "f"]})
    assert list(given.predict(pd.DataFrame({"height": [190.0, 190.0]}), context=context)) == [1, -1]


def test_pyod_detector() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyOD's own imports warn of
        pytest.importorskip("pyod.models.base", reason="the adapter needs pyod", exc_type=ImportError)
    frame = people(200)
    detector = pf.PyODFlow(contamination=0.05, density=small(steps=100)).fit(frame)
    assert detector.labels_.sum() == 10
    odd = frame[:2].copy()
    odd["sex"] = ["x", "f"]
    with pytest.warns(UserWarning, match="never seen"):
        assert detector.predict(odd)[0] == 1
    assert math.isfinite(detector.threshold_)
