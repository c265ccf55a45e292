"""Diagnostics: they find an inexact flow, pass an exact one, and the Gaussian is the textbook's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import pushforward as pf
from pushforward.checks import exactness, gaussian_log_prob


class Stretch(pf.Bijection):
    """z = 2 x, with errors of a known size in the inverse and in the log-determinant."""

    def __init__(self, inverse_error: float = 0.0, log_det_error: float = 0.0) -> None:
        super().__init__()
        self.errors = inverse_error, log_det_error
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.weight, (x[0].numel() * self.weight.log() + self.errors[1]).expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z / self.weight + self.errors[0], (-z[0].numel() * self.weight.log()).expand(len(z))


def test_the_errors_of_an_inexact_flow_are_measured() -> None:
    x = torch.randn(7, 3, dtype=torch.float64)
    found = exactness(pf.Flow(Stretch(0.25, -0.5), 3).double(), x)
    assert found == pytest.approx({"roundtrip_max": 0.25, "logdet_max": 0.5}, abs=1e-12)


def test_one_bad_row_among_many_is_found_by_the_round_trip() -> None:
    class Wrong(Stretch):
        def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, log_det = super().inverse(z, context)
            return x + 3.0 * (x > 5), log_det

    x = torch.zeros(3001, 1)
    x[1234] = 6
    assert exactness(pf.Flow(Wrong(), 1), x)["roundtrip_max"] == pytest.approx(3)


@pytest.mark.parametrize("mixing", ["flip", "permute", "lu"])
def test_a_real_nvp_is_exact(mixing: str) -> None:
    flow = pf.real_nvp(5, depth=4, width=16, mixing=mixing, context_dim=2, seed=0).double()
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(n, d, generator=generator, dtype=torch.float64) for n, d in ((250, 5), (250, 2)))
    pf.initialize(flow, 10 * x + 3, context)
    found = exactness(flow, 10 * x + 3, context)
    assert found["roundtrip_max"] < 1e-11
    assert found["logdet_max"] < 1e-11
    with torch.no_grad():  # as commands call it
        assert exactness(flow, 10 * x + 3, context[0])["logdet_max"] < 1e-11
    assert all(p.grad is None for p in flow.parameters())


def test_images_and_the_flow_s_own_precision() -> None:
    flow = pf.Flow(Stretch(), (2, 3, 3))
    assert exactness(flow, torch.randn(4, 2, 3, 3))["logdet_max"] < 1e-5


def test_no_rows_to_check() -> None:
    with pytest.raises(ValueError, match="no rows"):
        exactness(pf.Flow(Stretch(), 2), torch.zeros(0, 2))


def test_the_gaussian_is_the_maximum_likelihood_one() -> None:
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([1e-4, 1.0, 1e5], dtype=torch.float64)
    train = (torch.randn(500, 3, generator=generator, dtype=torch.float64).cumsum(1) + 7) * scales
    test = train[:20] * 1.01
    truth = MultivariateNormal(train.mean(0), train.mT.cov(correction=0)).log_prob(test)
    assert torch.allclose(gaussian_log_prob(train, test), truth, rtol=1e-9)
    own = gaussian_log_prob(train, train).mean()
    for worse in (train * 1.01, train + scales * 0.1):
        assert gaussian_log_prob(worse, train).mean() < own


def test_a_singular_covariance_still_gives_a_density() -> None:
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([1.0, 2.0])
    on, off = gaussian_log_prob(line, torch.tensor([[0.5, 1.0], [0.5, 1.1]]))
    assert math.isfinite(on)
    assert math.isfinite(off)
    assert on > off + 100


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], "expected train"),
        ([[1.0], [2.0]], [[1.0, 2.0]], "expected train"),
        ([[1.0], [math.nan]], [[1.0]], "finite"),
        ([[1.0, 2.0], [3.0, 2.0]], [[1.0, 2.0]], "constant"),
    ],
)
def test_bad_rows_for_the_gaussian(train: list, test: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_log_prob(train, test)
