"""Columns that are functions of another one: found, told, kept by samples, and unlikely where broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pushforward as pf
from pushforward.tables import Schema
from pushforward.tables.columns import Function
from pushforward.tables.columns.related import Dependent

quiet = pytest.mark.filterwarnings("ignore::UserWarning")


def people(n: int, seed: int) -> dict[str, Any]:
    """Wages and their logarithm, years and their square, one length in two units, and an age by itself."""
    rng = np.random.default_rng(seed)
    log_wage, years, inches = rng.normal(3, 0.5, n), rng.integers(0, 60, n), rng.normal(67, 4, n).round(1)
    return {
        "log_wage": log_wage, "wage": np.exp(log_wage), "years": years, "squared": years**2, "inches": inches,
        "cm": (2.54 * inches).round(1), "pace": 60 / (2.54 * inches), "age": rng.integers(18, 90, n),
    }  # fmt: skip


def formulas(table: dict[str, Any], **options: Any) -> dict[str, str]:
    schema = pf.infer_schema(table, **options)
    assert Schema.from_json(schema.to_json()) == schema
    return {c.name: c.formula for c in schema.columns if isinstance(c, Function)}


@quiet
def test_functions_are_found_and_told() -> None:
    told = formulas(people(500, 0))
    assert told.pop("pace").startswith("= 23.622 inches^-1")
    assert told == {"wage": "= exp(log_wage)", "squared": "= years^2", "cm": "= 2.54 inches"}
    swapped = dict(reversed(people(500, 0).items()))
    del swapped["cm"], swapped["pace"]
    told = formulas(swapped)
    assert told == {"years": "= squared^0.5", "log_wage": "= log(wage)"}
    assert "= log(wage)" in pf.infer_schema(swapped)["log_wage"].describe()


@quiet
def test_what_is_no_function_is_left_alone() -> None:
    table = people(500, 0)
    table["wage"][7] *= 1.001  # once is enough
    table["cm"] = np.where(np.arange(500) == 9, np.nan, table["cm"])
    assert set(formulas(table)) == {"squared", "pace"}
    assert "squared" not in formulas(people(500, 0), kinds={"squared": "integer"})
    assert formulas({name: values[:90] for name, values in people(500, 0).items()}) == {}
    rng = np.random.default_rng(0)
    assert formulas({f"x{i}": rng.integers(0, 30, 300) for i in range(8)}) == {}


@quiet
def test_samples_keep_to_functions_and_rows_that_do_not_are_unlikely(tmp_path: Path) -> None:
    train, test = people(1000, 0), people(200, 1)
    density = pf.fit_table(train, steps=60, depth=2, width=16, progress="none", stack=False)
    drawn = {c: density.sample(2000, generator=0).column(c).to_numpy() for c in train}
    np.testing.assert_allclose(drawn["wage"], np.exp(drawn["log_wage"]), rtol=1e-12)
    assert (drawn["squared"] == drawn["years"] ** 2).all()
    assert np.abs(drawn["cm"] - 2.54 * drawn["inches"]).max() < 0.0501
    usual = density.log_prob(test)
    assert bool(usual.isfinite().all())
    without = pf.fit_table(
        {name: train[name] for name in ("log_wage", "years", "inches", "age")}, steps=60, depth=2, width=16,
        progress="none", stack=False,
    )  # fmt: skip
    of_others = float(without.log_prob(test).mean())
    assert float(usual.mean()) == pytest.approx(of_others, abs=0.01)  # functions cost nothing
    broken = {name: values.copy() for name, values in test.items()}
    broken["squared"][:] += 1
    assert float((density.log_prob(broken) - usual).max()) < -3
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert bool((again.log_prob(test) == usual).all())


@quiet
def test_values_that_come_several_times_are_given_back_to_the_last_digit() -> None:
    log_wage = 1.3 * np.log(np.random.default_rng(0).poisson(40, 1000))
    exact = np.exp(log_wage)
    wage = np.where(np.floor(1e6 * exact) % 2 == 0, exact, np.nextafter(exact, np.inf))  # of another library
    train = {"log_wage": log_wage, "wage": wage}
    assert formulas(train) == {"wage": "= exp(log_wage)"}
    density = pf.fit_table(train, steps=20, depth=1, width=8, progress="none", stack=False)
    drawn = density.sample(1000, generator=0).column("wage").to_numpy()
    values, counts = np.unique(wage, return_counts=True)
    several = values[counts > 1]
    is_one = np.isclose(drawn[:, None], several, rtol=1e-12, atol=0).any(1)
    assert is_one.sum() > 300
    assert np.isin(drawn[is_one], several).all()


@quiet
def test_a_function_may_be_given_or_of_what_is_given() -> None:
    train, test = people(1000, 0), people(50, 1)
    of_given = pf.fit_table(train, given=["log_wage"], steps=20, depth=1, width=8, progress="none", stack=False)
    drawn = of_given.sample(1, context={"log_wage": test["log_wage"]}, generator=0)
    np.testing.assert_allclose(drawn.column("wage").to_numpy(), test["wage"], rtol=1e-9)
    given = pf.fit_table(train, given=["wage"], steps=20, depth=1, width=8, progress="none", stack=False)
    assert bool(given.log_prob(test).isfinite().all())


@quiet
def test_facts_are_checked() -> None:
    facts = pf.infer_schema(people(500, 0)).to_json()
    at = next(i for i, c in enumerate(facts["columns"]) if c["kind"] == "function")
    wrong = {"of": "age"}, {"of": "nobody"}, {"slope": 0.0}, {"tolerance": -1.0}, {"of_log": 3}, {"ties": [2.0, 1.0]}
    for change in wrong:
        columns = [dict(c) for c in facts["columns"]]
        columns[at] |= change
        with pytest.raises(ValueError, match="wage"):
            Schema.from_json(facts | {"columns": columns})


@quiet
def test_what_is_calculated_from_a_missing_given_cell_is_missing() -> None:
    rng = np.random.default_rng(0)
    c, n = rng.normal(size=300).round(2), rng.integers(0, 90, 300)
    table = {"c": c, "a": rng.integers(0, 50, 300), "f": 1.8 * c + 32, "n": n}
    table["total"] = table["a"] + table["n"]
    density = pf.fit_table(table, given=["c", "a"], steps=5, stack=False, progress="none")
    assert {c.name for c in density.schema.columns if isinstance(c, Dependent)} == {"f", "total"}
    given = {"c": pa.array([None, 1.0]), "a": pa.array([3, None])}
    drawn = density.sample(1, given, generator=0).to_pydict()
    assert drawn["f"] == [None, pytest.approx(33.8)]
    assert drawn["total"] == [drawn["n"][0] + 3, None]


@quiet
def test_a_column_that_is_calculated_from_what_is_given_leaves_nothing_to_learn() -> None:
    c = np.random.default_rng(0).normal(size=300).round(2)
    how: dict[str, Any] = {"given": ["c"], "steps": 5, "stack": False, "progress": "none"}
    with pytest.raises(
        ValueError, match=r"column 'f' is calculated \(= 1.8 c \+ 32\); kinds=\{'f': 'real'\} models it"
    ):
        pf.fit_table({"c": c, "f": 1.8 * c + 32}, **how)
    assert pf.fit_table({"c": c, "f": 1.8 * c + 32}, kinds={"f": "real"}, **how).targets == ["f"]
