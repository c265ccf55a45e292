"""Samples are written as the data were: decimals, significant digits, float32 numbers held as float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pushforward as pf
from pushforward.tables.columns.written import rounded, roundings

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def normal(n: int = 300) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(50.0, 20.0, n)


def printed(values: NDArray[np.float32], digits: int) -> NDArray[np.float64]:
    return np.array([float(f"{float(v):.{digits}g}") for v in values])


WAYS = {
    "decimals": (np.round(normal(), 5), (".5f",)),
    "digits": (np.array([float(f"{v:.4g}") for v in np.exp(normal() / 4)]), (".4g",)),
    "decimals of large and small ones": (np.array([float(f"{v:.3g}") for v in np.exp(normal() / 5 - 3)]), (".3g",)),
    "float32": (np.round(normal(), 3).astype(np.float32).astype(np.float64), (".3f", "single")),
    "float32 in a CSV": (printed(np.round(normal(), 3).astype(np.float32), 15), (".3f", "single", ".15g")),
    "halves": (np.round(2 * normal()) / 2, (".1f",)),
    "all digits": (normal(), ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_how_values_are_written(way: str) -> None:
    values, chain = WAYS[way]
    assert roundings(values)[-len(chain) :] == chain
    assert (rounded(values, roundings(values)) == values).all()
    assert (rounded(values + 1e-9, roundings(values)) == values).all() == (chain != ())


@pytest.mark.parametrize("way", WAYS)
def test_samples_are_written_as_the_data_were(way: str) -> None:
    values, _ = WAYS[way]
    model = pf.fit_table({"a": values, "b": values[::-1]}, steps=3, progress="none", stack=False)
    drawn = model.sample(500, generator=0)
    assert torch.isfinite(model.log_prob(drawn)).all()
    a = drawn["a"].to_numpy()
    assert (rounded(a, roundings(values)) == a).all()


def test_rounding_makes_no_bound_of_a_size() -> None:
    kind = pf.infer_schema({"a": np.round(np.exp(normal() / 10) + 0.01, 2)}, kinds={"a": "positive"})["a"]
    small = kind.write(np.array([0.0001, 0.014]), np.zeros(2, bool)).require_numbers()
    assert small.tolist() == [0.0001, 0.01]


@pytest.mark.parametrize("as_floats", ["sums", "float32"])
def test_values_that_are_off_by_rounding_lie_on_their_lattice(as_floats: str) -> None:
    tenths = np.random.default_rng(0).integers(1, 90, 400)
    exact = tenths / 10
    dusty = (exact + 0.7) - 0.7 if as_floats == "sums" else exact.astype(np.float32).astype(np.float64)
    assert (dusty != exact).any()
    column = pf.infer_schema({"a": dusty})["a"]
    assert column.step == pytest.approx(0.1)
    model = pf.fit_table({"a": dusty}, steps=3, progress="none", stack=False)
    assert torch.isfinite(model.log_prob({"a": dusty})).all()
    drawn = model.sample(300, generator=0)["a"].to_numpy()
    near = np.round(drawn, 1)
    assert (drawn == (near if as_floats == "sums" else near.astype(np.float32).astype(np.float64))).all()


def test_one_whole_number_that_is_off_by_rounding_is_whole() -> None:
    money = 100.0 * np.random.default_rng(0).integers(1, 500, 300)
    money[7] = np.nextafter(money[7], np.inf)
    model = pf.fit_table({"a": money, "b": money[::-1]}, steps=3, progress="none", stack=False)
    assert model.schema["a"].kind == "integer"
    assert torch.isfinite(model.log_prob({"a": money, "b": money[::-1]})).all()


def test_a_bound_is_on_a_lattice_that_was_estimated() -> None:
    shares = np.random.default_rng(0).beta(2, 9, 500).round(4).astype(np.float32).astype(np.float64)
    shares[:3] = 0.0
    model = pf.fit_table({"a": shares, "b": shares[::-1]}, steps=3, progress="none", stack=False)
    assert torch.isfinite(model.log_prob({"a": shares, "b": shares[::-1]})).all()


def test_large_decimals_on_a_lattice_are_decimals() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice(np.round(rng.uniform(0, 1e5, 300), 2), 1500)
    drawn = pf.fit_table({"x": values}, steps=30, stack=False, progress="none").sample(2000, generator=0)
    numbers = drawn.column("x").to_numpy()
    assert (numbers == np.round(numbers, 2)).all()
    assert np.isin(numbers, values).mean() > 0.9


def test_twelfths_that_were_rounded_are_written_so() -> None:
    values = np.round(np.random.default_rng(0).integers(0, 900, 3000) / 12, 4)
    drawn = pf.fit_table({"x": values}, steps=30, stack=False, progress="none").sample(1000, generator=0)
    assert np.isin(drawn.column("x").to_numpy(), values).mean() > 0.9
