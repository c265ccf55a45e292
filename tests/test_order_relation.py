"""Columns that are never above or below another: found, told, kept by samples, and unlikely where broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import read
from pushforward.tables import Schema
from pushforward.tables.columns import Related

quiet = pytest.mark.filterwarnings("ignore::UserWarning")


def loans(n: int, seed: int) -> dict[str, Any]:
    """A loan is at most the price; who applies is at least who is accepted; the age has nothing to do with it."""
    rng = np.random.default_rng(seed)
    loan = np.round(rng.gamma(4, 300, n)).astype(np.int64)
    applied = rng.gamma(3, 900, n).astype(np.int64)
    return {
        "loan": loan, "price": loan + np.round(rng.exponential(300, n)).astype(np.int64), "applied": applied,
        "accepted": (applied * rng.beta(8, 3, n)).astype(np.int64), "age": rng.integers(18, 90, n),
    }  # fmt: skip


def orders(schema: Schema) -> dict[str, str]:
    return {c.name: c.formula for c in schema.columns if isinstance(c, Related)}


@quiet
def test_orders_are_found_and_told() -> None:
    schema = pf.infer_schema(loans(2000, 0))
    assert orders(schema) == {"price": "at least loan", "accepted": "at most applied"}
    assert "at least loan" in schema["price"].describe()
    assert Schema.from_json(schema.to_json()) == schema


@quiet
def test_what_is_no_order_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    table = loans(2000, 0)
    table["price"][7] = table["loan"][7] - 1  # once is enough
    table["far"] = 100_000 + rng.integers(0, 5000, 2000)  # above by what it is, not by the others
    table["gone"] = np.where(rng.random(2000) < 0.1, np.nan, table["applied"] // 2)
    assert orders(pf.infer_schema(table)) == {"accepted": "at most applied"}
    few = {name: values[:100] for name, values in loans(2000, 0).items()}
    assert orders(pf.infer_schema(few)) == {}
    assert "price" not in orders(pf.infer_schema(loans(2000, 0), {"price": "integer"}))


@quiet
@pytest.mark.parametrize("seed", range(8))
def test_independent_columns_have_no_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = {f"x{i}": rng.gamma(2, 10.0 ** rng.integers(1, 4), 300).astype(int) for i in range(8)}
    assert orders(pf.infer_schema(table)) == {}


@quiet
def test_samples_keep_the_orders_and_rows_that_break_them_are_unlikely(tmp_path: Path) -> None:
    train, test = loans(2000, 0), loans(500, 1)
    density = pf.fit_table(train, steps=200, depth=2, width=16, progress="none", stack=False)
    drawn = {c: density.sample(3000, generator=0).column(c).to_numpy() for c in train}
    assert (drawn["loan"] <= drawn["price"]).all()
    assert (drawn["accepted"] <= drawn["applied"]).all()
    assert (drawn["accepted"] >= 0).all()
    assert np.median(drawn["price"] - drawn["loan"]) == pytest.approx(
        np.median(train["price"] - train["loan"]), rel=0.2
    )
    plain = pf.fit_table(
        train, kinds={"price": "integer", "accepted": "integer"}, steps=200, depth=2, width=16, progress="none",
        stack=False,
    )  # fmt: skip
    assert float((density.log_prob(test) - plain.log_prob(test)).mean()) > 0.1
    broken = {name: values[:1].copy() for name, values in test.items()}
    usual = float(density.log_prob(broken))
    broken["price"] = broken["loan"] - 5
    with pytest.warns(UserWarning, match="not at least loan, as all were"):
        assert -np.inf < float(density.log_prob(broken)) < usual - 3
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.log_prob(test), density.log_prob(test))
    cells = density.space.rows(read(test))
    x, _ = density.space.tensor(cells, torch.full(cells.base.shape, 0.5, dtype=torch.float64))
    back, good = density.space.decode(x.numpy(), None, np.random.default_rng(0))
    assert good.all()
    for name, values in test.items():
        np.testing.assert_array_equal(back.to_arrow().column(name).to_numpy(), values)
