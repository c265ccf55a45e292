"""Schemas that a person agrees with: kinds, steps, bounds and atoms as they are inferred, and cells that come back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.bijections.scores import SCORED_ROWS
from pushforward.io.frames import read
from pushforward.io.tables import read_table
from pushforward.tables.columns.marginal import MarginalTransform

quiet = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.0, None), (None, 9.0), (0.0, 9.0)])
@pytest.mark.parametrize("gaussian", [True, False])
def test_marginals_invert_and_know_their_slope(low: float | None, high: float | None, gaussian: bool) -> None:
    rng = np.random.default_rng(0)
    w = rng.beta(0.7, 3, 2000) * 8.9 + 0.05
    map = MarginalTransform.of(w, low, high, gaussian=gaussian)
    at = np.concatenate([np.sort(w), [1e-3, 8.99] if low is not None or high is not None else [-40.0, 60.0]])
    y, log_slope = map.forward(at)
    assert np.allclose(map.inverse(y), at, rtol=1e-9, atol=1e-9)
    h = 1e-6
    slope = (map.forward(at + h)[0] - map.forward(at - h)[0]) / (2 * h)
    assert np.allclose(np.log(slope), log_slope, atol=2e-3)
    if gaussian:
        assert abs(y[:2000].mean()) < 0.1
        assert abs(y[:2000].std() - 1) < 0.1


def test_which_columns_are_bent() -> None:
    rng = np.random.default_rng(0)
    heavy = rng.standard_t(2, 3000)
    table = {
        "skewed": rng.gumbel(size=3000),
        "heavy": heavy,
        "flat": rng.uniform(-1, 2, 3000),
        "rounded": heavy.round(1),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rounded values
        schema = pf.infer_schema(table)
    assert {c.name for c in schema.columns if len(c.knots) > 2} == {"skewed", "flat"}
    few = pf.infer_schema({"skewed": rng.gumbel(size=500)})
    assert len(few["skewed"].knots) == 2
    for column in schema.columns:  # as it is where it is given
        straight, quartiles = column.without_spline(), np.array([-0.6745, 0.6745])
        assert len(straight.knots) == 2
        assert np.allclose(straight.marginal.inverse(quartiles), column.marginal.inverse(quartiles))


def test_what_a_csv_holds(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = ["id,n,x,when,ok,word,code"]
    rng = np.random.default_rng(0)
    for i in range(60):
        x = "" if i % 7 == 0 else f"{rng.normal():.5f}"
        lines.append(f"u{i:04},{rng.integers(100, 999)},{x},2024-01-{i % 28 + 1:02} 10:{i:02}:0{i % 7},"
                     f"{'TRUE' if i % 3 else 'FALSE'},{'NA' if i % 5 == 0 else 'abc'[i % 3]},{i % 4}")  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match="'id' is left out: its text is unique in each row"):
        schema = pf.infer_schema(read_table(path))
    assert [c.kind for c in schema.columns] == ["dropped", "integer", "real", "date", "category", "category", "integer"]
    assert schema["x"].missing
    assert schema["word"].missing
    with pytest.warns(UserWarning, match="'id' is left out"):
        density = pf.fit_table(read_table(path), kinds={"code": "category"}, steps=3, progress="none", stack=False)
    drawn = density.sample(20, generator=0)
    assert [str(t) for t in drawn.schema.types] == ["int64", "double", "timestamp[s]", "bool", "string", "string"]
    assert torch.isfinite(density.log_prob(read_table(path))).all()
    assert set(drawn["code"].to_pylist()) <= set("0123")

    path.write_text("a,b\n" + "\n".join(f"{i}.5,{i % 2}" for i in range(40)) + "\nfour,1\n")
    with pytest.raises(ValueError, match="'a' is numeric, but holds text: row 41 'four'"):
        pf.infer_schema(read_table(path))


@quiet
def test_a_declared_step_may_have_its_median_between_two_values() -> None:
    column = pf.infer_schema({"x": np.repeat([0.01, 0.02, 0.05, 0.06], 10)}, {"x": "quantised:0.01"})["x"]
    assert column.step == 0.01


@quiet
def test_dates_of_a_csv_come_back_as_dates(tmp_path: Path) -> None:
    days = [f"2024-03-{1 + i % 28:02d}" for i in range(300)]
    lines = [f"{day},{i % 7}.5" for i, day in enumerate(days)]
    (tmp_path / "days.csv").write_text("\n".join(["day,x", *lines]) + "\n")
    density = pf.fit_table(read_table(tmp_path / "days.csv"), steps=10, progress="none", stack=False)
    drawn = density.sample(50, generator=0).column("day")
    assert drawn.type == pa.date32()
    assert {str(day) for day in drawn.to_pylist()} <= set(days)
    rows = "day,x\n2024-03-02 00:00:00,1.5\n2024-03-02 12:00:00,1.5\n"
    (tmp_path / "times.csv").write_text(rows)
    with pytest.warns(UserWarning, match="1 with a time of day, where it had dates alone"):
        scores = density.log_prob(read_table(tmp_path / "times.csv"))
    assert torch.isfinite(scores[0])
    assert scores[1] < scores[0] - 1


def test_many_categories_are_grouped_and_keep_their_mass() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(3000)])[np.minimum(rng.zipf(1.3, 20_000), 3000) - 1]
    with pytest.warns(UserWarning, match="rarest are grouped"):
        density = pf.fit_table({"word": words}, steps=5, progress="none", stack=False)
    column = density.schema["word"]
    assert column.own == 256
    total = density.log_prob({"word": list(column.categories)}).exp().sum()
    assert float(total) == pytest.approx(1 - column.unseen, abs=1e-4)
    drawn = set(density.sample(3000, generator=0)["word"].to_pylist())
    assert drawn <= set(words)
    assert drawn & set(column.categories[256:])


def test_row_numbers_are_left_out_but_only_of_named_tables() -> None:
    rng = np.random.default_rng(0)
    rows = {"No": np.arange(1, 101), "x": rng.normal(size=100)}
    with pytest.warns(UserWarning, match="'No' is left out: it counts the rows"):
        assert pf.infer_schema(rows).names == ["x"]
    assert pf.infer_schema(rows, {"No": "integer"}).names == ["No", "x"]
    array = np.column_stack([np.arange(100), rng.integers(0, 1000, 100)])
    assert pf.infer_schema(array).names == ["x0", "x1"]


@quiet
def test_coarse_steps_sentinels_and_shares() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    mixed = np.where(rng.random(n) < 0.9, rng.poisson(60, n), np.round(rng.gamma(9, 7, n), 3))
    sentinel = np.where(rng.random(n) < 0.005, -999.0, rng.normal(size=n))
    schema = pf.infer_schema({"mixed": mixed, "sentinel": sentinel, "share": rng.beta(1, 1, n)})
    assert schema["mixed"].coarse.step == 1
    assert schema["mixed"].step == pytest.approx(0.001)
    assert schema["sentinel"].atoms == (-999.0,)
    assert schema["share"].kind == "bounded"
    density = pf.fit_table({"mixed": mixed}, schema=None, steps=60, progress="none", stack=False)
    drawn = density.sample(4000, generator=0)["mixed"].to_numpy()
    assert abs((drawn == np.round(drawn)).mean() - 0.9) < 0.03
    assert np.allclose(drawn, np.round(drawn, 3))
    # Whole numbers have nearly all the mass that whole numbers can have.
    assert float(density.log_prob({"mixed": np.arange(200.0)}, draws=16).exp().sum()) == pytest.approx(0.9, abs=0.05)


@quiet
def test_steps_and_bounds_that_a_person_would_not_see_are_not_found() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    rain = np.where(rng.random(n) < 0.9, 0.0, np.round(0.1 + rng.exponential(2.0, n), 1))
    rain = np.where(rng.random(n) < 0.03, 0.1, rain)  # a frequent value is not a step of its own
    scaled = rng.gamma(3.0, size=n)
    scaled = (scaled - scaled.min()) / np.ptp(scaled)  # 0 and 1 are one row each, not bounds that shares crowd at
    magnitude = np.where(np.arange(n) == 7, 99.0, rng.normal(24, 1, n))
    shares = np.where(rng.random(n) < 0.01, 1.0, rng.beta(0.5, 0.5, n))
    table = {"rain": rain, "scaled": scaled, "magnitude": magnitude, "shares": shares}
    schema = pf.infer_schema(table)
    assert schema["rain"].coarse is None
    assert schema["rain"].step == pytest.approx(0.1)
    assert schema["scaled"].kind == "real"
    assert schema["magnitude"].atoms == (99.0,)
    assert schema["shares"].kind == "bounded"
    assert 1.0 in schema["shares"].atoms
    density = pf.fit_table(table, schema=schema, steps=2, progress="none", stack=False)
    assert torch.isfinite(density.log_prob(table)).all()


@quiet
def test_the_step_of_scaled_values_is_found_among_others() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    level = rng.poisson(100, n) / 428 - 0.01
    level = np.where(rng.random(n) < 0.02, rng.random(n), level)  # some lie between: they were imputed
    column = pf.infer_schema({"level": level})["level"]
    assert column.coarse.step == pytest.approx(1 / 428)
    assert column.step is None
    on = column.coarse.holds(level)
    assert 0.97 < on.mean() < 0.99
    density = pf.fit_table({"level": level}, steps=30, progress="none", stack=False)
    drawn = density.sample(2000, generator=0)["level"].to_numpy()
    assert abs(density.schema["level"].coarse.holds(drawn).mean() - on.mean()) < 0.02


@quiet
@pytest.mark.parametrize("finer", [1, 10])
def test_scaled_decimals_come_back_as_they_were_written(finer: int) -> None:
    rng = np.random.default_rng(0)
    whole = rng.poisson(100, 3000)
    tenths = finer * whole + (rng.integers(finer, size=3000) if finer > 1 else 0) * (rng.random(3000) < 0.05)
    span = np.ptp(tenths)
    level = np.array([float(f"{v:.12g}") for v in (tenths - tenths.min()) / span])
    rows = read({"level": level})
    column = pf.infer_schema(rows)["level"]
    assert column.step == pytest.approx(1 / span, rel=1e-12)
    assert (column.coarse is None) == (finer == 1)
    code = column.encode(rows.column("level"))
    again = column.decode(code.state, code.base + 0.37 * code.width, np.random.default_rng(0))
    assert (again.require_numbers() == level).all()


@quiet
def test_few_rounded_values_among_many_continuous_ones() -> None:
    rng = np.random.default_rng(0)
    income = np.where(rng.random(9000) < 0.6, rng.integers(20, 60, 9000), rng.uniform(20, 60, 9000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        column = pf.infer_schema({"income": income})["income"]
    assert (column.step, column.coarse.step, column.coarse.digits) == (None, 1.0, None)


@quiet
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("penguins.csv", "category category quantised quantised integer integer category"),
        ("diamonds.csv", "quantised" + " category" * 3 + " quantised" * 2 + " integer" + " quantised" * 3),
        ("taxis.csv", "date date integer quantised quantised quantised quantised quantised" + " category" * 6),
    ],
)  # fmt: skip
def test_schemas_of_real_tables(name: str, expected: str) -> None:
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"the data set {name} is not here")
    assert [c.kind for c in pf.infer_schema(read_table(path)).columns] == expected.split()


def nearly_determined(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal rows (N, 4) of columns that nearly determine each other, others, and the log-densities of these."""
    rng = np.random.default_rng(0)
    factor = np.tril(np.ones((4, 4)))
    factor[[2, 3], [2, 3]] = 0.02, 0.01
    rows, noise = rng.normal(size=(n, 4)) @ factor.T, rng.normal(size=(2000, 4))
    truth = -0.5 * (noise**2).sum(1) - 2 * np.log(2 * np.pi) - np.log(factor.diagonal()).sum()
    return rows, noise @ factor.T, truth


def test_splines_give_way_where_they_hide_what_holds_between_columns() -> None:
    rows, others, truth = nearly_determined(2000)
    size = np.exp(3 * rows[:, 0])
    for columns, straight in ((rows, [0, 1, 2, 3]), (rows[:, [0]], []), (np.c_[size, rows[:, 1:]], [1, 2, 3])):
        kinds = pf.infer_schema(columns).columns
        assert [k for k, kind in enumerate(kinds) if len(kind.marginal.knots) == 2][-len(straight) :] == straight
    density = pf.fit_table(rows, steps=20, progress="none", stack=False)
    assert float(density.log_prob(others).mean()) > truth.mean() - 0.3
    splines = pf.infer_schema(rows, gaussian=True)
    assert all(len(kind.marginal.knots) > 2 for kind in splines.columns)


def test_maps_of_what_is_no_size_are_linear_in_the_values() -> None:
    rng = np.random.default_rng(0)
    number = rng.choice(400, 300, replace=False) + 1
    income = np.round(np.exp(rng.normal(10, 1, 300)))
    schema = pf.infer_schema({"number": number, "income": income})
    low, middle, high = schema["number"].marginal.forward(np.array([100.0, 200.0, 300.0]))[0]
    assert high - middle == pytest.approx(middle - low, rel=1e-3)
    assert schema["number"].marginal.forward(np.array([1e-9]))[0] < -5  # nothing lies below the bound
    assert len(schema["income"].marginal.knots) == 2
    area = np.round(number**2 * np.exp(0.01 * rng.normal(size=300)), 3)  # whose logarithm is linear in that of a number
    assert all(len(c.marginal.knots) == 2 for c in pf.infer_schema({"number": number, "area": area}).columns)
    share = rng.uniform(1, 100, 300)
    twins = pf.infer_schema({"share": share, "twin": share + 0.2 * rng.normal(size=300)})
    assert all(len(c.marginal.knots) > 2 for c in twins.columns)
    with_user = pf.infer_schema({"number": number}, gaussian=False)
    assert len(with_user["number"].marginal.knots) == 2


def test_samples_of_row_numbers_end_near_the_largest() -> None:
    rng = np.random.default_rng(0)
    number = rng.choice(400, 300, replace=False) + 1
    density = pf.fit_table({"number": number, "x": rng.normal(size=300)}, steps=300, progress="none")
    drawn = density.sample(20_000, generator=0).to_pandas()["number"]
    assert (drawn > 1.25 * number.max()).mean() < 1e-3
    assert drawn.min() >= 1


@pytest.mark.parametrize("end", [".000", ".000Z", ""])
def test_dates_as_pandas_and_javascript_write_them_into_json(end: str, tmp_path: Path) -> None:
    days = [f"2024-{1 + i // 28 % 12:02}-{1 + i % 28:02}T00:00:00{end}" for i in range(300)]
    schema = pf.infer_schema({"when": days, "x": np.random.default_rng(0).normal(size=300)})
    assert schema["when"].kind == "date"
    density = pf.fit_table({"when": days, "x": np.arange(300.0) % 17}, steps=2, progress="none", stack=False)
    drawn = density.sample(20, generator=0)["when"].to_pylist()
    assert all(len(text) == len(days[0]) and text.endswith(f"T00:00:00{end}") for text in drawn)


@pytest.mark.parametrize("of", [np.exp, np.positive])
def test_numbers_so_rare_that_a_sample_of_the_rows_holds_none(of: np.ufunc) -> None:
    n, rng = 40_000, np.random.default_rng(0)
    others = np.setdiff1d(np.arange(n), np.linspace(0, n - 1, SCORED_ROWS).astype(int))
    sparse = np.full(n, np.nan)
    sparse[rng.choice(others, 2000, replace=False)] = of(2 * rng.normal(size=2000))
    for x in (sparse, np.nan_to_num(sparse)):
        schema = pf.infer_schema({"x": x, "y": rng.normal(size=n)})
        assert [c.modelled for c in schema.columns] == [True, True]
