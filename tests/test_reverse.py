"""Gradients from the output alone: equal to the usual ones, in memory that does not grow with depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from flows import stirred
from pushforward.training.run import stepping
from pushforward.training.settings import TrainSettings


def gradients(flow: pf.Flow, x: Tensor, context: Tensor | None, reversible: bool) -> list[Tensor]:
    x = x.clone().requires_grad_()
    context = None if context is None else context.clone().requires_grad_()
    with stepping(flow, torch.get_num_threads(), TrainSettings(reversible=reversible), torch.Generator()):
        z, log_det = flow.bijection(x, context)
        loss = (z.square().sum() * 0.5 - log_det.sum()) / len(x)
    flow.zero_grad()
    loss.backward()
    found = [x.grad, *(p.grad for p in flow.bijection.parameters())]
    return [g for g in [*found, None if context is None else context.grad] if g is not None]


FLOWS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "real_nvp": (lambda: pf.real_nvp(5, depth=4, width=8, seed=0), (5,), 0),
    "spline_flow with a context": (lambda: pf.spline_flow(3, context_dim=2, depth=3, width=8, seed=0), (3,), 2),
    "two scales": (lambda: pf.glow((1, 8, 8), levels=2, depth=2, width=8, seed=0), (1, 8, 8), 0),
    "real_nvp_image": (lambda: pf.real_nvp_image((1, 8, 8), levels=2, width=8, blocks=1, seed=0), (1, 8, 8), 0),
}


@pytest.mark.parametrize("name", FLOWS)
def test_gradients_are_those_of_autograd(name: str) -> None:
    make, shape, context_dim = FLOWS[name]
    flow = make().double()
    x = torch.randn(6, *shape, dtype=torch.float64)
    context = torch.randn(6, context_dim, dtype=torch.float64) if context_dim else None
    flow.initialize(x, context)
    stirred(flow, 0.1)
    usual, found = (gradients(flow, x, context, reversible) for reversible in (False, True))
    assert len(usual) == len(found) > 3
    for a, b in zip(usual, found, strict=True):
        torch.testing.assert_close(b, a, atol=1e-9, rtol=1e-7)
    assert not any(m.reversible for m in flow.modules() if isinstance(m, pf.Chain))


def kept_for_the_backward_pass(flow: pf.Flow, x: Tensor, reversible: bool) -> int:
    """Numbers that the graph of a loss holds, but for parameters."""
    parameters = {p.data_ptr() for p in flow.parameters()}
    held: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.data_ptr() not in parameters:
            held[t.data_ptr()] = t.numel()
        return t

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        stepping(flow, 1, TrainSettings(reversible=reversible), torch.Generator()),
    ):
        loss = -flow(x).mean()
    assert loss.requires_grad
    return sum(held.values())


def test_memory_does_not_grow_with_depth() -> None:
    x = torch.randn(16, 1, 8, 8)
    deep, shallow = (pf.glow((1, 8, 8), levels=1, depth=depth, width=16, seed=0) for depth in (12, 3))
    for flow in (deep, shallow):
        flow.initialize(x)
    assert kept_for_the_backward_pass(deep, x, True) < 1.2 * kept_for_the_backward_pass(shallow, x, True)
    assert kept_for_the_backward_pass(deep, x, False) > 3 * kept_for_the_backward_pass(shallow, x, False)
    assert kept_for_the_backward_pass(deep, x, False) > 20 * kept_for_the_backward_pass(deep, x, True)


def test_a_training_learns_the_same() -> None:
    x = pf.toys.TwoMoons().sample(600, generator=torch.Generator().manual_seed(0))
    flows = []
    for reversible in (False, True):
        flow = pf.real_nvp(2, depth=4, width=16, seed=0)
        pf.fit(flow, x, steps=60, batch=100, seed=0, reversible=reversible, progress="none")
        flows.append(flow)
    torch.testing.assert_close(flows[1].log_prob(x), flows[0].log_prob(x), atol=5e-3, rtol=1e-3)


class Drifting(pf.Chain):
    """Its inverse is off."""

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = super().inverse(z, context)
        return x + 0.5, log_det


class Dropping(nn.Module):
    """A conditioner that draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(h)


def test_a_run_whose_inverse_drifts_is_stopped() -> None:
    flow = pf.Flow(pf.Chain(Drifting(pf.ActNorm(2)), pf.ActNorm(2)), 2)
    with pytest.raises(RuntimeError, match=r"does not recover its rows.*Train without reversible"):
        pf.fit(flow, torch.randn(300, 2), steps=5, reversible=True, progress="none")
    batch_norm = pf.Flow(pf.Chain(pf.BatchNorm(1), pf.ActNorm(1)), (1, 4, 4))
    with pytest.raises(ValueError, match="BatchNorm mixes rows in training, which are then not recovered"):
        pf.fit(batch_norm, 5 + 3 * torch.randn(300, 1, 4, 4), steps=50, reversible=True, progress="none")
    dropout = pf.Flow(pf.Chain(pf.Coupling(Dropping(), pf.Affine()), pf.ActNorm(2)), 2)
    with pytest.raises(RuntimeError, match="draws random numbers"):
        pf.fit(dropout, torch.randn(300, 2), steps=50, reversible=True, progress="none")
