"""Training: it learns rows, contexts and weights, of any width and in any number, and repeats."""

from __future__ import annotations

import pytest
import torch

import pushforward as pf
from flows import moons, same, small, state
from pushforward.recipes import RECIPES
from pushforward.toys import TwoMoons


def test_fit_recovers_a_gaussian_in_data_units() -> None:
    truth = torch.distributions.MultivariateNormal(torch.tensor([100.0, -3.0]), torch.tensor([[4.0, 1.8], [1.8, 1.0]]))
    x = truth.sample((4000,))
    flow = small()
    fit = pf.fit(flow, x, steps=400, progress="none")
    fresh = truth.sample((4000,))
    gap = (truth.log_prob(fresh) - flow.log_prob(fresh).detach()).mean()
    assert float(gap) == pytest.approx(0, abs=0.03)
    assert fit.summary["best_val_nll"] == pytest.approx(float(truth.entropy()), abs=0.15)


@pytest.mark.slow
def test_moons_are_learned_to_a_tenth_of_a_gaussians_gap() -> None:
    flow = pf.real_nvp(2, width=32, seed=0)
    pf.fit(flow, lambda n, g: TwoMoons().sample(n, generator=g), steps=600, progress="none")
    x = moons(5000, seed=9)
    truth = TwoMoons().log_prob(x)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x)
    assert float((truth - flow.log_prob(x).detach()).mean()) < 0.1 * float((truth - gaussian).mean())


def test_weights_act_like_repeated_rows() -> None:
    """Two far clusters with weights 3 to 1: the learned mass of the first is 3/4."""
    x = torch.cat([torch.randn(2000, 2) * 0.5 - 3, torch.randn(2000, 2) * 0.5 + 3])
    weights = torch.cat([torch.full((2000,), 3.0), torch.ones(2000)])
    flow = pf.real_nvp(2, depth=4, width=32, components=2, seed=0)
    pf.fit(flow, x, weights=weights, steps=500, progress="none")
    share = (flow.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 0] < 0).float().mean()
    assert float(share) == pytest.approx(0.75, abs=0.04)


def test_conditional_fit_follows_its_context() -> None:
    context = torch.rand(4000, 1) * 10 - 5
    x = torch.cat([context * 2, -context], 1) + 0.3 * torch.randn(4000, 2)
    flow = small(context_dim=1)
    pf.fit(flow, x, context=context, steps=500, progress="none")
    samples = flow.sample(2000, torch.tensor([[3.0], [-2.0]]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(0), torch.tensor([[6.0, -3.0], [-4.0, 2.0]]), atol=0.15, rtol=0)


def test_a_drawing_function_may_give_contexts() -> None:
    def draw(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        context = torch.randn(n, 1, generator=generator)
        return context + torch.randn(n, 2, generator=generator), context

    fit = pf.fit(small(context_dim=1), draw, steps=30, progress="none")
    assert fit.summary["steps"] == 30


def test_training_is_reproducible_and_leaves_the_global_rng() -> None:
    rng = torch.get_rng_state()
    flows = [small(), small(), small()]
    for flow, seed in zip(flows, (1, 1, 2), strict=True):
        pf.fit(flow, moons(), epochs=3, seed=seed, progress="none")
    assert same(state(flows[0]), state(flows[1]))
    assert not same(state(flows[0]), state(flows[2]))
    assert torch.equal(torch.get_rng_state(), rng)


def test_the_number_of_threads_is_the_callers_own() -> None:
    before = torch.get_num_threads()
    for _ in pf.train(small(), moons(), epochs=2):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n", [2, 3, 19, 20, 30])
def test_few_rows_work(n: int) -> None:
    fit = pf.fit(small(), moons(n), steps=10, progress="none")
    assert fit.summary["steps"] == 10


def test_a_float64_flow_trains() -> None:
    flow = small().double()
    fit = pf.fit(flow, moons(), steps=30, progress="none")
    assert fit.summary["skipped"] == 0
    assert flow.sample(2).dtype == torch.float64


@pytest.mark.parametrize("features", [1, 3, 7])
def test_other_widths_work(features: int) -> None:
    flow = pf.real_nvp(features, depth=3, width=8, components=2, seed=0)
    pf.fit(flow, torch.randn(100, features) * 1e6, steps=10, progress="none")
    assert bool(torch.isfinite(flow.log_prob(torch.randn(5, features) * 1e6).detach()).all())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_compile_learns_the_same() -> None:
    flows = [small(), small()]
    for flow, compile in zip(flows, (False, True), strict=True):
        pf.fit(flow, moons(), steps=30, compile=compile, progress="none")
    x = moons(100, seed=3)
    torch.testing.assert_close(flows[0].log_prob(x), flows[1].log_prob(x), rtol=1e-3, atol=1e-3)


def test_frozen_parameters_are_left_alone() -> None:
    flow = small()
    frozen = next(flow.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    pf.fit(flow, moons(), steps=20, val_fraction=0.0, progress="none")
    assert torch.equal(frozen, before)


def test_noise_widens_the_learned_density_by_its_own_spread() -> None:
    """A Gaussian of standard deviation s in each column, with noise of level 1: the learned one has s sqrt(2)."""
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0])
    flow = small()
    pf.fit(flow, x, steps=400, noise=1.0, val_fraction=0.0, progress="none")
    drawn = flow.sample(20_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.std(0), 2**0.5 * x.std(0), rtol=0.06, atol=0)


def test_noise_follows_the_weighted_spread() -> None:
    x = torch.cat([torch.randn(500, 2), 100 * torch.randn(500, 2)])
    weights = torch.cat([torch.ones(500), torch.zeros(500)])
    flow = small()
    pf.fit(flow, x, weights=weights, steps=300, noise=1.0, val_fraction=0.0, progress="none")
    assert float(flow.log_prob(x[:500]).detach().mean()) == pytest.approx(-3.03, abs=0.15)  # of N(0, 2) at N(0, 1)


@pytest.mark.slow
def test_few_rows_are_smoothed_unless_it_is_forbidden() -> None:
    x, fresh = moons(30), moons(5000, seed=1)
    scores = []
    for noise in (None, 0.0):
        flow = pf.real_nvp(2, depth=6, width=64, seed=0)
        pf.fit(flow, x, steps=800, noise=noise, val_fraction=0.0, progress="none")
        scores.append(float(flow.log_prob(fresh).detach().mean()))
    assert scores[0] > scores[1] + 1
    with pytest.raises(ValueError, match="noise must be None or a finite number of at least 0, got -1"):
        pf.fit(small(), x, noise=-1, progress="none")


@pytest.mark.slow
def test_fit_chooses_a_flow_for_rows_contexts_and_drawing_functions() -> None:
    x = moons(300)
    assert pf.fit("auto", x, steps=5, progress="none").flow.shape == (2,)  # type: ignore[union-attr]
    fit = pf.fit("spline_flow", x, context=x[:, :1], steps=5, progress="none")
    assert fit.flow is not None
    assert fit.flow.recipe is not None
    assert (fit.flow.recipe["name"], fit.flow.context_dim) == ("spline_flow", 1)
    drawn = pf.fit("auto", lambda n, g: TwoMoons().sample(n, generator=g), seconds=3.0, progress="none")
    assert drawn.summary["seconds"] < 8
    again = [pf.fit("auto", x, steps=5, seed=7, progress="none").flow for _ in range(2)]
    assert same(*(state(flow) for flow in again if flow is not None))
    with pytest.raises(ValueError, match=r"rows of shape \(N, D\) to choose a flow for, got \(300,\)"):
        pf.fit("auto", x[:, 0], progress="none")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_every_recipe_compiles_whole_with_a_dynamic_batch(recipe: str) -> None:
    flow = RECIPES[recipe](3, depth=2, seed=0)  # type: ignore[call-arg]
    pf.initialize(flow, torch.randn(50, 3))
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(flow, backend=backend, fullgraph=True, dynamic=True)
    for n in (5, 8, 13):
        x = torch.randn(n, 3)
        torch.testing.assert_close(compiled(x), flow(x))
    assert len(graphs) == 1
