"""Columns that know nothing of any other: found, left out of a chosen flow, and no less exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.training.dependence import dependent_columns


def normals(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curve(rows: int = 4000, columns: int = 12, seed: int = 0) -> Tensor:
    """Columns 3 and 7 lie on a curve, the others are independent."""
    x = normals(rows, columns, seed)
    x[:, 7] = x[:, 3].square() + 0.3 * x[:, 7]
    return 5 + 100 * x


def spread(rows: int = 4000) -> Tensor:
    """The spread of column 2 depends on column 5."""
    x = normals(rows, 12)
    x[:, 2] *= (0.8 * x[:, 5]).exp()
    return x


def signs(rows: int = 10_000) -> Tensor:
    """Columns 1, 4 and 8 depend on each other, though each two of them are independent."""
    x = normals(rows, 12)
    x[:, 8] = x[:, 8].abs() * (x[:, 1] * x[:, 4]).sign()
    return x


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(curve(), [3, 7]), (spread(), [2, 5]), (signs(), [1, 4, 8]), (curve(500), None), (curve(4000, 8)[:, :7], None)],
)
def test_columns_that_depend_on_others_are_found(rows: Tensor, expected: list[int] | None) -> None:
    assert dependent_columns(rows) == expected


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_are_told_by_the_training(value: float) -> None:
    x = curve()
    x[17, 5] = value
    assert dependent_columns(x.repeat(2, 1)) in (None, [3, 7])
    with pytest.raises(ValueError, match="row 17"):
        pf.fit("auto", x, steps=2, progress="none")
    x[:, 5] = 1.0
    with pytest.raises(ValueError, match="constant"):
        pf.fit("auto", x, steps=2, progress="none")


def test_independent_columns_that_are_not_normal_are_the_flows() -> None:
    x = curve()
    x[:, 0] = torch.rand(4000, generator=torch.Generator().manual_seed(1)).double()
    assert dependent_columns(x) == [0, 3, 7]
    x[:, 0] = normals(4000, 1)[:, 0].mul(2).exp()  # which is bent to a normal one
    assert dependent_columns(x) == [3, 7]


def test_chance_is_no_dependence() -> None:
    found = [dependent_columns(curve(2000, 16, seed)) for seed in range(20)]
    assert sum(columns != [3, 7] for columns in found) <= 1


def log_prob_of_curve(x: Tensor) -> Tensor:
    z = (x - 5) / 100
    residual = z.index_copy(1, torch.tensor([7]), ((z[:, 7] - z[:, 3].square()) / 0.3)[:, None])
    return torch.distributions.Normal(0.0, 1.0).log_prob(residual).sum(1) - np.log(0.3) - 12 * np.log(100)


@pytest.mark.parametrize("by", ["fit", "estimator"])
def test_a_chosen_flow_looks_at_these_alone(by: str, tmp_path: Path) -> None:
    x, test = curve(), curve(seed=1)
    if by == "fit":
        density: Any = pf.fit("auto", x, steps=150, stack=False, progress="none").density
    else:
        density = pf.FlowDensity(steps=150, stack=False, random_state=0).fit(x.numpy()).density_
    assert density.recipe["arguments"]["columns"] == [3, 7]
    assert float((log_prob_of_curve(test) - density.log_prob(test).detach()).mean()) < 0.2
    z, log_det = density.f(test[:50])
    torch.testing.assert_close(density.g(z).double(), test[:50], atol=0.05, rtol=1e-3)
    assert log_det.shape == (50,)
    pf.save(density, tmp_path / "m.safetensors")
    assert torch.equal(pf.load(tmp_path / "m.safetensors").log_prob(test), density.log_prob(test))


def test_a_training_sees_these_alone_and_counts_the_others() -> None:
    x = curve()
    flow = pf.spline_flow(12, depth=2, width=8, columns=[3, 7], precondition=True, seed=0)
    flow.initialize(x)
    start = flow.fixed_start()
    assert start is not None
    assert start.rest.space.matches(pf.spline_flow(2).space)
    z, context, added = start.map(x, None)
    with torch.no_grad():
        torch.testing.assert_close(
            start.rest.log_prob(z).double() + added, flow.log_prob(x).double(), atol=1e-4, rtol=1e-5
        )
    assert context is None


@pytest.mark.parametrize("columns", [[], [0, 0], [3], [-1]])
def test_columns_that_a_recipe_cannot_take_are_named(columns: list[int]) -> None:
    with pytest.raises(ValueError, match="columns must be some of 0 to 2, each once"):
        pf.real_nvp(3, columns=columns)
    if columns != [3]:
        with pytest.raises(ValueError, match="channels must be numbers from 0 on, each once"):
            pf.OnChannels(columns, pf.Chain())


def test_columns_without_a_precondition_are_standardised() -> None:
    x = curve()
    flow = pf.real_nvp(12, depth=2, width=8, columns=[7, 3], seed=0)
    flow.initialize(x)
    z = flow.f(x)[0].double()
    torch.testing.assert_close(z.std(0), torch.ones(12).double(), atol=0.3, rtol=0)
