"""Seeds: any whole number, also where numpy and scikit-learn take fewer."""

from __future__ import annotations

import numpy as np
import pytest

import pushforward as pf
from checked import normal, scaled
from pushforward.baselines import fit_gaussian_mixture, fit_shrunk_gaussian
from pushforward.checks import check


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_any_whole_number_seeds_simple_densities(seed: int) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(250, 2)), rng.normal(size=(250, 2)) + 6])
    assert len(fit_gaussian_mixture(x, seed).weights) == len(fit_gaussian_mixture(x, 0).weights) > 1
    factors = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20)) + 0.1 * rng.normal(size=(30, 20))
    assert fit_shrunk_gaussian(factors, seed).label == fit_shrunk_gaussian(factors, 0).label


@pytest.mark.parametrize("seed", [-1, 2**32, np.int64(-3)])
def test_any_whole_number_seeds_checks_and_tables(seed: int) -> None:
    assert check(scaled(2), normal(300, 2), normal(300, 2, 1), seed=seed).verdicts["samples"] != "bad"
    rows = {"size": np.random.default_rng(0).normal(size=60), "kind": ["a", "b"] * 30}
    pf.fit_table(rows, steps=2, seed=seed, progress="none")


def test_a_seed_that_is_no_whole_number_is_told() -> None:
    with pytest.raises(ValueError, match=r"seed must be a whole number, got 1\.5"):
        check(scaled(2), normal(300, 2), seed=1.5)  # type: ignore[arg-type]
