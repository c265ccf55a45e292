"""Densities of mixed tables: a known truth, mass one, schemas that a person agrees with, valid samples, files."""

from __future__ import annotations

import datetime
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import Frame, read
from pushforward.io.tables import read_table
from pushforward.tables import Schema, TableDensity
from pushforward.tables.columns import request_of
from pushforward.tables.columns.marginal import MarginalTransform
from pushforward.tables.mass import Embedder, MassFunction
from pushforward.tables.widening import widen

quiet = pytest.mark.filterwarnings("ignore::UserWarning")
KINDS = {"share": "bounded:0:1"}


NAMES = np.array(["red", "green", "blue"])
COLOUR, RATE, TIPPED = np.array([0.5, 0.3, 0.2]), np.array([20.0, 60.0, 150.0]), np.array([0.8, 0.5, 0.2])
ALPHA, BETA, MISSING = np.array([2.0, 4.0, 3.0]), np.array([4.0, 2.0, 3.0]), np.array([0.3, 0.1, 0.1])


def synthetic(n: int, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """A mixed table of n rows, and their exact log-densities.

    colour is a category; count an integer; tip has an atom at 0 and is else log-normal; share is bounded; size is
    missing at a rate that depends on the colour.
    """
    rng = np.random.default_rng(seed)
    i = rng.choice(3, n, p=COLOUR)
    count = rng.poisson(RATE[i])
    tip = np.where(rng.random(n) < TIPPED[i], np.exp(0.5 * rng.normal(size=n) + 0.01 * count), 0.0)
    share = rng.beta(ALPHA[i], BETA[i])
    size = np.where(rng.random(n) < MISSING[i], np.nan, 10 * share + 2 * rng.normal(size=n))
    rows = {"colour": NAMES[i], "count": count, "tip": tip, "share": share, "size": size}
    return rows, log_truth(rows)


def log_truth(rows: dict[str, Any]) -> np.ndarray:
    """Exact log-density of rows (N,)."""
    i = np.argmax(rows["colour"][:, None] == NAMES, 1)
    count, tip, share, size = (rows[k] for k in ("count", "tip", "share", "size"))
    log_gamma = np.vectorize(math.lgamma)
    log_p = np.log(COLOUR[i]) + count * np.log(RATE[i]) - RATE[i] - log_gamma(count + 1.0)
    t = np.log(np.where(tip > 0, tip, 1.0))
    given_tip = normal(t, 0.01 * count, 0.5) - t + np.log(TIPPED[i])
    log_p += np.where(tip > 0, given_tip, np.log(1 - TIPPED[i]))
    a, b = ALPHA[i], BETA[i]
    log_p += (a - 1) * np.log(share) + (b - 1) * np.log1p(-share) + log_gamma(a + b) - log_gamma(a) - log_gamma(b)
    there = normal(np.nan_to_num(size), 10 * share, 2.0) + np.log(1 - MISSING[i])
    return log_p + np.where(np.isnan(size), np.log(MISSING[i]), there)


def normal(x: Any, mean: Any, std: float) -> Any:
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)


def test_the_schema_of_the_synthetic_table() -> None:
    schema = pf.infer_schema(synthetic(3000, 0)[0], KINDS)
    assert [c.kind for c in schema.columns] == ["category", "integer", "positive", "bounded", "real"]
    assert schema["tip"].atoms == (0.0,)
    assert [c.missing for c in schema.columns] == [False, False, False, False, True]
    assert schema["colour"].categories[0] == "red"
    shown = schema.describe()
    assert "atom at 0" in shown
    assert "missing cells" in shown
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.fixture(scope="module")
def small() -> TableDensity:
    return pf.fit_table(synthetic(2000, 0)[0], kinds=KINDS, steps=150, depth=4, width=32, progress="none", stack=False)


def test_a_short_training_comes_near_the_truth(small: TableDensity) -> None:
    rows, truth = synthetic(4000, 1)
    gap = float(truth.mean() - small.log_prob(rows).mean())
    assert -0.1 < gap < 1.0
    summary = small.training_summary
    assert summary is not None
    assert abs(-summary["best_val_nll"] - truth.mean()) < 1.0  # what training quotes is the table's density


@pytest.mark.slow
def test_the_truth_is_reached() -> None:
    rows, _ = synthetic(20_000, 0)
    density = pf.fit_table(rows, kinds=KINDS, steps=3000, progress="none", stack=False)
    test, truth = synthetic(20_000, 1)
    gap = float(truth.mean() - density.log_prob(test, draws=16).mean())
    assert -0.03 < gap < 0.05
    assert abs(total_mass(density, 40_000) - 1) < 0.01


def total_mass(density: TableDensity, n: int) -> float:
    """Sum over the states, integral over the numbers: importance sampling from the truth with a tenth of broad rows,
    so that no mass far from the truth is overlooked."""
    rng = np.random.default_rng(0)
    broad = {
        "colour": rng.choice(NAMES, n),
        "count": rng.integers(0, 230, n),
        "tip": np.where(rng.random(n) < 0.5, np.exp(rng.normal(0.8, 1.5, n)), 0.0),
        "share": rng.random(n),
        "size": np.where(rng.random(n) < 0.5, np.nan, rng.normal(5, 8, n)),
    }
    wide = rng.random(n) < 0.1
    rows = {k: np.where(wide, broad[k], v) for k, v in synthetic(n, 5)[0].items()}
    tip, size = rows["tip"], rows["size"]
    t = np.log(np.where(tip > 0, tip, 1.0))
    log_broad = -math.log(3 * 230 * 4) + np.where(tip > 0, normal(t, 0.8, 1.5) - t, 0.0)
    log_broad = log_broad + np.where(np.isnan(size), 0.0, normal(np.nan_to_num(size), 5.0, 8.0))
    log_q = np.logaddexp(math.log(0.9) + log_truth(rows), math.log(0.1) + log_broad)
    return float(np.exp(density.log_prob(rows, draws=8).numpy() - log_q).mean())


def test_mass_and_integral_are_one() -> None:
    # One column of each sort, small enough to add up every state and integrate the rest on a grid.
    rng = np.random.default_rng(0)
    n = 1500
    flag = rng.choice(["a", "b"], n, p=[0.7, 0.3])
    value = np.where(rng.random(n) < 0.4, 0.0, np.where(flag == "a", 0.0, 3.0) + rng.normal(size=n))
    value = np.where(rng.random(n) < 0.1, np.nan, value)
    density = pf.fit_table({"flag": flag, "value": value}, steps=60, depth=2, width=16, progress="none", stack=False)
    assert density.schema["value"].atoms == (0.0,)
    grid = np.linspace(-15, 18, 20_001)
    grid = grid[grid != 0]
    total = 0.0
    for name in ("a", "b"):
        single = density.log_prob({"flag": [name, name], "value": [0.0, np.nan]}).exp().sum()
        inner = density.log_prob({"flag": np.full(len(grid), name), "value": grid}, draws=1).exp().sum()
        total += float(single + inner * (33 / 20_000))
    assert abs(total - 1) < 1e-2


def test_the_mass_of_integers_is_one() -> None:
    rng = np.random.default_rng(0)
    density = pf.fit_table({"count": rng.poisson(40, 2000)}, steps=100, progress="none", stack=False)
    assert density.schema["count"].kind == "integer"
    total = density.log_prob({"count": np.arange(0, 140)}, draws=64).exp().sum()
    assert abs(float(total) - 1) < 1e-2
    k = np.arange(20, 60)
    truth = k * math.log(40) - 40 - np.array([math.lgamma(i + 1.0) for i in k])
    few, many = (density.log_prob({"count": k}, draws=d).numpy() for d in (1, 64))
    p = np.exp(truth)
    assert (p * (many - truth)).sum() > -0.1
    assert abs((p * (few - many)).sum()) < 0.1


@pytest.mark.filterwarnings("ignore:.*never seen")
def test_few_values_are_exact_and_unseen_ones_rare() -> None:
    values = np.repeat([0, 1, 2, 5], [400, 300, 200, 100])
    density = pf.fit_table({"k": values}, steps=5, stack=False, progress="none")
    assert density.inner.flow is None
    p = density.log_prob({"k": [0, 1, 2, 5, 3]}).exp()
    assert torch.allclose(p[:4], torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64), atol=0.01)
    assert 0 < float(p[4]) < 1e-3
    assert set(density.sample(500, generator=0)["k"].to_pylist()) <= {0, 1, 2, 5}


def test_the_mass_function_is_normalised_and_conditional() -> None:
    given = Embedder([3, 40], reals=1, generator=torch.Generator().manual_seed(0))
    mass = MassFunction([2, 3, 4], given, width=40, seed=0)
    states = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4))
    one = torch.tensor([[2.0, 39.0, 0.5]])
    other = torch.tensor([[0.0, 3.0, -1.5]])
    for row in (one, other):
        assert float(mass(states, row.expand(24, -1)).detach().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(mass(states, one.expand(24, -1)), mass(states, other.expand(24, -1)))
    unknown = torch.tensor([[3.0, 40.0, 0.0]])
    assert torch.equal(given(unknown), torch.zeros(1, given.features_out))
    drawn = mass.sample(1, one.expand(4000, -1), generator=torch.Generator().manual_seed(0))
    code = drawn[0] @ torch.tensor([12, 4, 1])
    seen = torch.bincount(code, minlength=24) / 4000
    assert (seen - mass(states, one.expand(24, -1)).exp()).abs().max() < 0.03


def test_each_factor_sees_only_the_columns_before_it() -> None:
    mass = MassFunction([3, 3, 3, 3], seed=1)
    log_p = mass._log_softmax(torch.tensor([[0, 1, 2, 0]]), None)
    changed = mass._log_softmax(torch.tensor([[0, 1, 0, 2]]), None)
    assert torch.equal(log_p[:, :9], changed[:, :9])
    assert not torch.allclose(log_p[:, 9:], changed[:, 9:])


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


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 400
    return pd.DataFrame(
        {
            "real": rng.normal(size=n).astype(np.float32),
            "tenth": np.round(rng.normal(20, 3, n), 1),
            "whole": rng.integers(0, 500, n).astype(np.int16),
            "money": rng.lognormal(3, 1, n),
            "angle": rng.uniform(0, 360, n),
            "when": pd.Timestamp("2021-05-01", tz="Europe/Berlin") + pd.to_timedelta(rng.integers(0, 9999, n), "h"),
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in rng.integers(0, 900, n)],
            "flag": rng.random(n) < 0.3,
            "grade": pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True),
            "word": rng.choice(["x", "yy", None], n),
            "gap": np.where(rng.random(n) < 0.25, np.nan, rng.normal(size=n)),
            "same": 7,
            "nothing": np.full(n, np.nan),
        }
    )


@pytest.fixture(scope="module")
def wide() -> TableDensity:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings: dict[str, Any] = {"steps": 20, "depth": 2, "width": 16, "stack": False, "progress": "none"}
        return pf.fit_table(frame(), kinds={"angle": "circular:360"}, **settings)


def test_kinds_of_a_frame(wide: TableDensity) -> None:
    found = {c.name: c.kind for c in wide.schema.columns}
    assert found == {
        "real": "real", "tenth": "quantised", "whole": "integer", "money": "positive", "angle": "circular",
        "when": "date", "day": "date", "flag": "category", "grade": "category", "word": "category", "gap": "real",
        "same": "constant", "nothing": "empty",
    }  # fmt: skip
    assert wide.schema["tenth"].step == pytest.approx(0.1)
    assert "an hour" in wide.schema["when"].describe()
    assert "a day" in wide.schema["day"].describe()


def test_samples_are_valid_rows(wide: TableDensity) -> None:
    data = pa.Table.from_pandas(frame(), preserve_index=False)
    drawn = wide.sample(3000, generator=0)
    assert drawn.column_names == data.column_names
    for name, kind in zip(data.column_names, data.schema.types, strict=True):
        if not pa.types.is_dictionary(kind):
            assert drawn.schema.field(name).type == kind, name
    assert drawn.schema.field("grade").type.ordered
    rows = drawn.to_pandas()
    assert np.isfinite(rows["real"]).all()
    assert np.allclose(rows["tenth"], rows["tenth"].round(1))
    assert rows["whole"].min() >= 0
    assert (rows["money"] > 0).all()
    assert rows["angle"].between(0, 360).all()
    assert (rows["when"].dt.minute == 0).all()
    assert set(rows["flag"]) == {True, False}
    assert set(rows["grade"]) == {"low", "mid", "high"}
    assert set(rows["word"].dropna()) == {"x", "yy"}
    assert abs(rows["word"].isna().mean() - frame()["word"].isna().mean()) < 0.08
    assert abs(rows["gap"].isna().mean() - frame()["gap"].isna().mean()) < 0.08
    assert set(rows["same"]) == {7}
    assert rows["nothing"].isna().all()
    assert torch.isfinite(wide.log_prob(drawn)).all()
    assert wide.sample(50, generator=1).equals(wide.sample(50, generator=1))
    assert not wide.sample(50).equals(wide.sample(50))
    assert wide.sample(0).num_rows == 0


def test_cells_come_back_from_their_code(wide: TableDensity) -> None:
    rows = read(frame())
    for column, cells in zip(wide.schema.columns, rows.columns, strict=True):
        code = column.encode(cells)
        w = code.base + code.width * 0.37
        values, again = cells.to_arrow(), column.decode(code.state, w, np.random.default_rng(0)).to_arrow()
        left, right = (np.array(c.to_pylist(), dtype=object) for c in (values, again))
        if values.type == pa.float32() or column.kind in ("real", "positive", "circular"):
            a, b = (np.array([np.nan if v is None else v for v in c], dtype=float) for c in (left, right))
            assert np.allclose(a, b, equal_nan=True), column.name
        else:
            missing = [v is None or v != v for v in left]
            assert missing == [v is None for v in right], column.name
            assert all(m or a == b for m, a, b in zip(missing, left, right, strict=True)), column.name


def test_a_row_scores_the_same_in_any_table(wide: TableDensity) -> None:
    table = frame()
    scores = wide.log_prob(table, draws=2)
    assert scores.dtype == torch.float64
    assert torch.allclose(wide.log_prob(table.iloc[[7]], draws=2), scores[7], atol=1e-4)
    assert torch.allclose(wide.log_prob(table.iloc[::-1], draws=2), scores.flip(0), atol=1e-4)
    assert torch.allclose(wide.log_prob(table[table.columns[::-1]], draws=2), scores, atol=1e-4)
    assert torch.allclose(wide.log_prob(pl.from_pandas(table), draws=2), scores, atol=1e-4)
    assert wide.latent(table).shape == (400, len(wide.space.numbers))


def test_the_global_generator_is_left_alone(wide: TableDensity) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    wide.sample(10, generator=0)
    wide.log_prob(frame())
    pf.fit_table({"a": np.arange(30) % 7 + 0.123 * np.arange(30)}, steps=3, progress="none", stack=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == legacy).all()  # type: ignore[index]


@pytest.mark.slow
def test_conditional_densities(tmp_path: Path) -> None:
    rows, truth = synthetic(2000, 0)
    given = ["colour", "size", "share"]
    density = pf.fit_table(rows, given=given, steps=150, depth=4, width=32, progress="none", stack=False)
    assert density.targets == ["count", "tip"]
    log_prob = density.log_prob(rows)
    assert log_prob.shape == (2000,)
    assert float(log_prob.mean()) > truth.mean()  # less is to be said, given the rest
    drawn = density.sample(200, {"colour": ["red", "blue"], "size": [3.0, None], "share": [0.2, 0.5]}, generator=0)
    assert drawn.column_names == list(rows)
    assert drawn["colour"].to_pylist() == ["red"] * 200 + ["blue"] * 200
    count = drawn["count"].to_numpy()
    assert abs(count[:200].mean() - 20) < 8
    assert abs(count[200:].mean() - 150) < 25
    with pytest.raises(ValueError, match="conditional: give context, a table of 'colour'"):
        density.sample(3)
    with pytest.raises(ValueError, match="lacks the columns 'share', 'size'"):
        density.sample(3, {"colour": ["red"]})
    with pytest.warns(UserWarning, match="never seen .'pink'.: taken as unknown"):
        assert density.sample(3, {"colour": ["pink"], "size": [1.0], "share": [0.5]}).num_rows == 3
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert again.given == tuple(given)
    torch.testing.assert_close(again.log_prob(rows), log_prob, rtol=1e-6, atol=1e-5)


@quiet
@pytest.mark.slow
def test_members_are_averaged(tmp_path: Path) -> None:
    table, _ = synthetic(400, 0)
    density = pf.fit_table(table, kinds=KINDS, members=3, steps=5, given=["colour"], stack=False, progress="none")
    inner: Any = density.inner
    parts = density.inner_flows(table)
    assert len(parts) == 3
    each = [part.flow.log_prob(part.x, part.context) for part in parts]
    assert not torch.allclose(each[0], each[1])
    mixed = inner.flow.log_prob(parts[0].x, parts[0].context)
    assert torch.allclose(mixed.exp(), torch.stack(each).exp().mean(0), rtol=1e-4)
    pf.save(density, tmp_path / "density.safetensors")
    again = pf.load(tmp_path / "density.safetensors")
    assert len(again.inner_flows(table)) == 3
    assert torch.allclose(again.log_prob(table), density.log_prob(table), rtol=1e-6)
    assert density.sample(2, {"colour": ["red", "blue"]}, generator=0).num_rows == 4
    assert density.latent(table) is None
    report = pf.check(density, table, table)
    assert report["exactness"].verdict == "good"
    with pytest.raises(ValueError, match="members must be at least 1"):
        pf.fit_table(table, members=0)


def test_a_loaded_density_is_the_saved_one(wide: TableDensity, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    pf.save(wide, path, training={"rows": 400})
    again = pf.load(path)
    assert isinstance(again, TableDensity)
    assert again.schema == wide.schema
    assert again.training_summary == {"rows": 400}
    # To rounding: products depend in their last bits on where in memory the weights lie.
    torch.testing.assert_close(again.log_prob(frame()), wide.log_prob(frame()), rtol=1e-6, atol=1e-5)
    found, wanted = (density.sample(20, generator=3).to_pandas() for density in (again, wide))
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-5, atol=1e-5)
    pf.save(again, tmp_path / "second.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        pf.load(path, into=pf.real_nvp(2))


def settings_of(header: dict[str, Any]) -> dict[str, Any]:
    return header["settings"]


def columns_of(header: dict[str, Any]) -> list[Any]:
    return header["settings"]["schema"]["columns"]


def inner_of(header: dict[str, Any]) -> dict[str, Any]:
    return header["settings"]["inner"]["settings"]


HEADERS: dict[str, tuple[Any, str]] = {
    "no columns": (lambda h: settings_of(h)["schema"].pop("columns"), "no list of columns"),
    "a column that is none": (lambda h: columns_of(h).append(3), "column must be an object"),
    "unknown fact": (lambda h: columns_of(h)[0].update(command="rm"), "bad value of 'command'"),
    "unknown kind": (lambda h: columns_of(h)[0].update(kind="os"), "bad value of 'kind'"),
    "kind that is a list": (lambda h: columns_of(h)[0].update(kind=[1]), "bad value of 'kind'"),
    "text for a number": (lambda h: columns_of(h)[1]["lattice"].update(step="1"), "bad value of 'step'"),
    "huge number": (lambda h: columns_of(h)[1]["lattice"].update(origin=1e308), "bad value of 'origin'"),
    "no lattice": (lambda h: columns_of(h)[2].pop("lattice"), "contradict each other"),
    "unsteady knots": (lambda h: columns_of(h)[0]["knots"].reverse(), "contradict each other"),
    "no knots": (lambda h: columns_of(h)[0].update(knots=[]), "contradict each other"),
    "more states": (lambda h: columns_of(h)[7].update(missing=True), "does not fit|expected a context of shape"),
    "given unknown": (lambda h: settings_of(h).update(given=["zebra"]), "none of the modelled ones"),
    "given of a wrong kind": (lambda h: settings_of(h).update(given="abc"), "list of column names"),
    "all given": (lambda h: settings_of(h).update(given=[c["name"] for c in columns_of(h)]), "column is given"),
    "huge mass": (lambda h: inner_of(h).update(mass_width=10**9), "bad mass_width"),
    "sizes that are none": (lambda h: inner_of(h).update(sizes="22"), "bad sizes"),
    "no flow": (lambda h: inner_of(h).update(flow=None), "does not fit"),
    "no inner density": (lambda h: settings_of(h).pop("inner"), "unknown kind of density"),
    "impossible share": (lambda h: settings_of(h).update(unsampled=2), "bad unsampled"),
    "twice a name": (lambda h: columns_of(h).append(columns_of(h)[0]), "two columns of one name"),
    "settings of a wrong kind": (lambda h: h.update(settings=[1]), "unknown kind of density"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_header_gets_one_clear_error(name: str, wide: TableDensity, tmp_path: Path) -> None:
    from pushforward.io.tensors import read_tensors, write_tensors

    path = tmp_path / "m.safetensors"
    pf.save(wide, path)
    header, tensors = read_tensors(path)
    change, message = HEADERS[name]
    change(header)
    write_tensors(path, tensors, header)
    with pytest.raises(ValueError, match=message) as caught:
        pf.load(path)
    assert "m.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_with_new_values_is_told_counted_and_unlikely(small: TableDensity) -> None:
    rows = {k: v[:6].copy() for k, v in synthetic(10, 0)[0].items()}
    rows["colour"] = np.array(["red", "pink", "green", "pink", "blue", "red"])
    rows["tip"][0] = -1.0
    with pytest.warns(
        UserWarning, match=r"3 of 6 rows hold what was never seen in training: .*'colour': 2 .*'pink'.*'tip': 1 "
    ) as told:
        log_prob = small.log_prob(rows)
    assert len(told) == 1
    assert torch.isfinite(log_prob).all()
    usual = small.log_prob({k: v[:6] for k, v in synthetic(10, 0)[0].items()})
    assert (log_prob < usual)[[0, 1, 3]].all()


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no rows": ({"a": []}, {}, "has no rows"),
    "a list": ([1, 2, 3], {}, "expected a pyarrow Table"),
    "text array": (np.array([["a"]]), {}, "array of numbers"),
    "infinity": ({"a": [1.0, np.inf, 2.0]}, {}, "'a' holds inf in row 2"),
    "unknown kind": ({"a": [1.5, 2.5]}, {"a": "number"}, "unknown kind 'number'"),
    "unknown column": ({"a": [1.5, 2.5]}, {"b": "real"}, "a column 'b' that the table has not"),
    "kind without bounds": ({"a": [1.5, 2.5]}, {"a": "bounded"}, "expected bounded:LOW:HIGH"),
    "kind with bad bounds": ({"a": [1.5, 2.5]}, {"a": "bounded:2:1"}, "expected bounded:LOW:HIGH"),
    "outside its bounds": ({"a": [1.5, 2.5]}, {"a": "bounded:0:2"}, "declared within 0 and 2"),
    "negative": ({"a": [-1.5, 2.5]}, {"a": "positive"}, "declared positive, but holds -1.5"),
    "not whole": ({"a": [1.5, 2.0]}, {"a": "integer"}, "declared integer, but holds 1.5"),
    "no date": ({"a": ["x", "y"]}, {"a": "date"}, "has cells that are none"),
    "text for a real": ({"a": ["x", "y"]}, {"a": "real"}, "holds text"),
    "every column left out": ({"a": [1.0, 2.0]}, {"a": "drop"}, "every column was left out"),
    "lists": ({"a": [[1], [2]]}, {}, "no number, date, text or category"),
    "one row": ({"a": [1.5]}, {}, "at least 2 rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line(name: str) -> None:
    table, kinds, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        pf.fit_table(table, kinds=kinds, steps=1, progress="none", stack=False)
    assert "\n" not in str(caught.value)


def test_duplicate_names_and_bad_arguments() -> None:
    twice = pd.DataFrame([[1.5, 2.5]] * 30, columns=["a", "a"])
    with pytest.raises(ValueError, match="more than one column 'a'"):
        pf.infer_schema(twice)
    rows = {"a": np.linspace(0, 1, 40) ** 2}
    for arguments, message in (
        ({"recipe": "magic"}, "unknown recipe 'magic'"), ({"given": ["b"]}, "given column 'b'"),
        ({"given": ["a"]}, "every column is given"), ({"weights": np.ones(3)}, "weights of shape"),
        ({"weights": -np.ones(40)}, "not negative"), ({"val_fraction": 2.0}, "val_fraction"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            pf.fit_table(rows, **({"steps": 1, "progress": "none"} | arguments), stack=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown kind"):
        request_of(())


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


def test_text_among_numbers_at_score_time(small: TableDensity) -> None:
    rows = synthetic(5, 0)[0] | {"count": ["1", "2", "x", "4", "5"]}
    with pytest.raises(ValueError, match=r"'count' .*text"):
        small.log_prob(rows)
    with pytest.raises(ValueError, match="lacks column 'share' of the model"):
        small.log_prob({k: v for k, v in rows.items() if k != "share"})


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


def test_a_flow_that_is_too_narrow_is_widened(tmp_path: Path) -> None:
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    flow = pf.real_nvp(2, depth=2, seed=0)
    pf.fit(flow, x, steps=20, progress="none")
    held = 1.6 * x[:500] * (1 + torch.arange(500)[:, None] % 10 / 10)  # wider than what was learned, with a tail
    flow.requires_grad_(False)
    before = -float(flow.log_prob(held).mean())
    gained = widen(flow, held, None, None)
    assert gained > 0.3
    assert -float(flow.log_prob(held).mean()) == pytest.approx(before - gained, abs=1e-4)
    assert widen(flow, held, None, None) == 0.0  # once is enough
    grid = torch.cartesian_prod(*[torch.linspace(-14, 14, 281)] * 2)
    assert float(flow.log_prob(grid).exp().sum()) * 0.01 == pytest.approx(1, abs=1e-2)
    pf.save(flow, tmp_path / "m.safetensors")
    torch.testing.assert_close(pf.load(tmp_path / "m.safetensors").log_prob(held), flow.log_prob(held))


@pytest.mark.slow
def test_samples_stay_near_what_was_seen_and_outliers_are_scored() -> None:
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(size=1500) + np.where(rng.random(1500) < 0.01, 6.0, 0.0))
    other = 2 * size * np.exp(0.05 * rng.normal(size=1500))
    density = pf.fit_table({"size": size, "other": other}, steps=80, progress="none")
    drawn = density.sample(20_000, generator=0)
    for name in ("size", "other"):
        values, largest = drawn[name].to_numpy(), max(density.schema[name].extent or ())
        assert (values > 0).all()
        assert (values > largest).mean() <= 2 / 1501  # as often as further rows, or twice
        assert (values > 2 * largest).mean() <= 1 / 1501
    far = density.log_prob({"size": [1e6, 1e-6], "other": [1.0, 1e9]})
    assert torch.isfinite(far).all()
    assert (far < density.log_prob({"size": size, "other": other}).min()).all()


@pytest.mark.filterwarnings("ignore:.*never seen")
def test_arrays_small_tables_and_weights() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) * [1, 1e6] + [0, 1e8]
    density = pf.fit_table(x, steps=10, progress="none", stack=False)
    assert density.sample(4, generator=0).column_names == ["x0", "x1"]
    assert torch.isfinite(density.log_prob(torch.from_numpy(x))).all()
    tiny = pf.fit_table({"a": [0.1, 0.7], "b": ["u", "v"]}, steps=3, progress="none", stack=False)
    assert torch.isfinite(tiny.log_prob({"a": [0.3], "b": ["u"]})).all()
    weights = np.where(np.arange(400) % 2, 1.0, 0.0)
    words = np.array(["even", "odd"])[np.arange(400) % 2]
    heavy = pf.fit_table({"w": words}, weights=weights, steps=3, progress="none", stack=False)
    assert float(heavy.log_prob({"w": ["odd"]})) > math.log(0.98)
    names = Frame(read(x).rename(["a", "b"]).columns, named=False)
    assert torch.equal(density.log_prob(names), density.log_prob(x))


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


@pytest.mark.parametrize("end", [".000", ".000Z", ""])
def test_dates_as_pandas_and_javascript_write_them_into_json(end: str, tmp_path: Path) -> None:
    days = [f"2024-{1 + i // 28 % 12:02}-{1 + i % 28:02}T00:00:00{end}" for i in range(300)]
    schema = pf.infer_schema({"when": days, "x": np.random.default_rng(0).normal(size=300)})
    assert schema["when"].kind == "date"
    density = pf.fit_table({"when": days, "x": np.arange(300.0) % 17}, steps=2, progress="none", stack=False)
    drawn = density.sample(20, generator=0)["when"].to_pylist()
    assert all(len(text) == len(days[0]) and text.endswith(f"T00:00:00{end}") for text in drawn)
