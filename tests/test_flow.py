"""Flow: the density itself, its shapes, dtypes, units and distances, and what it takes from data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pushforward as pf
from flows import stirred


def test_log_prob_keeps_leading_axes(flow: pf.Flow) -> None:
    x = torch.randn(4, 5, 2)
    assert flow.log_prob(x).shape == (4, 5)
    assert flow.log_prob(x[0, 0]).shape == ()
    torch.testing.assert_close(flow.log_prob(x)[2, 3], flow.log_prob(x[2, 3]))
    z, log_det = flow.f(x)
    assert z.shape == x.shape
    assert log_det.shape == (4, 5)
    torch.testing.assert_close(flow.g(z), x)


@pytest.mark.parametrize("components", [0, 3])
def test_the_density_integrates_to_one(components: int) -> None:
    flow = pf.real_nvp(2, depth=4, width=16, components=components, seed=0)
    pf.initialize(flow, torch.randn(500, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([3.0, -1.0]))
    stirred(flow, 0.1)
    with torch.no_grad():
        samples = flow.sample(20000)
        low, high = samples.min(0).values - 2, samples.max(0).values + 2
        axes = [torch.linspace(float(a), float(b), 1201) for a, b in zip(low, high, strict=True)]
        grid = torch.cartesian_prod(*axes)
        cell = float((high - low).prod()) / 1200**2
        mass = float(flow.log_prob(grid).double().exp().sum()) * cell
    assert mass == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, 2, dtype=torch.float64),
        torch.ones(3, 2, dtype=torch.int64),
        np.ones((3, 2)),
        [[1.0, 1.0]] * 3,
        torch.ones(2, 3).T,
        torch.ones(3, 4)[:, ::2],
    ],
    ids=["float64", "int64", "numpy", "list", "transposed", "strided"],
)
def test_numbers_of_any_kind_are_taken(flow: pf.Flow, x: object) -> None:
    torch.testing.assert_close(flow.log_prob(x), flow.log_prob(torch.ones(3, 2)))


def test_float64_flow_is_exact_to_1e_12(flow: pf.Flow) -> None:
    flow = flow.double()
    x = torch.randn(200, 2, dtype=torch.float64)
    z, _ = flow.f(x)
    assert z.dtype == torch.float64
    assert float((flow.g(z) - x).detach().abs().max()) < 1e-12
    assert flow.sample(3).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:Standardize saw no data")
@pytest.mark.parametrize("shape", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("mixing", ["auto", "flip", "permute", "lu"])
def test_any_width_at_any_distance(shape: int, mixing: str) -> None:
    flow = stirred(pf.real_nvp(shape, mixing=mixing, seed=0), 0.1)
    x = torch.cat([torch.randn(4, shape), torch.full((1, shape), 1e6), torch.full((1, shape), -1e6)]).requires_grad_()
    log_prob = flow.log_prob(x)
    assert bool(torch.isfinite(log_prob).all())
    gradients = torch.autograd.grad(log_prob.sum(), [x, *(p for p in flow.parameters() if p.numel())])
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    z, _ = flow.f(x[:4])
    torch.testing.assert_close(flow.g(z), x[:4], rtol=1e-4, atol=1e-4)


def test_initialize_standardises_once() -> None:
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    x, context = torch.randn(1000, 2) * 50 + 7, torch.randn(1000, 1) * 9 - 4
    pf.initialize(flow, x, context)
    z, _ = flow.f(x, context)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    before = flow.log_prob(x[:5], context[:5])
    pf.initialize(flow, x * 3 + 1, context + 2)
    torch.testing.assert_close(flow.log_prob(x[:5], context[:5]), before)


def test_log_prob_is_in_data_units() -> None:
    """Stretching the data by s in each of 2 columns costs exactly 2 log s nats."""
    x = torch.randn(1000, 2)
    small, large = pf.real_nvp(2, seed=0), pf.real_nvp(2, seed=0)
    pf.initialize(small, x)
    pf.initialize(large, x * 100)
    torch.testing.assert_close(small.log_prob(x) - large.log_prob(x * 100), torch.full((1000,), 2 * math.log(100)))


def test_float64_rows_keep_their_digits_before_a_precondition() -> None:
    """Columns whose difference float32 cannot hold; the layers after the whitening are float32."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 2, dtype=torch.float64, generator=generator)
    x = torch.stack([z[:, 0], z[:, 0] + 1e-4 * z[:, 1]], 1) + 1000
    flow = pf.Flow(pf.Chain(pf.Precondition(2), pf.LULinear(2)), 2)
    pf.initialize(flow, x)
    with torch.no_grad():
        log_prob = flow.log_prob(x)
    assert log_prob.dtype == torch.float64
    entropy = math.log(2 * math.pi * math.e) + math.log(1e-4)
    assert float(-log_prob.mean()) == pytest.approx(entropy, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [pf.real_nvp, pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow]
)
def test_a_flow_can_be_exported_for_any_number_of_rows(build) -> None:  # type: ignore[no-untyped-def]
    flow, x = stirred(build(3, depth=2, width=8, seed=0), 0.1), torch.randn(8, 3)
    exported = torch.export.export(flow, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    torch.testing.assert_close(exported(torch.cat([x, x]))[:8], flow.log_prob(x), rtol=1e-4, atol=1e-4)
