"""What a training lowers and measures: objectives and metrics, for flows, mixtures and densities of one's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import pushforward as pf
from flows import mean_nll, moons, small
from pushforward.training import Batch, negative_log_likelihood

# Objectives and metrics


def test_an_objective_of_ones_own_is_what_is_lowered() -> None:
    """Rows to the left count nothing: the flow learns the others alone."""
    x = torch.cat([torch.randn(1000, 2) - 4, torch.randn(1000, 2) + 4])

    def right(density: pf.Density, batch: Batch) -> torch.Tensor:
        return -(density(batch.x) * (batch.x[:, 0] > 0)).mean()

    flow = small()
    fit = pf.fit(flow, x, steps=300, objective=right, progress="none")
    assert mean_nll(flow, x[1000:]) < 3.2
    assert mean_nll(flow, x[:1000]) > 6
    assert fit.summary["best_val_nll"] == pytest.approx(mean_nll(flow, x[1000:]) / 2, abs=0.3)


def test_negative_log_likelihood_by_name_is_the_default() -> None:
    flows = [small(), small()]
    pf.fit(flows[0], moons(), steps=30, progress="none")
    pf.fit(flows[1], moons(), steps=30, objective=negative_log_likelihood, progress="none")
    assert torch.equal(flows[0].log_prob(moons(9)), flows[1].log_prob(moons(9)))


def test_reverse_kl_needs_no_data() -> None:
    target = torch.distributions.MultivariateNormal(torch.tensor([2.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 1.0]]))

    def reverse_kl(density: pf.Flow, batch: Batch) -> torch.Tensor:
        x = density.rsample(len(batch))
        return (density(x) - target.log_prob(x)).mean()

    flow = small()
    fit = pf.fit(flow, steps=300, batch=128, objective=reverse_kl, progress="none")  # type: ignore[arg-type]
    assert fit.summary["steps"] == 300
    assert fit.summary["best_val_nll"] is None
    x = target.sample((4000,))
    assert mean_nll(flow, x) == pytest.approx(-float(target.log_prob(x).mean()), abs=0.05)
    with pytest.raises(ValueError, match="without data, give the length of the training in steps or seconds"):
        next(pf.train(small(), objective=reverse_kl))  # type: ignore[arg-type]


def test_the_metric_decides_what_is_best() -> None:
    measured = []

    def metric(density: pf.Density, batch: Batch) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        measured.append(float(len(measured)))  # grows: the weights of the start stay the best
        return torch.tensor(measured[-1])

    flow = small()
    flow.initialize(moons())
    before = mean_nll(flow, moons())
    fit = pf.fit(flow, moons(), steps=120, metric=metric, patience=None, progress="none")
    assert mean_nll(flow, moons()) == before
    values = [e.val_nll for e in fit.epochs if e.val_nll is not None]
    assert values == measured[-len(values) :]  # those before are the early ones, within the first pass
    assert fit.summary["best_val_nll"] == 0.0  # that before the first step


def test_the_best_validation_is_that_of_the_weights_that_stay() -> None:
    flow, val = small(), moons(500, seed=3)
    pf.fit(flow, moons(), steps=200, progress="none")
    before = mean_nll(flow, val)
    fit = pf.fit(flow, moons(), val, steps=50, lr=1.0, ema=0.0, clip=None, progress="none")  # makes it worse
    assert fit.summary["best_val_nll"] == pytest.approx(before, abs=1e-5)
    assert mean_nll(flow, val) == pytest.approx(before, abs=1e-5)


def test_an_objective_of_the_wrong_shape_is_told() -> None:
    def a_row_each(density: pf.Density, batch: Batch) -> torch.Tensor:
        return -density.log_prob(batch.x, batch.context)

    def no_tensor(density: pf.Density, batch: Batch) -> torch.Tensor:
        return "low"  # type: ignore[return-value]

    message = r"the objective must return a tensor of one number, got"
    for val in (None, moons(100)):
        with pytest.raises(ValueError, match=rf"{message} shape \(100,\)"):
            pf.fit(small(), moons(), val, objective=a_row_each, val_fraction=0.0, batch=100, steps=2, progress="none")
    with pytest.raises(ValueError, match=rf"{message} shape \(100,\)"):
        pf.fit(small(), moons(), moons(100), metric=a_row_each, steps=2, progress="none")
    with pytest.raises(ValueError, match=rf"{message} str"):
        pf.fit(small(), moons(), objective=no_tensor, val_fraction=0.0, steps=2, progress="none")


def test_a_loss_of_shape_1_is_one_number() -> None:
    def loss(density: pf.Density, batch: Batch) -> torch.Tensor:
        return negative_log_likelihood(density, batch)[None]

    flow, same = small(), small()
    pf.fit(flow, moons(), objective=loss, steps=5, progress="none")
    pf.fit(same, moons(), objective=lambda d, b: negative_log_likelihood(d, b), steps=5, progress="none")
    assert torch.equal(flow.log_prob(moons()), same.log_prob(moons()))


# Bases and supports


def test_a_uniform_base_trains() -> None:
    spline = pf.RationalQuadratic(8, bound=1.0)
    layers = [pf.Coupling(pf.MLP(1, spline.num_params), spline, flip=k % 2 == 1) for k in range(4)]
    flow = pf.Flow(pf.Chain(*layers), 2, base=torch.distributions.Uniform(-1.0, 1.0))
    x = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fit = pf.fit(flow, x * (1 - 0.3 * x.flip(1).abs()), steps=100, progress="none")
    assert fit.stopped == "done"
    assert fit.summary["best_val_nll"] < 1.2


def test_rows_outside_of_the_bases_support_are_told() -> None:
    base = torch.distributions.LogNormal(torch.zeros(2), torch.ones(2))
    flow = pf.Flow(pf.Chain(pf.Coupling(pf.MLP(1, 2), pf.Affine())), 2, base=base)
    with pytest.warns(UserWarning, match="fall outside the support of the base"):
        fit = pf.fit(flow, torch.randn(2000, 2), steps=60, progress="none")
    assert fit.stopped == "diverged"


# Mixtures, and densities of one's own


def unlike() -> pf.Mixture:
    return pf.Mixture([small(), pf.spline_flow(2, depth=3, width=16, seed=1)], weights=[0.25, 0.75])


def test_unlike_members_learn_each_by_itself(tmp_path: Path) -> None:
    mixture, x = unlike(), moons(2000)
    before = [mean_nll(member, x) for member in mixture]
    fit = pf.fit(mixture, x, steps=150, progress="none")
    assert all(mean_nll(member, x) < b - 0.3 for member, b in zip(mixture, before, strict=True))
    assert fit.density is mixture
    assert fit.flow is mixture
    assert mixture.weights.tolist() == [0.25, 0.75]
    assert fit.summary["best_val_nll"] is not None
    whole, parts = unlike(), unlike()
    list(pf.train(whole, moons(), epochs=4, batch=64))
    for epoch in pf.train(parts, moons(), epochs=4, batch=64, checkpoint=tmp_path):
        if epoch.epoch >= 2:
            break
    resumed = unlike()
    list(pf.train(resumed, moons(), epochs=4, batch=64, checkpoint=tmp_path))
    assert torch.equal(whole.log_prob(moons(9)), resumed.log_prob(moons(9)))


def test_a_member_with_bad_batches_goes_back_alone() -> None:
    class Broken(pf.Bijection):
        def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            return x * (math.nan if torch.is_grad_enabled() else 1.0), x.new_zeros(len(x))

        def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            return z, z.new_zeros(len(z))

    bad = pf.Flow(pf.Chain(Broken(), small().bijection), 2)
    mixture = pf.Mixture([bad, small(seed=1)])
    mixture.initialize(moons())
    before = [mean_nll(member, moons()) for member in mixture]
    with pytest.warns(UserWarning, match="back to the last good weights"):
        pf.fit(mixture, moons(), steps=60, patience=None, progress="none")
    after = [mean_nll(member, moons()) for member in mixture]
    assert after[0] == before[0]
    assert after[1] < before[1]


def test_a_density_of_ones_own_trains() -> None:
    class Normal(pf.Density):
        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))
            self.space = pf.Vectors(2)

        def log_prob(self, x: torch.Tensor, context: object = None) -> torch.Tensor:
            return -0.5 * (x - self.mean).square().sum(1) - math.log(2 * math.pi)

        def sample(self, n: int, context: object = None, *, generator: object = None) -> torch.Tensor:
            return self.mean + torch.randn(n, 2)

    density = Normal()
    pf.fit(density, torch.randn(1000, 2) + torch.tensor([3.0, -1.0]), steps=400, lr=0.05, progress="none")
    torch.testing.assert_close(density.mean.detach(), torch.tensor([3.0, -1.0]), atol=0.15, rtol=0)
