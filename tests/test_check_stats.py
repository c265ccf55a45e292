"""The statistics and baselines behind a check, against closed forms and the libraries that know them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from pushforward.checks import stats
from pushforward.checks.integral import importance, quadrature
from pushforward.checks.mixture import Mixture, fit_mixture, kde_log_prob

RNG = np.random.default_rng


def test_kolmogorov_smirnov_is_scipy_s() -> None:
    rng = RNG(0)
    u, a, b = rng.random(300), rng.normal(size=200).round(1), rng.normal(0.2, 1, 150).round(1)
    exact = scipy_stats.kstest(u, "uniform")
    assert stats.ks_uniform(u) == pytest.approx(exact.statistic)
    assert stats.ks_p(exact.statistic, 300) == pytest.approx(exact.pvalue, abs=0.01)
    assert stats.ks_two(a, b) == pytest.approx(scipy_stats.ks_2samp(a, b).statistic)
    assert stats.wasserstein(a, b) == pytest.approx(scipy_stats.wasserstein_distance(a, b))
    assert stats.ks_p(stats.ks_noise(1000), 1000) == pytest.approx(0.01, rel=0.1)


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
    assert stats.spearman(x) == pytest.approx(scipy_stats.spearmanr(x).statistic)
    assert stats.spearman(np.ones((5, 2)))[0, 1] == 0


@pytest.mark.parametrize(
    ("value", "noise", "verdict"),
    [
        (0.01, 0.001, "good"), (0.07, 0.001, "doubtful"), (0.2, 0.01, "bad"), (0.07, 0.08, "good"),
        (0.2, 0.5, "cannot tell"), (-1.0, 0.5, "good"), (math.inf, 0.1, "bad"), (0.0, math.nan, "cannot tell"),
    ],
)  # fmt: skip
def test_verdicts(value: float, noise: float, verdict: str) -> None:
    assert stats.judge(value, noise, 0.05, 0.1) == verdict


def two_clusters(rows: int, seed: int) -> np.ndarray:
    rng = RNG(seed)
    which = rng.random(rows) < 0.3
    return np.where(which[:, None], [5.0, 500.0], [0.0, 0.0]) + rng.normal(size=(rows, 2)) * [1.0, 100.0]


def test_the_mixture_finds_the_number_of_components_and_the_density() -> None:
    x = two_clusters(2000, 0)
    found = fit_mixture(x, seed=0)
    assert len(found.weights) == 2
    assert sorted(found.weights) == pytest.approx([0.3, 0.7], abs=0.04)
    normal = torch.distributions.MultivariateNormal
    parts = [
        math.log(w) + normal(torch.tensor(m), torch.tensor(c)).log_prob(torch.tensor(x))
        for w, m, c in zip(found.weights, found.means, found.covariances, strict=True)
    ]
    assert found.log_prob(x) == pytest.approx(torch.stack(parts).logsumexp(0).numpy())
    second = Mixture(found.weights, found.means[:, 1:], found.covariances[:, 1:, 1:])
    assert found.log_prob(x, [1]) == pytest.approx(second.log_prob(x[:, 1:]))


def test_heavy_tailed_draws_have_their_density() -> None:
    mixture = Mixture(np.array([0.4, 0.6]), np.array([[-3.0], [2.0]]), np.array([[[1.0]], [[0.25]]]))
    grid = np.linspace(-400, 400, 400_001)[:, None]
    density = np.exp(mixture.heavy_tailed(grid))
    assert density.sum() * 0.002 == pytest.approx(1, abs=1e-4)
    draws = mixture.sample_heavy_tailed(4000, RNG(0))[:, 0]
    u = np.interp(draws, grid[:, 0], density.cumsum() * 0.002)
    assert stats.ks_uniform(u) < 0.03


def test_the_kernel_density_integrates_to_one_and_comes_near_the_truth() -> None:
    rng = RNG(0)
    x = rng.normal(size=(600, 1)) * 3 + 7
    value, _ = quadrature(lambda at: kde_log_prob(x, at, 0)[0], x)
    assert value == pytest.approx(1, abs=1e-6)
    test = rng.normal(size=(1500, 1)) * 3 + 7
    truth = scipy_stats.norm(7, 3).logpdf(test[:, 0]).mean()
    assert kde_log_prob(x, test, 0)[0].mean() == pytest.approx(truth, abs=0.03)


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


def test_importance_sampling_of_a_known_mass_with_an_honest_error() -> None:
    samples = RNG(1).normal(size=(3000, 6))
    log_prob = lambda x: scipy_stats.norm.logpdf(x).sum(1) + math.log(0.7)  # noqa: E731
    found = [importance(log_prob, samples, seed, draws=4000) for seed in range(12)]
    values = np.array([f["integral"] for f in found])
    assert values.mean() == pytest.approx(0.7, abs=0.02)
    assert values.std() == pytest.approx(np.mean([f["se"] for f in found]), rel=0.6)
