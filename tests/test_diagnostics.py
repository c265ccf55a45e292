"""Exactness: an inexact flow is measured, an exact one passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from pushforward.checks import exactness


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
    errors = exactness(pf.Flow(Stretch(0.25, -0.5), 3).double(), x)
    assert errors == pytest.approx({"roundtrip_max": 0.25, "logdet_max": 0.5}, abs=1e-12)


def test_one_bad_row_among_many_is_errors_by_the_round_trip() -> None:
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
    errors = exactness(flow, 10 * x + 3, context)
    assert errors["roundtrip_max"] < 1e-11
    assert errors["logdet_max"] < 1e-11
    with torch.no_grad():  # as commands call it
        assert exactness(flow, 10 * x + 3, context[0])["logdet_max"] < 1e-11
    assert all(p.grad is None for p in flow.parameters())


def test_images_and_the_flow_s_own_precision() -> None:
    flow = pf.Flow(Stretch(), (2, 3, 3))
    assert exactness(flow, torch.randn(4, 2, 3, 3))["logdet_max"] < 1e-5


def test_no_rows_to_check() -> None:
    with pytest.raises(ValueError, match="no rows"):
        exactness(pf.Flow(Stretch(), 2), torch.zeros(0, 2))
