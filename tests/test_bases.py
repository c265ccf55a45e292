"""Base densities, and torch.distributions as bases."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import distributions as td

import pushforward as pf
from pushforward.bases import _parts


def test_standard_normal_is_torchs() -> None:
    z = torch.randn(7, 3, 2)
    expected = td.Independent(td.Normal(torch.zeros(3, 2), 1.0), 2).log_prob(z)
    torch.testing.assert_close(pf.StandardNormal((3, 2)).log_prob(z), expected)


def mixture() -> tuple[pf.GaussianMixture, td.Distribution]:
    means, scales = torch.tensor([[-2.0, 0.0], [1.0, 1.0], [0.0, 3.0]]), torch.tensor([[0.5, 1.0], [2.0, 0.3], [1, 1]])
    weights = torch.tensor([1.0, 2.0, 5.0])
    parts = td.Independent(td.Normal(means, scales), 1)
    reference = td.MixtureSameFamily(td.Categorical(weights), parts)
    return pf.GaussianMixture(2, 3, means=means, scales=scales, weights=weights), reference


def test_mixture_is_torchs() -> None:
    base, reference = mixture()
    z = torch.randn(50, 2) * 3
    torch.testing.assert_close(base.log_prob(z), reference.log_prob(z))
    torch.testing.assert_close(base.responsibilities(z).sum(1), torch.ones(50))


def test_mixture_samples_have_its_moments() -> None:
    base, reference = mixture()
    z = base.sample(200_000, generator=torch.Generator().manual_seed(0)).detach()
    torch.testing.assert_close(z.mean(0), reference.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), reference.variance, atol=0.06, rtol=0)
    part = base.sample_component(1, 100_000, generator=torch.Generator().manual_seed(0)).detach()
    torch.testing.assert_close(part.mean(0), torch.tensor([1.0, 1.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(part.std(0), torch.tensor([2.0, 0.3]), atol=0.03, rtol=0)


def test_responsibilities_follow_bayes() -> None:
    base, _ = mixture()
    z = torch.tensor([[0.2, 0.4]])
    joint = torch.stack(
        [
            math.log(w) + td.Normal(torch.tensor(m), torch.tensor(s)).log_prob(z).sum(1)
            for w, m, s in [
                (1 / 8, [-2.0, 0.0], [0.5, 1.0]),
                (2 / 8, [1.0, 1.0], [2.0, 0.3]),
                (5 / 8, [0.0, 3.0], [1.0, 1.0]),
            ]
        ],
        1,
    )
    torch.testing.assert_close(base.responsibilities(z), joint.softmax(1))


def test_mixture_learns_and_can_be_fixed() -> None:
    base, _ = mixture()
    base.log_prob(torch.randn(5, 2)).sum().backward()
    assert all(p.grad is not None for p in base.parameters())
    fixed = pf.GaussianMixture(2, 2, learnable=False)
    assert not any(p.requires_grad for p in fixed.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pf.GaussianMixture(2, 0), "at least 1, got 0"),
        (lambda: pf.GaussianMixture(2, 3, means=torch.zeros(2, 2)), r"means must have shape \(3, 2\), got \(2, 2\)"),
        (lambda: pf.GaussianMixture(2, 2, weights=torch.tensor([1.0, 0.0])), "2 positive numbers"),
        (lambda: pf.GaussianMixture(2, 2, scales=-1.0), "scales must lie between"),
        (lambda: pf.GaussianMixture(2, 2).sample_component(2, 1), r"0\.\.1, got 2"),
        (lambda: pf.StandardNormal(0), "positive integer"),
        (lambda: pf.StandardNormal(()), "positive integer"),
        (lambda: pf.Flow(pf.Chain(), 2, base=pf.StandardNormal(3)), r"flow's shape \(2,\), got \(3,\)"),
        (lambda: pf.Flow(pf.Chain(), 2, base=td.Normal(torch.zeros(3), 1.0)), "latent of shape"),
        (lambda: pf.Flow(pf.Chain(), 2, base="normal"), "torch.distributions object, got str"),
    ],
)
def test_wrong_settings_are_told(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "distribution",
    [
        td.MultivariateNormal(torch.tensor([1.0, 2.0]), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
        td.Normal(torch.zeros(2), torch.ones(2)),
        td.Independent(td.Laplace(torch.zeros(2), 1.0), 1),
        td.StudentT(torch.tensor(5.0)),
        mixture()[1],
        td.Uniform(torch.zeros(2), torch.ones(2)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_any_torch_distribution_is_a_base(distribution: td.Distribution) -> None:
    flow = pf.Flow(pf.Chain(), 2, base=distribution)
    z = (
        distribution.sample((6,))
        if distribution.batch_shape + distribution.event_shape
        else distribution.sample((6, 2))
    )
    expected = distribution.log_prob(z)
    torch.testing.assert_close(flow.log_prob(z), expected.sum(1) if expected.ndim == 2 else expected)
    state = torch.get_rng_state()
    a = flow.sample(4, generator=torch.Generator().manual_seed(1))
    assert a.shape == (4, 2)
    assert torch.equal(a, flow.sample(4, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)


def test_outside_of_the_support_the_density_is_zero() -> None:
    flow = pf.Flow(pf.Chain(), 2, base=td.Uniform(torch.zeros(2), torch.ones(2)))
    assert flow.log_prob([[0.5, 0.5], [0.5, 2.0]]).tolist() == [0.0, -math.inf]


def test_a_distribution_follows_the_dtype_of_the_flow() -> None:
    prior = td.MultivariateNormal(torch.zeros(2), torch.eye(2))
    flow = pf.Flow(pf.ActNorm(2), 2, base=prior).double()
    assert flow.sample(3).dtype == torch.float64
    assert flow.log_prob(torch.zeros(3, 2)).dtype == torch.float64
    assert prior.loc.dtype == torch.float32  # the user's own object is left as it was


def logistic() -> td.Distribution:
    zero, one = torch.zeros(2), torch.ones(2)
    return td.TransformedDistribution(td.Uniform(zero, one), [td.SigmoidTransform().inv, td.AffineTransform(zero, one)])


@pytest.mark.parametrize(
    "distribution", [logistic(), td.Gumbel(torch.zeros(2), torch.ones(2)), td.LogNormal(torch.zeros(2), 1.0)], ids=repr
)
def test_a_base_of_transforms_can_be_copied_and_moved(distribution: td.Distribution) -> None:
    z = distribution.sample((5,))
    expected = distribution.log_prob(z).sum(1)
    flow = pf.Flow(pf.Chain(pf.Permute([0, 1])), 2, base=distribution)
    for copied in (flow, copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        torch.testing.assert_close(copied.log_prob(z), expected)
        double = copied.double()
        assert double.sample(3).dtype == torch.float64
        torch.testing.assert_close(double.log_prob(z.double()), expected.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(distribution.log_prob(z).sum(1), expected)  # the user's own is left as it was


class Holder(td.Distribution):
    """A distribution of one's own that keeps others in a dictionary and a network."""

    arg_constraints = {}  # noqa: RUF012  # the form torch.distributions asks for
    support = td.constraints.real  # type: ignore[assignment]

    def __init__(self) -> None:
        self.parts = {"inner": [td.Normal(torch.zeros(2), torch.ones(2))], "inverse": td.SigmoidTransform().inv}
        self.net = torch.nn.Linear(2, 2)
        super().__init__(torch.Size([2]), validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return self.parts["inner"][0].log_prob(value + 0 * self.net(value))

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        return self.parts["inner"][0].sample(sample_shape)


@pytest.mark.parametrize("distribution", [Holder(), pf.real_nvp(2, depth=1, width=4, seed=0).distribution()], ids=repr)
def test_a_base_that_holds_more_than_tensors_follows_the_flow(distribution: td.Distribution, tmp_path: Path) -> None:
    z = torch.randn(5, 2)
    flow = pf.Flow(pf.Chain(pf.ActNorm(2)), 2, base=distribution)
    expected = flow.log_prob(z).detach()
    double = copy.deepcopy(flow).double()
    assert double.sample(3).dtype == torch.float64
    assert double.base.sample(3).dtype == torch.float64
    torch.testing.assert_close(double.log_prob(z.double()).detach(), expected.double(), rtol=1e-5, atol=1e-5)
    assert copy.deepcopy(flow).to("meta").log_prob(torch.zeros(4, 2, device="meta")).device.type == "meta"
    torch.testing.assert_close(flow.log_prob(z).detach(), expected)  # copies are apart
    pf.save(flow, tmp_path / "m.safetensors")
    pf.load(tmp_path / "m.safetensors", into=flow)
    other = copy.deepcopy(flow)
    for module in (vars(part).get("net", vars(part).get("_flow")) for part in _parts(other.base.distribution)):  # type: ignore[attr-defined,arg-type]
        if module is not None:
            next(module.parameters()).data.add_(1.0)
    with pytest.raises(ValueError, match="another composition"):
        pf.load(tmp_path / "m.safetensors", into=other)


def test_all_that_a_base_holds_follows_the_flow() -> None:
    parts = td.Independent(td.Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    flow = pf.Flow(pf.Chain(), 2, base=td.MixtureSameFamily(td.Categorical(torch.ones(3)), parts)).double()
    assert flow.log_prob(torch.zeros(4, 2, dtype=torch.float64)).dtype == torch.float64
    assert flow.to("meta").log_prob(torch.zeros(4, 2, device="meta")).device.type == "meta"
