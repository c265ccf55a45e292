"""What is special about layers and networks of images, beyond the registry: starts, contexts, batch normalisation."""

from __future__ import annotations

import pytest
import torch

import pushforward as pf


@pytest.mark.parametrize("make", [pf.ConvNet, pf.ResidualConvNet])
def test_convolutional_networks_start_at_zero_and_read_their_context(make: type[pf.ConvNet]) -> None:
    net = make(2, 4, width=8, context_dim=3, generator=torch.Generator().manual_seed(0))
    h, context = torch.randn(5, 2, 4, 6), torch.randn(5, 3)
    assert torch.equal(net(h, context), torch.zeros(5, 4, 4, 6))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    assert not torch.allclose(net(h, context), net(h, context + 1))
    with pytest.raises(ValueError, match=r"expected a context of shape \(\.\.\., 3\), got none"):
        net(h)
    with pytest.raises(ValueError, match="width >= 1"):
        make(2, 4, width=0)


def test_a_bias_for_each_position_tells_the_middle_from_the_rim() -> None:
    net = pf.ConvNet(1, 1, width=4, positions=(7, 7))
    with torch.no_grad():
        net.weights[-1].normal_()
        net.biases[0].normal_()
    middle = net(torch.zeros(1, 1, 7, 7)).detach()[0, 0, 2:5, 2:5]
    assert float(middle.std()) > 1e-3  # without, all sites away from the rim were alike
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 1, 8, 8))


def test_sigmoids_tell_apart_what_is_on_either_side_of_a_threshold() -> None:
    layer = pf.LearnedSigmoids((2, 3, 4), count=2, slope=50.0)
    torch.testing.assert_close(layer.thresholds[:, 1, 2, 3], torch.tensor([-0.6745, 0.6745]), atol=1e-4, rtol=0)
    h = torch.tensor([-2.0, 0.0, 2.0]).view(3, 1, 1, 1).expand(3, 2, 3, 4)
    seen = layer(h)
    assert seen.shape == (3, 4, 3, 4)
    torch.testing.assert_close(seen[:, 0, 0, 0], torch.tensor([-1.5, 0.5, 0.5]))
    torch.testing.assert_close(seen[:, 2, 0, 0], torch.tensor([-0.5, -0.5, 1.5]))
    normal = torch.randn(20_000, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert float(layer(normal).detach().mean((0, 2, 3)).abs().max()) < 0.02
    with pytest.raises(ValueError, match=r"expected rows of shape \(2, 3, 4\), got \(2, 1, 1\)"):
        layer(h[:, :, :1, :1])
    for bad in ({"count": 0}, {"slope": 0.0}):
        with pytest.raises(ValueError, match="a count of at least 1 and a slope above 0"):
            pf.LearnedSigmoids((1, 2), **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigmoids= needs the positions"):
        pf.ConvNet(1, 1, sigmoids=2)
    with pytest.raises(ValueError, match="sizes of kernels must be odd"):
        pf.ConvNet(1, 1, sizes=(3, 2))


def test_a_seed_gives_the_same_network() -> None:
    first, second = (pf.ResidualConvNet(2, 4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_an_invertible_convolution_starts_as_a_rotation() -> None:
    layer = pf.InvertibleConv(6, torch.Generator().manual_seed(0)).double()
    x = torch.randn(4, 6, 3, 3).double()
    z, log_det = layer(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1), rtol=1e-5, atol=1e-5)
    assert float(log_det.detach().abs().max()) < 1e-5
    assert not torch.allclose(z, x)


def test_batch_normalisation_follows_the_batches_in_training_alone() -> None:
    layer = pf.BatchNorm(2, step=0.25, eps=0.0)
    x = 2 * torch.randn(500, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 5
    layer(x)
    torch.testing.assert_close(layer.mean, torch.full((2,), 0.25 * 5.0), rtol=0.02, atol=0)
    torch.testing.assert_close(layer.variance, torch.full((2,), 0.75 + 0.25 * 4.0), rtol=0.02, atol=0)
    before = layer.mean.clone()
    z, log_det = layer.eval()(x)
    assert torch.equal(layer.mean, before)
    back, log_det_back = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det_back, -log_det)


def test_batch_normalisation_keeps_its_averages_when_initialised_again() -> None:
    layer = pf.BatchNorm(1).train()
    first = torch.tensor([[1.0], [3.0]])
    layer.initialize(first)
    before = layer.mean.clone(), layer.variance.clone()
    z = layer.initialize(first + 9)
    assert torch.equal(layer.mean, before[0])
    assert torch.equal(layer.variance, before[1])
    assert torch.allclose(z, layer.eval()(first + 9)[0])


def test_gradients_go_through_the_share_of_the_current_batch() -> None:
    layer = pf.BatchNorm(1, step=0.5, eps=0.0)
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64, requires_grad=True)
    layer.double()
    z, _ = layer(x)
    (gradient,) = torch.autograd.grad(z[0, 0], x)
    assert float(gradient[1]) != 0  # the other row
    with pytest.raises(ValueError, match="0 < step <= 1"):
        pf.BatchNorm(1, step=0.0)


def test_rows_that_depend_on_each_other_are_not_cut_into_chunks() -> None:
    flow = pf.Flow(pf.BatchNorm(2, step=1.0), 2)
    x = torch.cat([torch.zeros(2048, 2), torch.ones(2048, 2)])  # each chunk by itself would be constant
    with torch.no_grad():
        flow.train().log_prob(x)
    torch.testing.assert_close(flow.bijection.variance, torch.full((2,), 0.25))


@pytest.mark.parametrize("bad", [{"channels": 0}, {"channels": 2, "eps": -1.0}])
def test_sizes_of_batch_normalisation_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|eps >= 0"):
        pf.BatchNorm(**bad)  # type: ignore[arg-type]
