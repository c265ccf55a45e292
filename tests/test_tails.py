"""Tails of fitted tables: samples leave the range of the rows as often as further rows would."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.baselines import GaussianMixtureDensity
from pushforward.tables import TableDensity
from pushforward.tables.space import Columns
from pushforward.tables.tails import calibrate_tails

N = 300


def spread(values: Any, width: float) -> TableDensity:
    """A density of one column whose numbers are normal, and `width` times too wide, as its map has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = pf.infer_schema({"x": values})
    variance = torch.full((1, 1, 1), width**2).double()
    inner = GaussianMixtureDensity(torch.ones(1).double(), torch.zeros(1, 1).double(), variance)
    return TableDensity(schema, (), inner)


def beyond(density: TableDensity, values: Any) -> np.ndarray:
    """How far samples lie beyond the values, in their ranges."""
    drawn = density.sample(40_000, generator=1)["x"].to_numpy().astype(float)
    return np.maximum(values.min() - drawn, drawn - values.max()) / float(values.max() - values.min())


@pytest.mark.parametrize("name", ["real", "positive", "integer", "uniform"])
@pytest.mark.parametrize("width", [1.6, 0.8])
def test_samples_leave_the_range_as_often_as_further_rows(name: str, width: float) -> None:
    rng = np.random.default_rng(0)
    values = {
        "real": rng.normal(size=N), "positive": np.exp(rng.normal(size=N)), "uniform": rng.random(N) + 5,
        "integer": np.round(1000 * rng.normal(size=N)).astype(np.int64),
    }[name]  # fmt: skip
    density = spread(values, width)
    before = beyond(density, values)
    calibrate_tails(density, density.space.rows(density.space.read({"x": values})), None, 0)
    after = beyond(density, values)
    ratio = (after > 0).mean() / (2 / (N + 1))
    if width < 1:
        assert ratio > min(0.5, 2 * (before > 0).mean() / (2 / (N + 1)))
    else:
        assert 0.6 < ratio < 1.5
        assert (before > 0).mean() > 3 * (after > 0).mean()
        assert (after > 0.25).mean() < 0.2 * (before > 0.25).mean() + 1e-3


def test_what_is_bent_is_still_a_density_and_is_saved(tmp_path: Any) -> None:
    values = np.random.default_rng(0).normal(size=N)
    density = spread(values, 1.6)
    calibrate_tails(density, density.space.rows(density.space.read({"x": values})), None, 0)
    grid = np.linspace(-40, 40, 400_001)
    mass = float(density.log_prob({"x": grid}).exp().sum()) * (grid[1] - grid[0])
    assert mass == pytest.approx(1 - density.space.unseen_share, abs=1e-4)
    middle = np.quantile(values, [0.2, 0.5, 0.8])
    torch.testing.assert_close(density.log_prob({"x": middle}), spread(values, 1.6).log_prob({"x": middle}))
    pf.save(density, tmp_path / "m.safetensors")
    assert torch.equal(
        pf.load(tmp_path / "m.safetensors").log_prob({"x": grid[::999]}), density.log_prob({"x": grid[::999]})
    )


def test_nothing_is_cut_at_twice_the_range_but_at_ten_times_or_what_the_dtype_holds() -> None:
    rng = np.random.default_rng(0)
    heavy = Columns(pf.infer_schema({"x": rng.standard_cauchy(2000)})).numbers[0]
    low, high = heavy.reach  # type: ignore[attr-defined]
    assert heavy.extent[1] - low > 9 * (heavy.extent[1] - heavy.extent[0])  # type: ignore[attr-defined]
    small = pf.infer_schema({"x": rng.integers(-100, 110, 500).astype(np.int8)})["x"]
    low, high = small.reach
    assert small.lattice.value(np.array([low, high])).tolist() == [-128, 127]


def test_columns_that_determine_each_other_are_not_torn_apart() -> None:
    """Of a sum and its terms, each bent alone: held-out rows in the middle lose nothing, the training rows do."""
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(2, 3 * N))
    order = np.argsort(np.abs(terms).max(0) > 0.8, kind="stable")
    held_out, train = order[: N // 4], order[N // 4 :]
    table = {"a": terms[0], "b": terms[1], "sum": terms.sum(0) + 0.01 * rng.normal(size=3 * N)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = pf.infer_schema(table)
    scale = torch.tensor([float(np.std(column)) for column in table.values()], dtype=torch.float64)
    factors = torch.tensor([[1.6, 0.0, 1.6], [0.0, 1.6, 1.6], [0.0, 0.0, 0.01]], dtype=torch.float64) / scale
    inner = GaussianMixtureDensity(torch.ones(1).double(), torch.zeros(1, 3).double(), (factors.mT @ factors)[None])
    density = TableDensity(schema, (), inner)
    rows = density.space.rows(density.space.read(table))
    before = density.log_prob_of(rows.take(train))
    calibrate_tails(density, rows.take(train), rows.take(held_out), 0)
    assert float((before - density.log_prob_of(rows.take(train))).mean()) < 0.1
