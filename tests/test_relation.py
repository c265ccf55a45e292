"""Columns that are sums of others: found, modelled by what remains, sampled and scored as whole rows, saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import read
from pushforward.io.tables import read_table
from pushforward.tables import Schema
from pushforward.tables.columns import Related

quiet = pytest.mark.filterwarnings("ignore::UserWarning")


def bills(n: int, seed: int) -> dict[str, Any]:
    """Rides: total = fare + tip + one of three surcharges, in cents; free = seats - rides, or one more or less."""
    rng = np.random.default_rng(seed)
    fare = np.round(rng.gamma(4, 5, n), 2)
    tip = np.round(0.2 * fare * rng.random(n), 2)
    surcharge = rng.choice([0.0, 0.5, 3.3], n, p=[0.5, 0.3, 0.2])
    rides = rng.integers(20, 400, n)
    seats = rng.integers(30, 500, n)
    return {
        "fare": fare, "tip": tip, "rides": rides, "seats": seats, "total": np.round(fare + tip + surcharge, 2),
        "free": seats - rides + rng.integers(-1, 2, n), "other": rng.integers(0, 300, n),
    }  # fmt: skip


@pytest.fixture(scope="module")
def density() -> Any:
    with pytest.warns(UserWarning, match="rounded values"):
        return pf.fit_table(bills(4000, 0), steps=300, progress="none", stack=False)


def test_sums_and_differences_are_found_and_told() -> None:
    with pytest.warns(UserWarning, match="rounded values"):
        schema = pf.infer_schema(bills(4000, 0))
    found = {c.name: dict(c.summands) for c in schema.columns if isinstance(c, Related)}
    assert found == {"total": {"fare": 1, "tip": 1}, "free": {"seats": 1, "rides": -1}}
    assert "= fare + tip + (0, 0.5 or 3.3)" in schema["total"].describe()
    assert "= seats - rides + (-1, 0 or 1)" in schema["free"].describe()


@quiet
def test_a_plain_sum_is_constant_in_its_rest_and_a_row_without_it_unlikely() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 500, 2000), rng.integers(0, 90, 2000)
    density = pf.fit_table({"a": a, "b": b, "sum": a + b + 7}, steps=20, progress="none", stack=False)
    assert "= a + b + 7" in density.schema["sum"].describe()
    rows = {k: v.to_numpy() for k, v in zip("abs", density.sample(500, generator=1).columns, strict=True)}
    assert (rows["a"] + rows["b"] + 7 == rows["s"]).all()
    with pytest.warns(UserWarning, match="1 that are not a \\+ b \\+ 7"):
        log_prob = density.log_prob({"a": [5, 5], "b": [3, 3], "sum": [15, 16]})
    assert -20 < float(log_prob[1] - log_prob[0]) < math.log(0.5 / 2001)


@quiet
def test_what_is_no_relation_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 500, 2000)
    near = a + rng.integers(-40, 41, 2000)  # close, but of many values
    some = np.where(rng.random(2000) < 0.8, a, rng.integers(0, 500, 2000))  # in four rows of five only
    gone = pa.array(a + 1, mask=rng.random(2000) < 0.1)  # with missing cells
    table = {"a": a, "near": near, "some": some, "gone": gone, "real": a + rng.normal(size=2000)}
    assert all(not isinstance(c, Related) for c in pf.infer_schema(table).columns)
    few = {k: v[:50] for k, v in bills(4000, 0).items()}
    assert all(not isinstance(c, Related) for c in pf.infer_schema(few).columns)
    asked = pf.infer_schema(bills(4000, 0), {"total": "quantised", "free": "integer"})
    assert all(not isinstance(c, Related) for c in asked.columns)


@quiet
def test_samples_keep_to_it_and_cells_come_back(density: Any) -> None:
    drawn = density.sample(2000, generator=1)
    assert drawn.column_names == list(bills(1, 0))
    rows = {name: drawn.column(name).to_numpy() for name in drawn.column_names}
    surcharge = np.round(rows["total"] - rows["fare"] - rows["tip"], 2)
    assert set(np.unique(surcharge)) <= {0.0, 0.5, 3.3}
    assert set(np.unique(rows["free"] - rows["seats"] + rows["rides"])) <= {-1, 0, 1}
    assert (rows["total"] == np.round(rows["total"], 2)).all()  # written as the data were
    real = bills(500, 1)
    encoded = density.space.rows(read(real))
    assert np.allclose(encoded.log_mass, math.log1p(-density.space.unseen_share))
    x, _ = density.space.tensor(encoded, torch.full(encoded.base.shape, 0.5, dtype=torch.float64))
    again, good = density.space.decode(x.numpy(), None, np.random.default_rng(0))
    assert good.all()
    for name, values in real.items():
        np.testing.assert_array_equal(again.to_arrow().column(name).to_numpy(), values)


@quiet
@pytest.mark.slow
def test_a_sum_beyond_the_bounds_of_its_column_is_drawn_again() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 300, 2000), rng.integers(0, 300, 2000)
    density = pf.fit_table({"sum": a + b, "a": a, "b": b}, steps=100, progress="none", stack=False)
    assert dict(density.schema["b"].summands) == {"sum": 1, "a": -1}
    drawn = {
        name: column.to_numpy() for name, column in zip("sab", density.sample(2000, generator=0).columns, strict=True)
    }
    assert (drawn["s"] == drawn["a"] + drawn["b"]).all()
    assert (drawn["b"] >= 0).all()


@pytest.mark.slow
@quiet
def test_it_is_worth_what_the_cells_are_worth(density: Any) -> None:
    held = bills(1000, 2)
    plain = pf.fit_table(
        bills(4000, 0), kinds={"total": "quantised", "free": "integer"}, steps=300, progress="none", stack=False
    )  # fmt: skip
    log_prob = density.log_prob(held)
    assert float(log_prob.mean()) > -34.5
    gain = float((log_prob - plain.log_prob(held)).mean())
    assert gain > 2  # total is one of three, and so is free
    odd = {k: v[:1].copy() for k, v in held.items()} | {"total": held["total"][:1] + 1.11}
    assert float(density.log_prob(odd)) < float(density.log_prob({k: v[:1] for k, v in held.items()})) - 3


@quiet
@pytest.mark.slow
def test_given_columns_are_parts_but_have_no_rest(tmp_path: Path) -> None:
    table = bills(3000, 0)
    density = pf.fit_table(table, given=["fare", "seats", "free"], steps=50, progress="none", stack=False)
    given = {k: table[k][:200] for k in ("fare", "seats", "free")}
    drawn = density.sample(1, given, generator=0)
    np.testing.assert_array_equal(drawn.column("free").to_numpy(), given["free"])
    surcharge = drawn.column("total").to_numpy() - given["fare"] - drawn.column("tip").to_numpy()
    assert set(np.unique(np.round(surcharge, 2))) <= {0.0, 0.5, 3.3}
    rows = read_table(_csv(tmp_path, table))
    np.testing.assert_allclose(density.log_prob(rows), density.log_prob(table), atol=1e-4)


def test_it_is_saved_and_checked(density: Any, tmp_path: Path) -> None:
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert again.schema == density.schema
    held = bills(100, 3)
    assert (again.log_prob(held) == density.log_prob(held)).all()
    facts = json.loads(json.dumps(density.schema.to_json()))
    assert Schema.from_json(facts) == density.schema
    at = next(i for i, c in enumerate(facts["columns"]) if c["kind"] == "related")
    good = facts["columns"][at]
    for bad in (
        good | {"summands": [["nothing", 1]]}, good | {"summands": [["other", 1]]}, good | {"summands": [["fare", 2]]},
        good | {"summands": []}, good | {"grain": 0}, good | {"grain": 7.0}, good | {"grain": 0.007},
        good | {"rest": {"kind": "real", "name": "x"}}, good | {"rest": 3}, good | {"rest": good["rest"] | {"name": 3}},
        good | {"inner": good["inner"] | {"missing": True}},
    ):  # fmt: skip
        facts["columns"][at] = bad
        with pytest.raises(ValueError, match="column"):
            Schema.from_json(facts)


def _csv(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "rows.csv"
    lines = [
        ",".join(table),
        *(",".join(map(repr, row)) for row in zip(*(v.tolist() for v in table.values()), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("rows", [100, 300])
def test_chance_gives_no_relation_and_a_true_one_is_found_in_few_rows(rows: int) -> None:
    rng = np.random.default_rng(rows)

    def column() -> np.ndarray:
        kinds = [
            lambda: rng.poisson(rng.choice([1, 3, 10, 100]), rows),
            lambda: rng.integers(0, rng.choice([5, 12, 30, 100]), rows),
            lambda: rng.binomial(20, 0.3, rows),
            lambda: np.where(rng.random(rows) < 0.9, 0, rng.integers(1, 50, rows)),
            lambda: np.round(rng.lognormal(3, 1, rows)).astype(int),
            lambda: rng.geometric(0.3, rows),
        ]
        return kinds[rng.integers(len(kinds))]()

    for _ in range(10):
        table = {f"c{i}": column() for i in range(8)}
        assert not [c for c in pf.infer_schema(table).columns if type(c).__name__ == "Related"]
    a, b = rng.integers(0, 100, rows), rng.integers(0, 100, rows)
    errors = (rng.random(rows) < 0.05) * rng.integers(0, 3, rows)
    schema = pf.infer_schema({"a": a, "b": b, "noise": rng.poisson(5, rows), "sum": a + b + errors})
    assert type(schema["sum"]).__name__ == "Related"


@quiet
def test_parts_are_read_as_the_model_writes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = (10 ** rng.uniform(3.5, 6.6, (2, 500))).astype(int)

    def written(*rows: tuple[int, int]) -> Any:
        lines = [f"{x:,};{y:,};{x + y:,}".replace(",", ".") for x, y in rows]
        (tmp_path / "t.csv").write_text("\n".join(["a;b;t", *lines]) + "\n")
        return read_table(tmp_path / "t.csv")

    density = pf.fit_table(written(*zip(a, b, strict=True)), steps=5, stack=False, progress="none")
    assert isinstance(density.schema["t"], Related)
    few, whole = [(1234, 1111), (2345, 2222)], {"a": [1234, 2345], "b": [1111, 2222], "t": [2345, 4567]}
    assert density.log_prob(written(*few)).tolist() == pytest.approx(density.log_prob(whole).tolist())
