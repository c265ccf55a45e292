"""Columns at the ends of what numbers can be: ties, zeros, huge floats, 64-bit integers, nothing that varies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pushforward as pf
from pushforward.tables.noise import uniforms

RNG = np.random.default_rng(0)

COUNTS = np.random.default_rng(0).permutation(np.r_[0, np.random.default_rng(1).integers(1, 150, 499)])


def fitted(table: Any, **options: Any) -> pf.TableDensity:
    return pf.fit_table(table, steps=20, progress="none", **options)


def test_rows_that_tie_at_an_end_are_bent_into_no_nan() -> None:
    rows = {"visits": RNG.geometric(0.05, 600), "sex": RNG.choice(["m", "f"], 600)}
    density = fitted(rows)
    drawn = density.sample(500, generator=0)["visits"].to_numpy()
    assert len(np.unique(drawn)) > 20
    assert np.isfinite(density.log_prob(rows).numpy()).all()
    assert pf.tables.Schema.from_json(density.schema.to_json()) == density.schema


def test_masses_of_all_integers_add_up_to_one() -> None:
    density = fitted({"v": np.random.default_rng(0).integers(0, 100, 600)})
    masses = density.log_prob({"v": np.arange(400)}, draws=16).exp()
    assert float(masses.sum()) == pytest.approx(1, abs=0.05)
    assert 1e-6 < uniforms(np.zeros((1, 0), np.int64), np.zeros((1, 1)), 0).item() < 1 - 1e-6


@pytest.mark.parametrize(
    "values",
    [
        1e18 * np.exp(2 * RNG.normal(size=500)),
        2e30 * np.exp(RNG.normal(size=500)),
        2**60 + RNG.integers(0, 10**6, 500),
        2**63 - 1 - RNG.integers(0, 900, 500),
        RNG.integers(-(2**63), 2**63 - 1, 500),
    ],
    ids=["1e18", "2e30", "2^60", "2^63", "all"],
)
def test_large_numbers_are_sampled_as_far_as_they_go(values: np.ndarray) -> None:
    density = fitted({"x": values})
    drawn = density.sample(1000, generator=0)["x"].to_numpy()
    assert drawn.dtype == values.dtype
    assert density.unsampled < 0.02
    middle = sorted(values.tolist())[len(values) // 2]
    own, others = (np.array([v - middle for v in part.tolist()], float) for part in (values, drawn))
    low, high = np.quantile(own, [0.1, 0.9])
    assert 0.5 < ((others > low) & (others < high)).mean() < 0.95
    if np.ptp(own) < 1e7:
        assert len(np.unique(drawn)) > 0.4 * min(len(drawn), np.ptp(own))


def test_what_is_given_need_not_vary() -> None:
    density = fitted(pa.table({"g": ["q"] * 120, "z": RNG.normal(size=120)}), given=["g"])
    assert density.sample(2, context={"g": ["q"]}).num_rows == 2
    assert math.isfinite(float(density.log_prob({"g": ["q"], "z": [0.1]})[0]))


def test_times_of_day_stay_within_the_day() -> None:
    seconds = (23 * 3600 + 20 * 60 + 900 * RNG.normal(size=800)).clip(0, 86_399) // 60 * 60
    times = pa.array((seconds * 10**6).astype(np.int64)).cast(pa.time64("us"))
    drawn = fitted(pa.table({"t": times})).sample(2000, generator=0)["t"].cast(pa.int64()).to_numpy()
    assert (drawn % 60_000_000 == 0).all()
    assert drawn.max() < 86_400_000_000


def test_few_even_numbers_are_even_and_few_others_are_not() -> None:
    even = 14 + 2 * RNG.integers(0, 18, 96)
    assert set(np.unique(fitted({"x": even}).sample(300, generator=0)["x"].to_numpy() % 2)) == {0}
    kinds = pf.infer_schema({"x": [1, 3, 5, 1, 3, 5, 3, 1] * 4}).columns
    assert "steps of 2" not in kinds[0].describe()


def test_no_sample_is_many_ranges_away() -> None:
    rows = RNG.gamma(1.0, size=(150, 3)) ** 3
    density = fitted({name: column - 0.001 for name, column in zip("abc", rows.T, strict=True)})
    drawn = density.sample(20_000, generator=0)
    for name, column in zip("abc", rows.T, strict=True):
        assert np.abs(drawn[name].to_numpy()).max() < 12 * np.ptp(column)


@pytest.mark.parametrize("places", [1, 10], ids=["ones", "tens and ones"])
def test_zero_at_the_end_of_a_column_is_sampled_and_nothing_beyond(places: int) -> None:
    values = -np.abs(np.round(np.random.default_rng(0).normal(0, 30, 3000))).astype(np.int64)
    values[::2] *= places
    for sign in (1, -1):
        density = fitted({"x": sign * values}, stack=False)
        kind = density.schema["x"]
        cells = kind.encode_values(sign * np.array([1, 0, -1, -20]))
        for u in (0.01, 0.99):
            assert kind.accepts(cells.state, cells.base + u * cells.width).tolist() == [False, True, True, True]
        drawn = density.sample(4000, generator=0)["x"].to_numpy() * sign
        assert drawn.max() == 0


@pytest.mark.parametrize("step", [1, 10])
def test_zero_is_not_sampled_among_counts_that_were_never_zero(step: int) -> None:
    values = step * np.random.default_rng(0).geometric(0.03, 500)
    density = fitted({"x": values}, stack=False)
    drawn = density.sample(4000, generator=0)["x"].to_numpy()
    assert drawn.min() == step
    assert bool(density.log_prob({"x": [0]}).isfinite())


@pytest.mark.parametrize("values", [1 + 3 * COUNTS, 1 + 10 * COUNTS, -3 - 7 * COUNTS, 2 * COUNTS - 150])
def test_values_next_to_zero_on_lattices_without_it_are_sampled(values: np.ndarray) -> None:
    kind = pf.infer_schema({"x": values})["x"]
    cells = kind.encode_values(values)
    for u in (0.01, 0.99):
        assert kind.accepts(cells.state, cells.base + u * cells.width).all()


def test_integers_beyond_what_float64_counts_have_no_heaps_and_no_uneven_cells() -> None:
    rng = np.random.default_rng(0)
    assert "often" not in pf.infer_schema({"x": rng.integers(0, 2**62, 1500)}).describe()
    values = rng.choice(2**52 + np.unique(rng.integers(0, 10**5, 80)), 1500)
    assert "more often" not in pf.infer_schema({"x": values}).describe()


def test_what_lies_beside_an_atom_is_none() -> None:
    values = np.random.default_rng(0).choice(np.unique(np.random.default_rng(1).integers(0, 10_000, 80)), 1500)
    density = fitted({"x": values}, stack=False)
    atom = density.schema["x"].atoms[0]
    with pytest.warns(UserWarning, match="values it cannot have"):
        scores = density.log_prob({"x": [atom, atom + 0.4]})
    assert float(scores[1] - scores[0]) < -5


@pytest.mark.parametrize(
    "values",
    [RNG.integers(0, 400, 500), RNG.uniform(361, 700, 500), -RNG.integers(0, 300, 500)],
    ids=["above", "far above", "below"],
)
def test_angles_beyond_one_turn_are_an_error(values: Any) -> None:
    with pytest.raises(ValueError, match="of a period of 360, values must lie within 0 and 360, or -180 and 180"):
        fitted({"a": values}, kinds={"a": "circular:360"})
