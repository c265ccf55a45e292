"""Simple densities: against closed forms and scipy, with missing numbers, contexts and states, from file to file."""

from __future__ import annotations

import copy
import math
from functools import cache
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
    fit_latent_classes,
    fit_mixed_kernel,
    fit_shrunk_gaussian,
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


def test_sampling_holds_no_matrix_of_rows_and_components() -> None:
    x = two_clusters(3000, 0)
    rows = 20_000
    with torch.profiler.profile(profile_memory=True) as profile:
        fit_kernel(x, 0).sample(rows, generator=0)
        fit_gaussian(torch.cat([x] * 20, 1)).sample(rows, generator=0)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 8 * rows * 100


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


@pytest.mark.parametrize(("rows", "message"), [([[1.0, 2.0]], "at least 2 rows"), ([[1.0], [math.nan]], "finite")])
def test_bad_rows_for_the_gaussian(rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_gaussian(rows)


def test_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"expected x of shape \(\.\.\., 1\), got \(1, 2\)"):
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
    assert list(baselines) == ["gaussian", "mixture", "classes", "kernel"]
    test, test_context = mixed_rows(400, 1)
    gaussian = baselines["gaussian"].log_prob(test, test_context if conditional else None)
    assert gaussian.isfinite().all()
    marginal = baselines["gaussian"].log_prob(test, test_context[:1].expand(400, 2) if conditional else None)
    if conditional:  # the numbers follow the context: a wrong one costs
        assert gaussian.mean() > marginal.mean() + 0.3
    drawn = baselines["mixture"].sample(3, test_context if conditional else None, generator=0)
    assert drawn.shape == ((3, 400, 5) if conditional else (3, 5))


def test_which_baselines_there_are() -> None:
    x = torch.tensor([[0.0, 1.0, 5.0], [1.0, 2.0, 5.0], [0.0, 3.0, 5.0]])
    assert list(fit_baselines(x, (2,), None, 0)) == ["gaussian", "mixture", "classes", "kernel"]
    assert list(fit_baselines(x[:, :1], (2,), None, 0)) == ["frequencies", "classes", "kernel"]
    assert list(fit_baselines(two_clusters(300, 0), (), None, 0)) == ["gaussian", "mixture", "kde", "classes"]


@pytest.mark.parametrize("value", [7.0, 0.1, math.nan])
def test_a_constant_column_leaves_the_others_to_be_compared(value: float) -> None:
    """Each baseline has one and the same factor for it, which the others do not depend on."""
    x, _ = mixed_rows(600, 0)
    test, _ = mixed_rows(200, 1)
    wider, wider_test = (torch.cat([v, torch.full((len(v), 1), value).double()], 1) for v in (x, test))
    without, with_it = (fit_baselines(v, (2, 3, 1), None, 0) for v in (x, wider))
    assert list(without) == list(with_it)
    factor = 0.0 if math.isnan(value) else -0.5 * math.log(2 * math.pi)
    for name, density in with_it.items():
        difference = density.log_prob(wider_test) - without[name].log_prob(test)
        torch.testing.assert_close(difference, torch.full_like(difference, factor), atol=1e-6, rtol=0)


def states_and_numbers(rows: int) -> torch.Tensor:
    """A context of three states and a number."""
    return torch.tensor(np.stack([RNG(5).integers(0, 3, rows), RNG(6).normal(size=rows)], 1))


@cache
def baselines() -> list[Baseline]:
    x, context = mixed_rows(300, 0)
    numbers = fit_baselines(two_clusters(200, 0), (), None, 0)
    states = fit_baselines(x, (2, 3, 1), context, 0)
    with_states = fit_baselines(x, (2, 3, 1), states_and_numbers(300), 0, context_sizes=(3,))
    return [Frequencies([2, 4]), *numbers.values(), *states.values(), with_states["classes"], with_states["kernel"]]


@pytest.mark.parametrize("number", range(11))
def test_baselines_are_densities_that_save_and_load(number: int, tmp_path: Path) -> None:
    density = baselines()[number]
    context = (mixed_rows(30, 3)[1] if number < 9 else states_and_numbers(30)) if density.context_dim else None
    n = 30 if context is None else 1
    x = density.sample(n, context, generator=4)
    assert torch.equal(x, density.sample(n, context, generator=4))
    x = x.view(30, -1)
    mixture = pf.Mixture([density, copy.deepcopy(density)], [0.2, 0.8])
    for saved in (density, mixture):
        pf.save(saved, tmp_path / "density.safetensors")
        again = pf.load(tmp_path / "density.safetensors")
        assert torch.equal(again.log_prob(x, context), saved.log_prob(x, context))
    assert pf.load(tmp_path / "density.safetensors")[0].label == density.label


def test_damaged_files_of_baselines_are_refused(tmp_path: Path) -> None:
    from pushforward.io.registry import Builder

    builder = Builder(tmp_path / "x", 3, 0)
    gaussian = {"components": 2, "width": 1, "context_dim": 0}
    mixed = {"sizes": [2], "numbers": 1, "context_sizes": [], "context_numbers": 0, "components": 2}
    for kind, settings in [
        ("frequencies", {"sizes": [0]}),
        ("frequencies", {"sizes": "ab"}),
        ("gaussian_mixture", gaussian | {"components": -1}),
        ("gaussian_mixture", gaussian | {"context_dim": 2}),
        ("latent_classes", mixed | {"components": 0}),
        ("latent_classes", mixed | {"sizes": [2, -1]}),
        ("latent_classes", mixed | {"sizes": [], "numbers": 0}),
        ("mixed_kernel", mixed | {"bandwidth": 0.0, "share": 0.1}),
        ("mixed_kernel", mixed | {"bandwidth": 0.1, "share": 1.0}),
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


# Few rows beside the columns.


def factor_rows(rows: int, columns: int, seed: int, noise: float = 0.5) -> torch.Tensor:
    """Columns that follow from three factors, but for noise."""
    loadings = RNG(0).normal(size=(3, columns))
    rng = RNG(seed)
    return torch.tensor(rng.normal(size=(rows, 3)) @ loadings + noise * rng.normal(size=(rows, columns)))


def test_more_columns_than_rows_are_factor_analysed() -> None:
    train, test = factor_rows(60, 80, 1), factor_rows(500, 80, 2)
    gaussian = fit_shrunk_gaussian(train, 0)
    assert gaussian.label == "factor analysis of 3"
    loadings = torch.tensor(RNG(0).normal(size=(3, 80)))
    truth = MultivariateNormal(torch.zeros(80).double(), loadings.mT @ loadings + 0.25 * torch.eye(80).double())
    behind = truth.log_prob(test).mean() - gaussian.log_prob(test).mean()
    assert behind < 6  # 320 numbers are estimated from 60 rows
    assert gaussian.log_prob(test).mean() > fit_gaussian(train).log_prob(test).mean() + 1e4
    assert fit_baselines(train, (), None, 0)["gaussian"].label == gaussian.label


def test_a_covariance_is_shrunk_as_far_as_held_out_rows_ask_for() -> None:
    from sklearn.covariance import ledoit_wolf

    x = torch.tensor(RNG(0).normal(size=(30, 20)))
    shrunk = fit_shrunk_gaussian(x, 0)
    assert shrunk.label == "shrunk Gaussian"
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    expected = torch.from_numpy(ledoit_wolf(standard.numpy())[0])
    std = x.std(0, correction=0)
    torch.testing.assert_close(shrunk.covariances[0], expected * std[:, None] * std)
    line = torch.tensor(RNG(1).normal(size=(60, 1))) @ torch.ones(1, 8).double() + 1e-5 * torch.tensor(
        RNG(2).normal(size=(60, 8))
    )
    assert fit_shrunk_gaussian(line, 0).label == "Gaussian, full covariance"  # which no shrunk one comes near


# Latent classes.


def class_rows(rows: int, seed: int, missing: float = 0.0) -> torch.Tensor:
    """Two classes of weights .3 and .7, in which a state of two, a state of three and two numbers are independent."""
    rng = RNG(seed)
    k = (rng.random(rows) < 0.7).astype(int)
    a = rng.random(rows) < np.array([0.1, 0.8])[k]
    b = (rng.random(rows)[:, None] > np.array([[0.6, 0.9], [0.2, 0.3]])[k]).sum(1)
    y = rng.normal(size=(rows, 2)) * [1.0, 20.0] + np.array([[0.0, 0.0], [3.0, 100.0]])[k]
    y[rng.random((rows, 2)) < missing] = np.nan
    return torch.tensor(np.column_stack([a, b, y]))


def test_latent_classes_are_recovered() -> None:
    classes = fit_latent_classes(class_rows(2000, 0, missing=0.1), [2, 3], 0)
    assert classes.label == "latent classes, K = 2"
    order = classes.weights.argsort()
    assert classes.weights[order].tolist() == pytest.approx([0.3, 0.7], abs=0.03)
    expected = [[0.9, 0.1, 0.6, 0.3, 0.1], [0.2, 0.8, 0.2, 0.1, 0.7]]
    np.testing.assert_allclose(classes.log_mass[:, order].exp().mT.numpy(), expected, atol=0.06)
    np.testing.assert_allclose(classes.means[order].numpy() / [1, 20], [[0, 0], [3, 5]], atol=0.2)
    np.testing.assert_allclose(classes.covariances[order].sqrt().numpy(), [[1, 20], [1, 20]], rtol=0.1)


def test_classes_that_were_chosen_on_a_part_are_fitted_to_all_rows() -> None:
    x = class_rows(9000, 0)
    classes = fit_latent_classes(x, [2, 3], 0)
    assert classes.label == "latent classes, K = 2"
    whole = classes.log_mass[:2].exp() @ classes.weights  # at its optimum EM keeps the frequencies of all rows
    assert float(whole[1]) == pytest.approx(float(x[:, 0].mean()), abs=2e-3)


def test_latent_classes_are_a_sum_of_products() -> None:
    x = class_rows(400, 0)
    classes = fit_latent_classes(x, [2, 3], 0)
    states, numbers = x[:, :2].long(), x[:, 2:]
    parts = [
        w.log() + mass[states[:, 0]] + mass[2 + states[:, 1]] + MultivariateNormal(m, v.diag()).log_prob(numbers)
        for w, mass, m, v in zip(
            classes.weights, classes.log_mass.unbind(1), classes.means, classes.covariances, strict=True
        )
    ]
    torch.testing.assert_close(classes.log_prob(x), torch.stack(parts).logsumexp(0))
    summed = [classes.log_prob(torch.cat([torch.full((400, 1), s).double(), x[:, 1:]], 1)) for s in (0, 1)]
    x[:, 0] = math.nan
    torch.testing.assert_close(classes.log_prob(x), torch.stack(summed).logsumexp(0))


def test_missing_numbers_do_not_bend_a_full_covariance() -> None:
    """Where 40 % of a number are absent at random, its correlation is that of the rows that have it."""
    rng = RNG(0)
    states = (rng.random(3000) < 0.5).astype(float)
    y = rng.normal(size=(3000, 2)) + 8 * states[:, None]
    y[:, 1] = y[:, 0] + 0.3 * y[:, 1]
    y[rng.random(3000) < 0.4, 1] = np.nan
    classes = fit_latent_classes(np.column_stack([states, y]), [2], 0)
    assert classes.label == "latent classes, full covariances, K = 2"
    for covariance in classes.covariances:
        correlation = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
        assert float(correlation) == pytest.approx(1 / math.sqrt(1.09), abs=0.01)
        assert float(covariance[1, 1]) == pytest.approx(1.09, rel=0.1)


@pytest.mark.parametrize("is_full", [False, True])
def test_each_step_of_em_raises_the_posterior(is_full: bool) -> None:
    from pushforward.baselines.em import EM
    from pushforward.baselines.mixed import fitted_rows

    em = EM(fitted_rows(class_rows(300, 0, missing=0.2), [2, 3]), is_full)
    generator = torch.Generator().manual_seed(0)
    p = em.maximise(em.moments(torch.rand(300, 3, generator=generator).double().softmax(1)))
    last = -math.inf
    for _ in range(30):
        moments, log_prob = em.expect(p)
        assert log_prob > last - 0.5  # the weak prior may take a little of the likelihood
        last, p = log_prob, em.maximise(moments)
    assert last > em.expect(em.maximise(em.moments(torch.ones(300, 3).double() / 3)))[1] + 50


def test_latent_classes_given_states_and_numbers_are_joint_over_marginal() -> None:
    x = class_rows(500, 0)
    given = x[:, [1, 3]]
    conditional = fit_latent_classes(x[:, [0, 2]], [2], 0, context=given, context_sizes=[3])
    joint = fit_latent_classes(x, [2, 3], 0)
    whole = joint.log_prob(x)
    x[:, [0, 2]] = math.nan
    torch.testing.assert_close(
        conditional.log_prob(class_rows(500, 0)[:, [0, 2]], given), whole - joint.log_prob(x), atol=0.02, rtol=0
    )


# A kernel over mixed rows.


def test_a_mixed_kernel_is_the_mean_of_products() -> None:
    x = class_rows(300, 0)
    kernel = fit_mixed_kernel(x, [2, 3], 0)
    row = torch.tensor([[1.0, 2.0, 2.5, 90.0]])
    states, share, product = kernel.states, kernel.share, torch.ones(300).double()
    for m, place in enumerate((1, 4)):
        product *= share * kernel.log_mass[place].exp() + (1 - share) * (states[:, m] == place)
    width = kernel.bandwidth * kernel.std
    product *= torch.distributions.Normal(kernel.centres, width).log_prob(row[:, 2:]).sum(1).exp()
    assert float(kernel.log_prob(row).exp()) == pytest.approx(float(product.mean()))


def test_the_bandwidths_of_a_mixed_kernel_are_those_of_the_best_left_out_likelihood() -> None:
    x = class_rows(400, 0, missing=0.1)
    kernel = fit_mixed_kernel(x, [2, 3], 0)

    def left_out(bandwidth: float, share: float) -> float:
        numbers = torch.where(kernel.is_present, kernel.centres, math.nan)
        log_kernels = kernel.of_states(share)(kernel.states) + kernel.of_numbers(bandwidth)(numbers)
        return float(log_kernels.fill_diagonal_(-math.inf).logsumexp(1).sum())

    best = left_out(kernel.bandwidth, kernel.share)
    for factor in (0.5, 0.7, 1.4, 2.0):
        assert best > left_out(factor * kernel.bandwidth, kernel.share)
        assert best > left_out(kernel.bandwidth, min(factor**2 * kernel.share, 0.99))
    test = class_rows(3000, 1, missing=0.1)
    truth = fit_latent_classes(test, [2, 3], 0).log_prob(test).mean()
    assert truth - 0.25 < kernel.log_prob(test).mean() < truth


def test_at_most_4000_rows_are_kept_as_kernels() -> None:
    kernel = fit_mixed_kernel(class_rows(4500, 0), [2, 3], 0)
    assert len(kernel.states) == 4000


def test_bad_rows_for_densities_of_mixed_rows() -> None:
    x = class_rows(50, 0)
    for fit in (fit_latent_classes, fit_mixed_kernel):
        with pytest.raises(ValueError, match="expected 2 rows or more"):
            fit(x[:1], [2, 3], 0)
        with pytest.raises(ValueError, match="a context for each"):
            fit(x, [2, 3], 0, context=x[:, :1].repeat(2, 1))
        with pytest.raises(ValueError, match="finite"):
            fit(x.masked_fill(x > 2.5, math.inf), [2, 3], 0)
        with pytest.raises(ValueError, match=r"expected x of shape \(\.\.\., 4\), got \(50, 3\)"):
            fit(x, [2, 3], 0).log_prob(x[:, :3])


def test_fewer_distinct_rows_than_classes_are_not_warned_of() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [3.0, 2.0]]).double().repeat(200, 1)
    classes = fit_latent_classes(x, [], 0)
    assert bool(classes.log_prob(x).isfinite().all())
