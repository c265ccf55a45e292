"""Frames in the estimator: the kind of table that came in comes back, and what does not fit is named by column."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from estimators import frames, normal_rows, small

sklearn = pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_integers_of_a_frame_are_masses_and_drawn_as_integers() -> None:
    pd = pytest.importorskip("pandas", reason="the kinds of frames")
    rng = np.random.default_rng(0)
    counted = pd.DataFrame({"a": rng.poisson(50, 60), "b": pd.array(np.arange(60) % 7, dtype="Int64")})
    model = small().fit(counted)
    assert (model.score_samples(counted) < 0).all()
    assert model.sample(5).dtypes.tolist() == counted.dtypes.tolist()


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


def test_columns_over_which_a_density_has_no_bound_are_named_once() -> None:
    x = normal_rows(400)
    frame = frames(np.column_stack([x, x[:, 0] > 3]), ["a", "b", "smokes"])["pandas"]
    with pytest.warns(UserWarning, match=r"'smokes' is 0 in \d\d% of the rows.*set kinds=") as caught:
        small(steps=1, members=2).fit(frame)
    assert len(caught) == 1
    small(steps=1, noise=0.1).fit(frame)
    heavy = np.where(np.arange(400) == 7, 300.0, 1.0)  # a row that counts often is no column of ties
    small(steps=1).fit(x, sample_weight=heavy)


def test_decimals_of_a_frame_are_drawn_as_decimals_and_lazy_frames_are_read_in_silence() -> None:
    pl = pytest.importorskip("polars", reason="the kinds of frames")
    prices = pl.DataFrame({"price": np.random.default_rng(0).integers(1, 90_000, 60) / 100, "x": normal_rows(60)[:, 0]})
    prices = prices.with_columns(pl.col("price").cast(pl.Decimal(8, 2)))
    model = small(steps=1).fit(prices)
    assert model.sample(3).schema == prices.schema
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(model.score_samples(prices.lazy())).all()


def test_a_mixed_frame_without_rows_is_told() -> None:
    pd = pytest.importorskip("pandas", reason="the kinds of frames")
    with pytest.raises(ValueError, match="the table has no rows"):
        small().fit(pd.DataFrame({"a": pd.Series([], dtype=str), "b": pd.Series([], dtype=float)}))
