"""Columns of numbers some of whose values come far more often than their neighbours: cells as wide as frequent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pushforward as pf
from pushforward.tables.columns import Integer, Kind, Lattice, Real, Uneven, WithCoarse, from_json
from pushforward.tables.columns.number import as_number

PLACES = np.sort(np.random.default_rng(7).choice(2000, 60, replace=False))


def stations(n: int, seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    return PLACES[rng.choice(60, n, p=np.random.default_rng(8).dirichlet(np.full(60, 3.0)))]


def flat(**facts: Any) -> Integer:
    return Integer(name="x", dtype="int64", lattice=Lattice(1, 0), knots=((0, 0, 1), (1, 1, 1)), **facts)


@pytest.fixture(scope="module")
def kind() -> Uneven:
    found = Uneven.around(flat(extent=(0, 2000)), stations(1000, 0))
    assert isinstance(found, Uneven)
    return found


def test_every_number_stands_for_the_value_of_its_cell(kind: Uneven) -> None:
    values = np.arange(-50, 2100)
    cells = kind.encode_values(values)
    np.testing.assert_allclose(cells.base[:-1] + cells.width[:-1], cells.base[1:], atol=1e-9)  # without gaps
    for u in (1e-6, 0.3, 0.5, 1 - 1e-6):
        w = cells.base + u * cells.width
        np.testing.assert_array_equal(kind.decode_values(cells.state, w), values)
        np.testing.assert_array_equal(kind.accepts(cells.state, w), values >= 0)  # nothing negative where nothing was
    beyond = (values < PLACES[0]) | (values > PLACES[-1])
    assert (cells.width[beyond] == 1).all()
    np.testing.assert_array_equal(cells.base[beyond], values[beyond])


def test_cells_are_as_wide_as_their_values_are_frequent(kind: Uneven) -> None:
    values, counts = np.unique(stations(1000, 0), return_counts=True)
    width = kind.encode_values(values).width
    assert np.corrcoef(width, counts)[0, 1] > 0.7
    between = np.setdiff1d(np.arange(values[0], values[-1]), values)
    assert kind.encode_values(between).width.max() < 0.02 * width.mean()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).poisson(200, 2000),
        np.random.default_rng(0).integers(0, 5000, 2000),
        np.arange(5000),
        np.round(np.random.default_rng(0).lognormal(5, 1, 2000)).astype(int),
        np.random.default_rng(0).permutation(np.repeat(np.arange(700), 3)),
        np.array([3, 3, 9]),
    ],
    ids=["poisson", "uniform", "all different", "log-normal", "each three times", "few"],
)
def test_smooth_columns_stay_as_they_are(values: NDArray[Any]) -> None:
    number = flat(extent=(0, 5000))
    assert Uneven.around(number, values) is number


def test_a_number_without_a_lattice_stays_as_it_is() -> None:
    schema = pf.infer_schema({"x": np.random.default_rng(0).choice(np.random.default_rng(1).normal(size=60), 500)})
    assert "more often" not in schema.describe()


def test_held_out_rows_are_likelier_and_samples_are_values_that_there_are() -> None:
    train, test = (
        {"station": stations(800, seed), "y": np.random.default_rng(seed).normal(size=800)} for seed in (0, 1)
    )
    density = pf.fit_table(train, steps=150, progress="none", seed=0, stack=False)
    assert "some values more often than others" in density.schema.describe()
    share = np.random.default_rng(8).dirichlet(np.full(60, 3.0))
    best = float(np.log(share[np.searchsorted(PLACES, test["station"])]).mean()) - 0.5 * np.log(2 * np.pi * np.e)
    assert float(density.log_prob(test).mean()) > best - 0.4  # a smooth column is ln(2000 / 60) = 3.5 nats behind
    drawn = density.sample(1000, generator=0).column("station").to_numpy()
    assert np.isin(drawn, PLACES).mean() > 0.95
    elsewhere = np.setdiff1d(np.arange(PLACES[0], PLACES[-1]), PLACES)[:5]
    odd = density.log_prob({"station": elsewhere, "y": np.zeros(5)})
    assert np.isfinite(odd.numpy()).all()
    assert float(odd.max()) < best - 3


def test_the_gain_is_measured_on_rows_that_are_left_out() -> None:
    rng, kept = np.random.default_rng(0), 0
    for _ in range(40):  # columns without any structure
        number = flat(extent=(0, 1000))
        kept += Uneven.around(number, rng.integers(0, 1000, 500)) is number
    assert kept >= 39


def test_atoms_leave_no_gap_in_the_cells_of_the_other_values() -> None:
    values = np.random.default_rng(0).poisson(40, 3000)
    atoms = (38.0, 39.0, 40.0)
    kind = Uneven.around(flat(extent=(0, 100)), values[~np.isin(values, atoms)], atoms)
    assert isinstance(kind, Uneven)
    cells = kind.encode_values(np.arange(values.min(), values.max() + 1))
    is_atom = np.isin(np.arange(values.min(), values.max() + 1), atoms)
    assert cells.width[is_atom].max() < 0.002 * cells.width[~is_atom].min()
    assert np.ptp(cells.width[~is_atom]) < 1e-9
    assert "more often" not in " ".join(kind.parts())
    outside = (values.min() - 5.0, values.max() + 5.0)
    number = flat(extent=(0, 100))
    assert Uneven.around(number, values, outside) is number


@pytest.mark.parametrize("seed", [0, 1])
def test_values_never_seen_have_the_share_of_further_rows_that_hold_them(seed: int) -> None:
    share = 1 / np.arange(1, 20_001)  # Zipf's law: a third of further rows are new after 3,000
    place = np.random.default_rng(5).permutation(20_000)

    def rows(seed: int) -> NDArray[Any]:
        return place[np.random.default_rng(seed).choice(20_000, 3000, p=share / share.sum())]

    kind = Uneven.around(flat(extent=(0, 20_000)), rows(seed))
    assert isinstance(kind, Uneven)
    every = np.arange(kind.places[0], kind.places[-1] + 1)
    is_new = ~np.isin(every, kind.places)
    width = kind.encode_values(every).width  # shares of the rows, for the values lie in no order
    expected = float((~np.isin(rows(seed + 10), kind.places)).mean())
    assert width[is_new].sum() / width.sum() == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    "facts", [{"gap": 0}, {"widths": [1.0]}, {"places": [2, 1]}, {"places": [1.5, 2]}, {"widths": [1.0, -1.0]}], ids=str
)
def test_facts_of_a_file_that_are_none_are_an_error(facts: dict[str, Any]) -> None:
    good = Uneven(inner=flat(), places=(1, 2), widths=(1.0, 3.0), gap=1.0)
    read: Kind = from_json(good.to_json())
    assert read == good
    with pytest.raises(ValueError, match="column 'x'"):
        from_json(good.to_json() | facts)


def amounts(n: int, seed: int) -> NDArray[Any]:
    """Half of them one of 40 multiples of 100, the others one of 60 other whole numbers."""
    rng, places = np.random.default_rng(seed), np.random.default_rng(3)
    hundreds, others = places.choice(100, 40, replace=False) * 100, places.choice(10_000, 60, replace=False)
    return np.where(rng.random(n) < 0.5, rng.choice(hundreds, n), rng.choice(others, n))


def heaped() -> WithCoarse:
    return WithCoarse(inner=flat(extent=(0, 10_000)), coarse=Lattice(100, 0), is_even=True)


def test_each_lattice_of_a_column_has_uneven_cells_of_its_own() -> None:
    values = amounts(1000, 0)
    kind = Uneven.around(as_number(heaped()), values)
    assert isinstance(kind, Uneven)
    assert isinstance(kind.inner, Uneven)
    assert {kind.level, kind.inner.level} == {0, 1}
    assert kind.parts().count("some values more often than others") == 1
    assert from_json(kind.to_json()) == kind
    every = np.arange(-200, 10_300)
    cells = kind.encode_values(every)
    for level in (0, 1):
        base, width = cells.base[cells.state == level], cells.width[cells.state == level]
        np.testing.assert_allclose(base[:-1] + width[:-1], base[1:], atol=1e-6)
        seen = np.isin(every[cells.state == level], values)
        assert width[seen].min() > 5 * width[(~seen) & (every[cells.state == level] > 100)].min()
    for u in (1e-6, 0.5, 1 - 1e-6):
        w = cells.base + u * cells.width
        np.testing.assert_array_equal(kind.decode_values(cells.state, w), every)
        np.testing.assert_array_equal(kind.accepts(cells.state, w), every >= 0)


def test_atoms_close_the_cells_of_their_own_lattice_alone() -> None:
    values = np.random.default_rng(0).integers(0, 100, 3000) * 100
    atoms = (4000.0, 5000.0)
    kind = Uneven.around(as_number(heaped()), values[~np.isin(values, atoms)], atoms)
    assert isinstance(kind, Uneven)
    assert kind.level == 1
    width = kind.encode_values(np.array([3900, 4000, 4100, 5000, 4050])).width
    assert (width[[1, 3]] < 0.002 * width[0]).all()
    assert width[4] == heaped().encode_values(np.array([4050])).width[0]


def test_columns_of_several_lattices_gain_by_uneven_cells() -> None:
    train, test = ({"x": amounts(800, s), "y": np.random.default_rng(s).normal(size=800)} for s in (0, 1))
    density = pf.fit_table(train, steps=150, progress="none", seed=0, stack=False)
    best = -np.log(2) - 0.5 * (np.log(40) + np.log(60)) - 0.5 * np.log(2 * np.pi * np.e)
    assert float(density.log_prob(test).mean()) > best - 0.4  # even cells are some 2.5 nats behind
    drawn = density.sample(1000, generator=0).column("x").to_numpy()
    assert np.isin(drawn, amounts(20_000, 2)).mean() > 0.9


@pytest.mark.parametrize(
    ("inner", "level"),
    [
        (flat(), 1),
        (heaped(), 2),
        (Real(name="x", dtype="double", knots=((0, 0, 1), (1, 1, 1))), 0),
        (WithCoarse(inner=flat(), coarse=Lattice(100, 0)), 0),  # of an older file, whose cells leave gaps
    ],
    ids=["one lattice", "two lattices", "continuous", "with gaps"],
)
def test_a_level_without_a_lattice_is_an_error(inner: Kind, level: int) -> None:
    with pytest.raises(ValueError, match="column 'x'"):
        from_json(Uneven(inner=inner, places=(1, 2), widths=(1.0, 3.0), gap=1.0, level=level).to_json())


def test_columns_that_nearly_are_the_same_keep_even_cells() -> None:
    rng, places = np.random.default_rng(0), np.random.default_rng(1).choice(40_000, 300, replace=False)
    listed, other = rng.choice(places, 2000), rng.choice(places, 2000)
    paid = np.where(rng.random(2000) < 0.7, listed, listed + rng.integers(-500, 500, 2000))
    schema = pf.infer_schema({"listed": listed, "paid": paid, "other": other})
    told = {column.name: "more often" in " ".join(column.parts()) for column in schema.columns}
    assert told == {"listed": False, "paid": False, "other": True}
    alone = pf.infer_schema({"listed": listed, "other": other})
    assert alone.describe().count("more often") == 2
