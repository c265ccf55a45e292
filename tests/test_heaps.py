"""Numbers that people round to tens, hundreds and more: each such lattice is a state, and its cells leave no gaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import pushforward as pf
from pushforward.io.frames import read
from pushforward.tables.columns import Integer, Kind, Lattice, Real, WithAtoms, WithCoarse, from_json
from pushforward.tables.columns.find_lattice import find_coarse
from pushforward.tables.columns.number import as_number

quiet = pytest.mark.filterwarnings("ignore::UserWarning")
IDENTITY = ((0.0, 0.0, 1.0), (1.0, 1.0, 1.0))


def rounded(n: int, shares: dict[int, float], seed: int = 0) -> np.ndarray:
    """Amounts, of which a share is rounded to each multiple; all others are whole numbers."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(4.0, 500.0, n)
    chosen = rng.choice([1, *shares], n, p=[1 - sum(shares.values()), *shares.values()])
    return (np.round(amounts / chosen) * chosen).astype(np.int64)


def heaped(lattice: Lattice | None, steps: tuple[float, ...], origin: float = 0, **facts: Any) -> WithCoarse:
    """Whole numbers, or continuous ones, with wider lattices."""
    facts = {"name": "x", "knots": IDENTITY} | facts
    kind: Any = Real(dtype="double", **facts) if lattice is None else Integer(dtype="int64", lattice=lattice, **facts)
    return WithCoarse(inner=kind, coarse=Lattice(steps[-1], origin), between=steps[:-1], is_even=True)


@pytest.mark.parametrize(
    ("shares", "steps"),
    [
        ({}, None),
        ({50: 0.5}, [50]),
        ({10: 0.3, 100: 0.3}, [10, 100]),
        ({5: 0.2, 50: 0.3, 500: 0.3}, [5, 50, 500]),
        ({2: 0.05}, None),
    ],
    ids=str,
)
def test_lattices_are_found_from_narrow_to_wide(shares: dict[int, float], steps: list[int] | None) -> None:
    found_steps = find_coarse(rounded(4000, shares), 1, 0)
    assert found_steps == (None if steps is None else (steps, 0))


def test_large_continuous_values_that_repeat_are_on_no_lattice() -> None:
    values = np.random.default_rng(0).uniform(1e6, 3e8, 30).repeat(50)  # populations of countries, with a row a year
    assert find_coarse(values, None, 0.0) is None
    assert "steps" not in pf.infer_schema({"pop": values, "year": np.tile(np.arange(50), 30)}).describe()


def test_lattices_share_the_origin_of_the_widest() -> None:
    prices = rounded(4000, {100: 0.4, 1000: 0.4}) - 1  # 99, 199, 999, ...
    assert find_coarse(prices, 1, 0) == ([100, 1000], 999)


def test_few_frequent_values_make_no_lattice() -> None:
    rng = np.random.default_rng(0)
    places = rng.choice(10**6, 30, replace=False)  # of any last digits
    values = rng.choice(places, 3000, p=rng.dirichlet(np.ones(30)))
    assert find_coarse(values, 1, 0) is None


KINDS = {
    "whole": heaped(Lattice(1, 0), (5, 50, 100, 500)),
    "twice": heaped(Lattice(1, 0), (2,)),
    "ends in 99": heaped(Lattice(1, 99), (10, 100), 99, low=0.0),
    "from zero": heaped(Lattice(1, 0), (10, 100), low=0.0),
    "continuous": heaped(None, (0.5, 1.0, 10.0)),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_number_stands_for_the_value_of_its_cell(kind: WithCoarse) -> None:
    rng = np.random.default_rng(0)
    steps = [as_number(kind.inner).step, *kind.between, kind.coarse.step]
    values: Any = np.arange(0, 3000)
    if steps[0] is None:
        values = np.concatenate([values * 0.5, rng.uniform(0, 1500, 500)])
    cells = kind.encode_values(values)
    level = sum(((values - kind.coarse.origin) % step == 0).astype(int) for step in steps[1:])
    assert (cells.state == level).all()
    for u in (1e-6, 0.3, 0.5, 1 - 1e-6):
        w = cells.base + u * cells.width
        np.testing.assert_array_equal(kind.decode_values(cells.state, w), values)
        assert kind.accepts(cells.state, w).all()
    for k in range(kind.num_values):
        own = cells.state == k
        if not cells.width[own].any():
            continue  # continuous
        order = cells.base[own].argsort()
        base, width = cells.base[own][order], cells.width[own][order]
        np.testing.assert_allclose(base[:-1] + width[:-1], base[1:], atol=1e-6)  # no gaps: all draws are accepted


def test_values_beyond_the_bounds_are_impossible_and_not_drawn() -> None:
    kind = KINDS["ends in 99"]
    assert (kind.encode_values(np.array([-1, -11])).state == -1).all()
    low = as_number(kind).bounds[0]
    assert low is not None
    w = np.linspace(low, low + 300, 1001)
    for k in range(kind.num_values):
        state = np.full(len(w), k)
        good = kind.accepts(state, w)
        assert good.any()
        assert (kind.decode_values(state, w) >= 0).all()
        assert (kind.encode_values(kind.decode_values(state[good], w[good])).state == k).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_is_written_and_read_back(kind: Kind) -> None:
    assert from_json(kind.to_json()) == kind


@pytest.mark.parametrize("facts", [{"between": [3]}, {"between": [40, 20]}, {"between": [-1]}, {"between": 5}], ids=str)
def test_lattices_of_a_file_that_are_no_parts_of_each_other_are_an_error(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="column 'x'"):
        from_json(KINDS["whole"].to_json() | facts)


def test_older_files_have_cells_of_each_lattice() -> None:
    facts = heaped(Lattice(1, 0), (50,)).to_json()
    old: Any = from_json({name: value for name, value in facts.items() if name != "is_even"})
    cells = old.encode_values(np.array([0, 1, 49, 50]))
    assert cells.base.tolist() == [0, 1, 49, 50]
    assert cells.width.tolist() == [50, 1, 1, 50]
    assert not old.accepts(np.array([0]), np.array([50.5]))[0]
    assert replace(old, is_even=True).accepts(np.array([0]), np.array([50.5]))[0]


@quiet
def test_samples_are_rounded_as_often_as_the_data() -> None:
    shares = {10: 0.2, 100: 0.3, 1000: 0.2}
    amount = rounded(4000, shares)
    table = {"amount": amount, "kind": np.where(amount % 100 == 0, "cash", "card")}
    density = pf.fit_table(table, steps=150, depth=2, width=16, progress="none", stack=False)
    kind = density.schema["amount"]
    assert as_number(kind.inner if isinstance(kind, WithAtoms) else kind).places(np.array([10]))[0] == 1
    drawn = density.sample(4000, generator=0)
    values = drawn["amount"].to_numpy()
    for step in (10, 100, 1000):
        assert (values % step == 0).mean() == pytest.approx((amount % step == 0).mean(), abs=0.04)
    cash = np.array(drawn["kind"].to_pylist()) == "cash"
    assert (cash == (values % 100 == 0)).mean() > 0.95
    assert density.unsampled < 0.02
    every = np.arange(0, 40_000)
    mass = sum(
        float(density.log_prob({"amount": every, "kind": [word] * len(every)}).exp().sum()) for word in ("cash", "card")
    )
    assert mass == pytest.approx(1, abs=0.03)


@quiet
def test_totals_of_rounded_parts_come_back_exactly() -> None:
    net, tip = rounded(1500, {50: 0.4, 500: 0.3}, 0), rounded(1500, {50: 0.4, 500: 0.3}, 1)
    table = {"net": net, "tip": tip, "total": net + tip}
    density = pf.fit_table(table, steps=30, depth=2, width=8, progress="none", stack=False)
    assert "= net + tip" in density.schema.describe()
    drawn = density.sample(500, generator=0)
    parts = drawn["net"].to_numpy() + drawn["tip"].to_numpy()
    assert (drawn["total"].to_numpy() == parts).all()
    assert density.log_prob(read(drawn)).isfinite().all()


def test_the_lattices_are_told() -> None:
    assert KINDS["whole"].parts()[-1] == "often in steps of 500, 100, 50 or 5, else of 1"
    assert all(b > a for a, b in pairwise(KINDS["whole"].between))
