"""Recorded steps on a GPU are those of a training that starts each kernel; what cannot be recorded is called."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from flows import moons
from pushforward._fast.steps import fused, graphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA")


def flows() -> list[pf.Flow]:
    kinds = (pf.real_nvp, pf.spline_flow)
    return [make(2, depth=4, width=16, seed=0).double().cuda() for make in kinds]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("growth", [1, 4])
def test_a_training_is_the_same_recorded(kind: int, growth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"steps": 60, "batch": 100, "batch_growth": growth, "progress": "none", "seed": 3}
    recorded, called = flows()[kind], flows()[kind]
    x = moons().double().cuda()
    pf.fit(recorded, x, **how)
    monkeypatch.setattr(fused, "Recorded", lambda run: run)
    pf.fit(called, x, **how)
    torch.testing.assert_close(recorded.log_prob(x), called.log_prob(x), rtol=1e-6, atol=1e-6)


def test_images_are_recorded_and_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Seen(graphs.Recorded):
        def __init__(self, run: object) -> None:
            super().__init__(run)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(fused, "Recorded", Seen)
    images = np.random.default_rng(0).integers(0, 2, (2000, 8, 8)).astype(np.uint8) * 200
    labels = [int(image[0, 0] > 0) for image in images]
    density = pf.fit_images(images[:1500], labels[:1500], steps=300, device="cuda", progress="none")
    assert made[0].refusal is None
    assert made[0]._recordings
    assert next(density.parameters()).is_cuda
    bits = float(density.bits_per_dim(images[1500:], labels[1500:]).mean())
    assert 63 / 64 <= bits < 1.1  # the labels tell one pixel


def test_what_looks_at_a_value_is_called() -> None:
    class Looks(nn.Module):
        def forward(self, context: Tensor) -> Tensor:
            return context if float(context.sum()) < 1e9 else -context

    flow = pf.real_nvp(2, depth=2, width=8, seed=0, context_dim=1).cuda()
    flow.embed = Looks()
    x = moons().cuda()
    before = float(flow.log_prob(x, x[:, :1]).mean())
    pf.fit(flow, x, context=x[:, :1], steps=100, batch=64, progress="none")
    assert float(flow.log_prob(x, x[:, :1]).mean()) > before
