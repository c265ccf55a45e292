"""Checks of odd rows: few, many, constant, repeated, impossible, decisive; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pushforward as pf
from checked import DENSITY, RNG, normal, scaled
from pushforward.checks import check
from pushforward.checks.stats import GOOD
from pushforward.estimators import FlowDensity


def test_rows_that_are_no_vectors() -> None:
    x = RNG(1).standard_normal((1500, 1, 2, 2))
    report = check(pf.Flow(pf.Chain(), (1, 2, 2)), x)
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert report["exactness"].figures["integral"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("rows", [1, 2, 15])
def test_few_rows_cannot_tell(rows: int) -> None:
    report = check(scaled(2), normal(rows, 2))
    assert set(report.verdicts.values()) == {"cannot tell"}
    assert "GOOD        Exact" in report.text()
    assert "too few" in report.answers["ranking"].why


def test_more_rows_than_are_used_at_a_time() -> None:
    report = check(scaled(1), normal(3000, 1), max_rows=200, questions=DENSITY)
    assert report.about["used"] == 200
    assert report["likelihood"].figures["rows"] == 3000


def test_a_constant_column_is_told_and_the_others_are_compared() -> None:
    x = normal(600, 2)
    x[:, 1] = 3.0
    base = pf.GaussianMixture(
        2, 1, means=torch.tensor([[0.0, 3.0]]), scales=torch.tensor([[1.0, 1e-3]]), learnable=False
    )
    report = check(pf.Flow(pf.Chain(), 2, base), x, columns=["a", "flat"], questions=DENSITY)
    assert ["constant", "", "flat: simple densities take the model's own spread of it"] in report["likelihood"].table
    assert report["likelihood"].verdict == GOOD
    assert abs(report["likelihood"].figures["baselines"]["gaussian"]["gain"]) < 0.05
    base = pf.GaussianMixture(
        2, 1, means=torch.tensor([[2.0, 3.0]]), scales=torch.tensor([[1.0, 1e-3]]), learnable=False
    )
    assert check(pf.Flow(pf.Chain(), 2, base), x, questions=DENSITY)["likelihood"].verdict == "bad"


def test_repeated_values_are_told() -> None:
    report = check(scaled(2), normal(1000, 2).round(1), columns=["a", "b"], questions=DENSITY)
    assert "values repeat in a, b" in report["likelihood"].why


def test_rows_without_density_are_bad() -> None:
    uniform = torch.distributions.Uniform(torch.zeros(2), torch.ones(2))
    x = RNG(0).random((500, 2))
    x[7] = 3.0
    report = check(pf.Flow(pf.Chain(), 2, uniform), x, row_numbers=range(1, 501), questions=DENSITY)
    assert report["likelihood"].verdict == "doubtful"  # it ranks last, as it should, and has no probability
    assert "row 8" in report["likelihood"].why
    assert report["tails"].figures["least_likely"][0]["row"] == 8


def test_one_row_that_decides_the_mean_is_named_as_such() -> None:
    x = normal(800, 2)
    x[3] = 1e4
    report = check(scaled(2), x[:400], normal(800, 2, 1), questions=DENSITY)
    assert report.verdicts["ranking"] == GOOD  # it is an outlier
    assert report.verdicts["probabilities"] == "doubtful"
    assert "one row costs" in report.answers["probabilities"].why


def test_bad_input_says_what_is_wrong() -> None:
    x = normal(50, 2)
    with pytest.raises(ValueError, match=r"test: expected rows of shape \(N, 2\)"):
        check(scaled(2), normal(50, 3))
    with pytest.raises(ValueError, match=r"test: expected rows.*got \(0, 2\)"):
        check(scaled(2), x[:0])
    with pytest.raises(ValueError, match=r"finite.*row 4"):
        check(scaled(2), np.where(np.arange(50)[:, None] == 4, np.nan, x))
    with pytest.raises(ValueError, match="2 column names"):
        check(scaled(2), x, columns=["a"])
    with pytest.raises(ValueError, match="a density"):
        check("model", x)
    with pytest.raises(ValueError, match="row_numbers"):
        check(scaled(2), x, row_numbers=[1])


def test_a_point_mass_gains_nothing_over_simple_densities() -> None:
    x = normal(600, 2)
    x[:, 1] = 7.0
    density = FlowDensity(steps=20).fit(x).density_
    section = check(density, x, questions=["ranking"])["likelihood"]
    gaussian, alone = section.figures["baselines"]["gaussian"], check(scaled(1), x[:, :1])["likelihood"]
    assert gaussian["mean"] == pytest.approx(alone.figures["baselines"]["gaussian"]["mean"], abs=0.05)
