"""Densities of mixed tables: a known truth, mass one, conditions, members, new values, outliers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import Frame, read
from pushforward.tables import Schema, TableDensity
from pushforward.tables.embedder import Embedder
from pushforward.tables.mass import MassFunction
from pushforward.tables.widening import widen

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
    log_p = mass._log_softmax(torch.tensor([[0, 1, 2, 0]]), None)[0]
    changed = mass._log_softmax(torch.tensor([[0, 1, 0, 2]]), None)[0]
    assert torch.equal(log_p[:, :9], changed[:, :9])
    assert not torch.allclose(log_p[:, 9:], changed[:, 9:])


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


@pytest.mark.filterwarnings("ignore::UserWarning")
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
    with pytest.raises(ValueError, match="members must be a whole number of at least 1, got"):
        pf.fit_table(table, members=0)


def test_a_row_with_new_values_is_told_counted_and_unlikely(small: TableDensity) -> None:
    rows = {k: v[:6].copy() for k, v in synthetic(10, 0)[0].items()}
    rows["colour"] = np.array(["red", "pink", "green", "pink", "blue", "red"])
    rows["tip"][0] = -1.0
    with pytest.warns(
        UserWarning, match=r"3 of 6 rows hold what was never seen in training: .*'colour': 2 .*'pink'.*'tip': 1 "
    ) as caught:
        log_prob = small.log_prob(rows)
    assert len(caught) == 1
    assert torch.isfinite(log_prob).all()
    usual = small.log_prob({k: v[:6] for k, v in synthetic(10, 0)[0].items()})
    assert (log_prob < usual)[[0, 1, 3]].all()


def test_text_among_numbers_at_score_time(small: TableDensity) -> None:
    rows = synthetic(5, 0)[0] | {"count": ["1", "2", "x", "4", "5"]}
    with pytest.raises(ValueError, match=r"'count' .*text"):
        small.log_prob(rows)
    with pytest.raises(ValueError, match="lacks column 'share' of the model"):
        small.log_prob({k: v for k, v in rows.items() if k != "share"})


def test_a_flow_that_is_too_narrow_is_widened(tmp_path: Path) -> None:
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    flow = pf.real_nvp(2, depth=2, seed=0)
    pf.fit(flow, x, steps=20, progress="none")
    wider = 1.6 * x[:500] * (1 + torch.arange(500)[:, None] % 10 / 10)  # wider than what was learned, with a tail
    flow.requires_grad_(False)
    before = -float(flow.log_prob(wider).mean())
    gained = widen(flow, wider, None, None)
    assert gained > 0.3
    assert -float(flow.log_prob(wider).mean()) == pytest.approx(before - gained, abs=1e-4)
    assert widen(flow, wider, None, None) == 0.0  # once is enough
    grid = torch.cartesian_prod(*[torch.linspace(-14, 14, 281)] * 2)
    assert float(flow.log_prob(grid).exp().sum()) * 0.01 == pytest.approx(1, abs=1e-2)
    pf.save(flow, tmp_path / "m.safetensors")
    torch.testing.assert_close(pf.load(tmp_path / "m.safetensors").log_prob(wider), flow.log_prob(wider))


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


@pytest.mark.parametrize("kinds", [{}, {"x2": "drop"}])
def test_columns_of_arrays_keep_their_places_beside_what_is_given(kinds: dict[str, str]) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)) * [1, 10, 100] + [0, 50, 500]
    density = pf.fit_table(x, given=["x0"], kinds=kinds, steps=5, stack=False, progress="none")
    log_prob = density.log_prob(x)
    assert density.log_prob(density.space.read(x)).equal(log_prob)
    beside = x[:, 1:2] if kinds else x[:, 1:]
    assert density.log_prob(beside, x[:, :1]).equal(log_prob)
    assert density.latent(beside, x[:, :1]).equal(density.latent(x))


def test_a_mixture_of_tables_refuses_a_negative_number_of_samples() -> None:
    densities = [pf.fit_table({"x": np.arange(50) ** 1.5}, steps=2, stack=False, progress="none") for _ in range(2)]
    with pytest.raises(ValueError, match="the number of samples must be at least 0, got -1"):
        pf.Mixture(densities).sample(-1)
