"""The statistics and baselines behind a check, against closed forms and the libraries that know them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pushforward.checks import stats
from pushforward.checks.integral import importance, quadrature

RNG = np.random.default_rng


def test_the_chance_of_kolmogorov_smirnov_distances() -> None:
    rng = RNG(0)
    assert scipy_stats.kstwo.sf(stats.ks_noise(1000), 1000) == pytest.approx(stats.ALPHA, rel=0.1)
    far = [max(stats.ks_two(*rng.random((2, 300))) for _ in range(5)) for _ in range(400)]
    assert np.mean(np.array(far) > stats.ks_noise(150, 5)) <= 0.01
    assert stats.ks_noise(0) == math.inf


def test_auc_and_its_error() -> None:
    rng = RNG(1)
    low, high = rng.normal(size=400), rng.normal(1, 1, 300)
    value, se = stats.auc(low, high)
    assert value == pytest.approx(scipy_stats.mannwhitneyu(high, low).statistic / (400 * 300))
    draws = [stats.auc(rng.normal(size=400), rng.normal(1, 1, 300))[0] for _ in range(400)]
    assert np.mean(draws) == pytest.approx(scipy_stats.norm.cdf(1 / math.sqrt(2)), abs=0.005)
    assert se == pytest.approx(np.std(draws), rel=0.15)
    assert stats.auc(np.zeros(5), np.zeros(5))[0] == 0.5


def test_rank_correlations_are_scipy_s() -> None:
    x = RNG(2).normal(size=(200, 3)).round(1)
    assert stats.spearman(x)[0] == pytest.approx(scipy_stats.spearmanr(x).statistic)
    assert stats.spearman(np.ones((5, 2)))[0][0, 1] == 0


@pytest.mark.parametrize("share", [1.0, 0.3, 0.03], ids="of {} of the rows".format)
def test_the_error_of_a_rank_correlation_is_what_it_varies_by(share: float) -> None:
    rng = RNG(3)

    def draw(n: int) -> Any:
        x = rng.normal(size=(n, 2)) + rng.normal(size=(n, 1))
        return np.where(rng.random((n, 1)) < share, x, 0.0)  # both columns are 0 in most rows

    drawn = [stats.spearman(draw(400)) for _ in range(400)]
    spread = np.std([r[0, 1] for r, _ in drawn])
    median = np.median([se[0, 1] for _, se in drawn])
    assert 0.8 * spread < median < 1.3 * spread


def test_the_error_of_a_high_rank_correlation_is_small() -> None:
    x = RNG(4).normal(size=(400, 1))
    r, se = stats.spearman(np.hstack([x, x + 0.1 * RNG(5).normal(size=(400, 1))]))
    assert r[0, 1] > 0.98
    assert se[0, 1] < 0.1 / 400**0.5


@pytest.mark.parametrize(
    ("value", "noise", "verdict"),
    [
        (0.01, 0.001, "good"), (0.07, 0.001, "doubtful"), (0.2, 0.01, "bad"), (0.04, 0.08, "good"),
        (0.07, 0.08, "cannot tell"),
        (0.2, 0.5, "cannot tell"), (-1.0, 0.5, "good"), (math.inf, 0.1, "bad"), (0.0, math.nan, "cannot tell"),
    ],
)  # fmt: skip
def test_verdicts(value: float, noise: float, verdict: str) -> None:
    assert stats.judge(value, noise, 0.05, 0.1) == verdict


@pytest.mark.parametrize("features", [1, 2])
def test_quadrature_far_from_the_origin_and_on_unequal_scales(features: int) -> None:
    scale = np.array([1e-3, 50.0])[:features]
    near = RNG(0).normal(size=(500, features)) * scale + 1e3
    log_prob = lambda x: scipy_stats.norm(1e3, scale).logpdf(x).sum(1)  # noqa: E731
    value, error = quadrature(log_prob, near)
    assert value == pytest.approx(1, abs=1e-6)
    assert error < 1e-6
    heavy = lambda x: scipy_stats.t(4, 1e3, scale).logpdf(x).sum(1)  # noqa: E731
    assert quadrature(heavy, near)[0] == pytest.approx(1, abs=1e-4)


def test_importance_sampling_on_unequal_scales_and_in_several_clusters() -> None:
    rng, scale = RNG(1), np.array([1e-6, 1.0, 1e6])
    shift = np.where(rng.random((3000, 1)) < 0.3, 30.0, 0.0)
    samples = (rng.normal(size=(3000, 3)) + shift) * scale

    def log_prob(x: np.ndarray) -> np.ndarray:
        parts = [math.log(w) + scipy_stats.norm.logpdf(x / scale - m).sum(1) for w, m in ((0.7, 0.0), (0.3, 30.0))]
        return np.logaddexp.reduce(parts) - np.log(scale).sum()

    result = importance(log_prob, samples, 0, draws=20_000)
    assert result["integral"] == pytest.approx(1, abs=4 * result["se"])
    assert result["se"] < 0.02


def test_importance_sampling_of_a_known_mass_with_an_honest_error() -> None:
    samples = RNG(1).normal(size=(3000, 6))
    log_prob = lambda x: scipy_stats.norm.logpdf(x).sum(1) + math.log(0.7)  # noqa: E731
    result = [importance(log_prob, samples, seed, draws=4000) for seed in range(12)]
    values = np.array([f["integral"] for f in result])
    assert values.mean() == pytest.approx(0.7, abs=0.02)
    assert values.std() == pytest.approx(np.mean([f["se"] for f in result]), rel=0.6)
