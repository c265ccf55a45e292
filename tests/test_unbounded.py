"""Rows that a density cannot be learned from: told before, or as soon as, the training starts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.training.unbounded import warn_of_unbounded


def normal(n: int = 500, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def short(x: Any, **settings: Any) -> None:
    columns = np.shape(x)[1]
    flow = pf.real_nvp(columns, depth=2, width=8, seed=0)
    pf.fit(flow, x, progress="none", **{"steps": 1, "noise": 0} | settings)


def with_column(values: Any) -> torch.Tensor:
    x = normal()
    return torch.cat([x, torch.as_tensor(values(x), dtype=x.dtype)[:, None]], 1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda x: x[:, 1], "column 3 is a linear function of column 1"),
        (lambda x: 3 * x[:, 0] - 2 * x[:, 2] + 100, "column 3 is a linear function of column 0, column 2"),
        (lambda x: x[:, 0] > 0.3, r"column 3 is 0 in 5\d% of the rows"),
        (lambda x: x[:, 0].clamp(-1, 1), r"column 3 is (-1|1) in 1\d% of the rows"),
    ],
)
def test_columns_over_which_a_density_has_no_bound_are_named_once(values: Any, told: str) -> None:
    x = with_column(values)
    with pytest.warns(UserWarning, match=f"can grow without bound: {told}\\. Leave them out") as caught:
        short(x, steps=3)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    short(x, check=False)
    short(x, noise=0.1)  # noise gives each value a width


@pytest.mark.parametrize(
    "values",
    [
        lambda x: x.sum(1) + 1e-3 * normal(seed=1)[:, 0],  # nearly a sum
        lambda x: (30 * x[:, 0]).round(),  # ages: ties, but none that stands out
        lambda x: 1e3 + x[:, 1] + 0.01 * normal(seed=1)[:, 0],  # far from zero, in float32
        lambda x: x[:, 0] ** 2,  # determined, but not linearly
    ],
)
def test_ordinary_columns_pass(values: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short(with_column(values))
        warn_of_unbounded(normal().double().numpy() * [1e200, 1e-200, 1.0])
        short(normal(8, 7))  # as many columns as rows: they determine each other whatever they hold
        short(normal(20, 2).repeat(3, 1))


def test_a_table_names_numbers_that_others_determine() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    table = {"a": a, "b": b, "total": a + b, "colour": rng.choice(["u", "v"], 200), "age": rng.integers(0, 90, 200)}
    with pytest.warns(UserWarning, match=r"without bound: 'total' is a linear function of 'a', 'b'") as caught:
        pf.fit_table(table, steps=1, progress="none", stack=False)
    assert len(caught) == 1
    pf.fit_table(table, steps=1, progress="none", check=False, stack=False)
    del table["total"]
    pf.fit_table(table, steps=1, progress="none", stack=False)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_complex_numbers_are_refused(kind: Any) -> None:
    x = kind(normal().numpy() * (1 + 1j))
    flow = pf.real_nvp(3, depth=2)
    for call in (lambda: short(x), lambda: flow.log_prob(x), lambda: flow.f(x)):
        with pytest.raises(ValueError, match=r"x must be real numbers, got .*complex"):
            call()
    for space, rows in ((pf.Vectors(3), x), (pf.Tensors((1, 3)), x[:, None])):
        with pytest.raises(ValueError, match=r"rows must be real numbers, got .*complex"):
            space.read(rows)


def test_values_beyond_float32_are_told_from_infinities() -> None:
    x = normal().double()
    x[3, 1] = 1e40
    with pytest.raises(ValueError, match=r"column 1 of x has mean .*e\+37 and standard .*, beyond what float32"):
        short(x.numpy())
    with pytest.raises(ValueError, match=r"flow.double\(\)"):
        short(x.tolist())
    flow = pf.real_nvp(3, depth=2, width=8, seed=0).double()
    assert pf.fit(flow, x, steps=2, progress="none").stopped == "done"
    x[3, 1] = torch.inf
    with pytest.raises(ValueError, match=r"x has 1 values that are not finite numbers, the first at row 3.*: inf"):
        short(x)
    context = torch.zeros(500, 1).double()
    context[::2] = -1e41
    with pytest.raises(ValueError, match=r"column 0 of the context has mean .*e\+40 and .*, beyond what float32 holds"):
        pf.fit(pf.real_nvp(3, context_dim=1, depth=2), normal(), context=context, steps=1, progress="none")
