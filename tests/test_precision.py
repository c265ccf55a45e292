"""Mixed precision of training: conditioners in bfloat16 and channels-last, maps as they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward import ConvNet
from pushforward.recipes import IMAGE_RECIPES
from pushforward.training.precision import conditioners, mixed_precision
from pushforward.training.settings import TrainSettings

_WIDTHS = {"widths": [4, 4]}


def small(name: str) -> pf.Flow:
    """A flow over (1, 8, 8) whose conditioners give something."""
    sizes: dict[str, Any] = {"patch_flow": {"depths": [2, 1]} | _WIDTHS, "multiscale_spline_flow": _WIDTHS}
    flow = IMAGE_RECIPES[name]((1, 8, 8), seed=0, **sizes.get(name, {"width": 4}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for net in conditioners(flow):
            for p in net.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return flow


def images(n: int = 20) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", IMAGE_RECIPES)
def test_only_conditioners_are_rounded_and_the_map_stays_invertible(name: str) -> None:
    flow, x = small(name), images()
    flow.train()
    with mixed_precision(flow, TrainSettings(precision="bf16", channels_last=True)):
        z, log_det = flow.bijection(x)
        again, back = flow.bijection.inverse(z)
    assert z.dtype == log_det.dtype == torch.float32
    assert (again - x).abs().max() < 1e-3
    assert (log_det + back).abs().max() < 1e-2
    exact, exact_log_det = flow.bijection(x)
    assert 0 < (log_det - exact_log_det).abs().max() < 1
    assert (z - exact).abs().max() > 1e-4
    assert not any("forward" in vars(net) for net in conditioners(flow))


def test_the_network_of_learned_noise_is_a_conditioner() -> None:
    layer = pf.VariationalDequantization((1, 8, 8), width=4)
    density = pf.ImageDensity(small("patch_flow"), dequantization=layer)
    assert set(conditioners(density)) == {*conditioners(density.inner), layer.net}


def test_the_networks_of_an_embedding_are_none() -> None:
    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(3, 2)

        def forward(self, context: Tensor) -> Tensor:
            return self.net(context)

    flow = pf.real_nvp(2, depth=2, width=8, context_dim=2, standardize=False)
    assert set(conditioners(pf.Flow(flow.bijection, 2, embed=Embedding()))) == set(conditioners(flow))


def test_evaluation_is_not_rounded() -> None:
    flow, x = small("patch_flow").eval(), images()
    exact = flow.log_prob(x)
    with mixed_precision(flow, TrainSettings(precision="bf16")):
        assert torch.equal(flow.log_prob(x), exact)


def test_a_forward_of_ones_own_stays_and_takes_names() -> None:
    class Own(pf.Bijection):
        def __init__(self) -> None:
            super().__init__()
            self.net = pf.MLP(2, 2, context_dim=2)

        def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            shift = self.net(torch.zeros_like(x), context=context)
            return x + shift, x.new_zeros(len(x))

        inverse = forward

    layer = Own().train()
    given = layer.net.forward

    def doubled(h: Tensor, context: Tensor | None = None) -> Tensor:
        return 2 * given(h, context)

    layer.net.forward = doubled  # type: ignore[method-assign]
    flow = pf.Flow(layer, 2).train()
    with mixed_precision(flow, TrainSettings(precision="bf16")):
        assert layer.net.forward is not doubled
        flow.log_prob(torch.zeros(3, 2), torch.ones(3, 2))
    assert layer.net.forward is doubled


def test_channels_last_changes_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, x = small("glow").train(), images()
    exact = flow.log_prob(x)
    seen: list[bool] = []
    inner = ConvNet.forward

    def spy(net: ConvNet, h: Tensor, context: Tensor | None = None) -> Tensor:
        seen.append(h.is_contiguous(memory_format=torch.channels_last))
        return inner(net, h, context)

    monkeypatch.setattr(ConvNet, "forward", spy)
    with mixed_precision(flow, TrainSettings(channels_last=True)):
        assert torch.allclose(flow.log_prob(x), exact, atol=1e-4)
    assert len(seen) == len(conditioners(flow))
    assert all(seen)


def test_training_in_bfloat16_learns_as_in_float32() -> None:
    rows = pf.toys.TwoMoons().sample(2000, generator=torch.Generator().manual_seed(0))
    best = {}
    for precision in ("float32", "bf16"):
        flow = pf.real_nvp(2, depth=4, width=32, seed=0)
        record = pf.fit(flow, rows, steps=300, batch=200, seed=0, precision=precision, progress="none")
        best[precision] = record.summary["best_val_nll"]
        assert not flow.training
        assert not any("forward" in vars(net) for net in conditioners(flow))
    assert best["bf16"] != best["float32"]
    assert abs(best["bf16"] - best["float32"]) < 0.05


@pytest.mark.parametrize("name", ["patch_flow", "multiscale_spline_flow"])
def test_reversible_training_in_bfloat16_recovers_its_rows(name: str) -> None:
    flow = small(name)
    record = pf.fit(flow, images(200), steps=20, batch=50, precision="bf16", reversible=True, progress="none")
    assert record.summary["steps"] == 20


def test_an_unknown_precision_is_told() -> None:
    with pytest.raises(ValueError, match="precision must be float32 or bf16, got 'fp8'"):
        pf.fit(pf.real_nvp(2), torch.randn(100, 2), steps=1, precision="fp8", progress="none")
