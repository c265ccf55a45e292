"""Simple densities: against closed forms and scipy, with missing numbers, contexts and states, from file to file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from torch.distributions import MultivariateNormal

import pushforward as pf
from pushforward.baselines import (
    Baseline,
    Frequencies,
    GaussianMixtureDensity,
    Independent,
    fit_baselines,
    fit_frequencies,
    fit_gaussian,
    fit_gaussian_mixture,
    fit_kernel,
)

RNG = np.random.default_rng


def two_clusters(rows: int, seed: int) -> torch.Tensor:
    rng = RNG(seed)
    which = rng.random(rows) < 0.3
    x = np.where(which[:, None], [5.0, 500.0], [0.0, 0.0]) + rng.normal(size=(rows, 2)) * [1.0, 100.0]
    return torch.tensor(x)


def mixed_rows(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three columns of states, and two of numbers, one of which is at times NaN; a context that the numbers follow."""
    rng = RNG(seed)
    states = rng.integers(0, [2, 3, 1], (rows, 3))
    context = rng.normal(size=(rows, 2)) * [1.0, 0.0] + 2
    x = rng.normal(size=(rows, 2)) + context[:, :1]
    x[:, 1] += x[:, 0]
    x[rng.random(rows) < 0.1, 1] = np.nan
    return torch.tensor(np.hstack([states, x])), torch.tensor(context)


def test_the_gaussian_is_the_maximum_likelihood_one() -> None:
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([1e-4, 1.0, 1e5], dtype=torch.float64)
    train = (torch.randn(500, 3, generator=generator, dtype=torch.float64).cumsum(1) + 7) * scales
    test = train[:20] * 1.01
    truth = MultivariateNormal(train.mean(0), train.mT.cov(correction=0)).log_prob(test)
    assert torch.allclose(fit_gaussian(train).log_prob(test), truth, rtol=1e-9)
    own = fit_gaussian(train).log_prob(train).mean()
    for worse in (train * 1.01, train + scales * 0.1):
        assert fit_gaussian(worse).log_prob(train).mean() < own


def test_a_singular_covariance_still_gives_a_density() -> None:
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([1.0, 2.0])
    on, off = fit_gaussian(line).log_prob(torch.tensor([[0.5, 1.0], [0.5, 1.1]]))
    assert math.isfinite(on)
    assert math.isfinite(off)
    assert on > off + 100


@pytest.mark.parametrize(
    ("rows", "message"),
    [([[1.0, 2.0]], "at least 2 rows"), ([[1.0], [math.nan]], "finite"), ([[1.0, 2.0], [3.0, 2.0]], "constant")],
)
def test_bad_rows_for_the_gaussian(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_gaussian(rows)


def test_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="expected 1 columns"):
        fit_gaussian([[1.0], [2.0]]).log_prob([[1.0, 2.0]])


def test_the_mixture_finds_the_number_of_components_and_the_density() -> None:
    x = two_clusters(2000, 0)
    mixture = fit_gaussian_mixture(x, seed=0)
    assert mixture.label == "Gaussian mixture of 2"
    assert sorted(mixture.weights.tolist()) == pytest.approx([0.3, 0.7], abs=0.04)
    parts = [
        w.log() + MultivariateNormal(m, c).log_prob(x)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    assert torch.allclose(mixture.log_prob(x), torch.stack(parts).logsumexp(0))


def test_the_kernel_density_is_the_mean_of_its_kernels_and_comes_near_the_truth() -> None:
    rng = RNG(0)
    x = torch.tensor(rng.normal(size=(600, 1)) * 3 + 7)
    kernel = fit_kernel(x, 0)
    grid = torch.linspace(-40, 60, 20_001, dtype=torch.float64)[:, None]
    assert float(kernel.log_prob(grid).exp().sum()) * 0.005 == pytest.approx(1, abs=1e-6)
    width = float(kernel.covariances.sqrt())
    direct = scipy_stats.norm(x[:, 0], width).pdf(8.0).mean()
    assert float(kernel.log_prob([[8.0]]).exp()) == pytest.approx(direct)
    test = rng.normal(size=(1500, 1)) * 3 + 7
    truth = scipy_stats.norm(7, 3).logpdf(test[:, 0]).mean()
    assert float(kernel.log_prob(test).mean()) == pytest.approx(truth, abs=0.03)


def test_missing_numbers_are_integrated_out() -> None:
    mixture = fit_gaussian_mixture(two_clusters(2000, 0), seed=0)
    x = two_clusters(50, 1)
    x[:20, 0] = math.nan
    x[20:25] = math.nan
    second = GaussianMixtureDensity(mixture.weights, mixture.means[:, 1:], mixture.covariances[:, 1:, 1:])
    log_prob = mixture.log_prob(x)
    assert torch.allclose(log_prob[:20], second.log_prob(x[:20, 1:]))
    assert torch.allclose(log_prob[20:25], torch.zeros(5, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(log_prob[25:], mixture.log_prob(x[25:]))


def test_a_context_is_conditioned_on_and_samples_follow_it() -> None:
    rng = RNG(0)
    context = rng.choice([-3.0, 3.0], (3000, 1)) + 0.5 * rng.normal(size=(3000, 1))
    x = np.abs(context) - context + 0.5 * rng.normal(size=(3000, 1))
    joint = torch.tensor(np.hstack([x, context]))
    density = fit_gaussian_mixture(joint, 0, context_dim=1)
    marginal = GaussianMixtureDensity(density.weights, density.means[:, 1:], density.covariances[:, 1:, 1:])
    whole = GaussianMixtureDensity(density.weights, density.means, density.covariances)
    difference = whole.log_prob(joint) - marginal.log_prob(context)
    assert torch.allclose(density.log_prob(x, context), difference, atol=1e-9)
    drawn = density.sample(2000, torch.tensor([[-3.0], [3.0]]), generator=0)
    assert drawn.shape == (2000, 2, 1)
    assert drawn.mean((0, 2)).tolist() == pytest.approx([6, 0], abs=0.05)
    assert drawn.std(0)[:, 0].tolist() == pytest.approx([0.5, 0.5], abs=0.15)


def test_frequencies_are_smoothed_and_a_mass() -> None:
    frequencies = fit_frequencies(torch.tensor([[0, 1], [0, 1], [1, 1], [0, 0]]), [2, 3])
    every = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    mass = frequencies.log_prob(every).exp()
    assert float(mass.sum()) == pytest.approx(1)
    assert float(mass[0]) == pytest.approx(3.5 / 5 * 1.5 / 5.5)
    drawn = frequencies.sample(20_000, generator=0)
    counted = torch.stack([(drawn == row).all(1).double().mean() for row in every])
    assert torch.allclose(counted, mass, atol=0.015)


@pytest.mark.parametrize("conditional", [False, True])
def test_baselines_of_states_and_numbers(conditional: bool) -> None:
    x, context = mixed_rows(1500, 0)
    given = context if conditional else None
    baselines = fit_baselines(x, (2, 3, 1), given, seed=0)
    assert list(baselines) == ["gaussian", "mixture"]
    test, test_context = mixed_rows(400, 1)
    gaussian = baselines["gaussian"].log_prob(test, test_context if conditional else None)
    assert gaussian.isfinite().all()
    marginal = baselines["gaussian"].log_prob(test, test_context[:1].expand(400, 2) if conditional else None)
    if conditional:  # the numbers follow the context: a wrong one costs
        assert gaussian.mean() > marginal.mean() + 0.3
    drawn = baselines["mixture"].sample(3, test_context if conditional else None, generator=0)
    assert drawn.shape == ((3, 400, 5) if conditional else (3, 5))


def test_columns_that_allow_no_baseline() -> None:
    x = torch.tensor([[0.0, 1.0, 5.0], [1.0, 2.0, 5.0], [0.0, 3.0, 5.0]])
    assert fit_baselines(x, (2,), None, 0) == {}
    assert list(fit_baselines(x[:, :1], (2,), None, 0)) == ["frequencies"]
    assert list(fit_baselines(two_clusters(300, 0), (), None, 0)) == ["gaussian", "mixture", "kde"]


def baselines() -> list[Baseline]:
    x, context = mixed_rows(300, 0)
    numbers = fit_baselines(two_clusters(200, 0), (), None, 0)
    states = fit_baselines(x, (2, 3, 1), context, 0)
    return [Frequencies([2, 4]), *numbers.values(), *states.values()]


@pytest.mark.parametrize("number", range(6))
def test_baselines_are_densities_that_save_and_load(number: int, tmp_path: Path) -> None:
    density = baselines()[number]
    context = mixed_rows(30, 3)[1] if density.context_dim else None
    n = 30 if context is None else 1
    x = density.sample(n, context, generator=4)
    assert torch.equal(x, density.sample(n, context, generator=4))
    x = x.view(30, -1)
    mixture = pf.Mixture([density, baselines()[number]], [0.2, 0.8])
    for saved in (density, mixture):
        pf.save(saved, tmp_path / "density.safetensors")
        again = pf.load(tmp_path / "density.safetensors")
        assert torch.equal(again.log_prob(x, context), saved.log_prob(x, context))
    assert pf.load(tmp_path / "density.safetensors")[0].label == density.label


def test_damaged_files_of_baselines_are_refused(tmp_path: Path) -> None:
    from pushforward.io.models import Builder

    builder = Builder(tmp_path / "x", 3, 0)
    gaussian = {"components": 2, "width": 1, "context_dim": 0}
    for kind, settings in [
        ("frequencies", {"sizes": [0]}),
        ("frequencies", {"sizes": "ab"}),
        ("gaussian_mixture", gaussian | {"components": -1}),
        ("gaussian_mixture", gaussian | {"context_dim": 2}),
        ("independent", {"densities": []}),
        ("independent", {"densities": [{"kind": "mixture", "settings": {"densities": [gaussian]}}]}),
    ]:
        with pytest.raises(ValueError):  # noqa: PT011  # each its own message
            builder.build({"kind": kind, "settings": settings})


def test_independent_parts_sum_up() -> None:
    parts = fit_gaussian([[0.0], [2.0]]), fit_gaussian([[0.0], [4.0]])
    x = torch.tensor([[1.0, 2.0]])
    each = sum(part.log_prob(x[:, i : i + 1]) for i, part in enumerate(parts))
    assert torch.allclose(Independent(parts).log_prob(x), torch.as_tensor(each))
