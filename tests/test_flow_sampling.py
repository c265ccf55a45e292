"""Sampling from a flow: shapes, seeds, gradients, and `distribution()` as torch knows it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import pushforward as pf


def test_samples_follow_the_density(flow: pf.Flow) -> None:
    """The mean of log p over samples is minus the entropy, which the grid gives independently."""
    samples, log_prob = flow.sample_with_log_prob(50_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_prob, flow.log_prob(samples).detach(), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        low, high = samples.min(0).values - 1, samples.max(0).values + 1
        axes = [torch.linspace(float(a), float(b), 801) for a, b in zip(low, high, strict=True)]
        density = flow.log_prob(torch.cartesian_prod(*axes)).double()
        cell = float((high - low).prod()) / 800**2
        entropy = -float((density.exp() * density).sum()) * cell
    error = float(log_prob.std()) / math.sqrt(len(log_prob))
    assert -float(log_prob.mean()) == pytest.approx(entropy, abs=5 * error + 1e-3)


@pytest.mark.parametrize("n", [0, 1, 3, 2500])
def test_sample_shapes(flow: pf.Flow, n: int) -> None:
    x = flow.sample(n)
    assert x.shape == (n, 2)
    assert not x.requires_grad


def test_sample_with_many_contexts(conditional: pf.Flow) -> None:
    contexts = torch.randn(4, 2)
    x, log_prob = conditional.sample_with_log_prob(700, contexts)
    assert x.shape == (700, 4, 3)
    assert log_prob.shape == (700, 4)
    torch.testing.assert_close(log_prob, conditional.log_prob(x, contexts).detach(), rtol=1e-3, atol=1e-3)
    assert conditional.sample(6, torch.zeros(2)).shape == (6, 3)
    assert conditional.sample(6, torch.zeros(5, 4, 2)).shape == (6, 5, 4, 3)


def test_a_seeded_sample_is_reproducible_and_leaves_the_global_rng(flow: pf.Flow) -> None:
    state = torch.get_rng_state()
    a = flow.sample(10, generator=torch.Generator().manual_seed(3))
    b = flow.sample(10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_rsample_carries_gradients(conditional: pf.Flow) -> None:
    context = torch.randn(4, 2, requires_grad=True)
    x = conditional.rsample(3, context)
    assert x.shape == (3, 4, 3)
    x.sum().backward()
    assert context.grad is not None
    assert bool((context.grad != 0).any())


def test_rsample_of_a_mixture_says_why_not() -> None:
    with pytest.raises(ValueError, match="GaussianMixture has no reparametrised sample"):
        pf.real_nvp(2, components=2).rsample(3)


def test_distribution_speaks_torch(conditional: pf.Flow) -> None:
    d = conditional.distribution(torch.randn(4, 2))
    assert d.batch_shape == (4,)
    assert d.event_shape == (3,)
    x = d.sample((5, 6))
    assert x.shape == (5, 6, 4, 3)
    assert d.log_prob(x).shape == (5, 6, 4)
    assert d.rsample((2,)).requires_grad
    assert d.sample().shape == (4, 3)


def test_samples_of_several_leading_axes() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    assert flow.sample((2, 3), torch.zeros(4, 1)).shape == (2, 3, 4, 2)
    assert flow.rsample([5], torch.zeros(1)).shape == (5, 2)
    x, log_prob = flow.sample_with_log_prob((), torch.zeros(4, 1))
    assert x.shape == (4, 2)
    assert log_prob.shape == (4,)
    assert torch.equal(flow.sample((6,), torch.zeros(1), generator=1), flow.sample(6, torch.zeros(1), generator=1))


@pytest.mark.parametrize("n", [2.5, "3", None, True, (2, 2.5)])
def test_a_number_of_samples_is_a_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match="number of samples must be a whole number, got"):
        pf.real_nvp(2, seed=0).sample(n)


@pytest.mark.parametrize("n", [3, (3,), [3], torch.Size([2, 3]), (), 0])
@pytest.mark.parametrize("context_dim", [0, 1])
def test_every_way_to_draw_takes_a_number_or_a_shape(n: Any, context_dim: int) -> None:
    flows = [pf.real_nvp(2, depth=1, width=4, context_dim=context_dim, seed=k) for k in range(2)]
    context, batch = (torch.zeros(5, 1), (5,)) if context_dim else (None, ())
    shape = (*(n if isinstance(n, tuple | list) else (n,)), *batch, 2)
    for density in (flows[0], pf.Ensemble(flows)):
        assert density.sample(n, context).shape == shape
        x, log_prob = density.sample_with_log_prob(n, context)
        assert (x.shape, log_prob.shape) == (shape, shape[:-1])
    assert flows[0].rsample(n, context).shape == shape
    assert flows[0].distribution(context).sample(n).shape == shape


def test_a_distribution_expands() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    d = flow.distribution(torch.zeros(3, 1)).expand((4, 3))
    assert d.batch_shape == (4, 3)
    x = d.sample((5,))
    assert x.shape == (5, 4, 3, 2)
    assert torch.allclose(d.log_prob(x), flow.log_prob(x, torch.zeros(1)))
    single = pf.real_nvp(2, seed=0)
    alone = single.distribution().expand((3,))
    x = alone.sample((5,))
    assert x.shape == (5, 3, 2)
    assert single.distribution().expand(3).batch_shape == (3,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"of batch shape \(3,\) cannot be expanded to \(4,\)"):
        alone.expand((4,))
    assert torch.equal(alone.log_prob(x), single.log_prob(x))
    assert torch.equal(alone.log_prob(x[0, 0]), single.log_prob(x[0, 0]).expand(3))


def test_what_a_distribution_does_not_know_it_says() -> None:
    d = pf.real_nvp(1, seed=0).distribution()
    normal = torch.distributions.Normal(0.0, 1.0)
    calls = [
        lambda: d.cdf(torch.zeros(1)),
        lambda: d.icdf(torch.zeros(1)),
        lambda: d.entropy(),
        lambda: d.mean,
        lambda: d.variance,
        lambda: d.stddev,
        lambda: d.mode,
        lambda: torch.distributions.kl_divergence(d, d),
        lambda: torch.distributions.kl_divergence(d, normal),
        lambda: torch.distributions.kl_divergence(normal, d),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="no closed form"):
            call()
