"""The average of the weights, which is what a training releases."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward as pf
from flows import moons, small

SETTINGS: dict[str, Any] = {
    "batch": 50, "batch_growth": 1, "schedule": "constant", "warmup": 0.0, "val_fraction": 0.0, "noise": 0.0,
    "progress": "none",
}  # fmt: skip


def released(steps: int, **settings: Any) -> Tensor:
    """The weights after so many steps."""
    flow = small()
    pf.fit(flow, moons(), steps=steps, **SETTINGS | settings)
    return torch.cat([p.detach().flatten() for p in flow.parameters()])


def test_without_an_average_the_last_weights_are_released() -> None:
    seen: list[Tensor] = []

    def objective(density: pf.Density, batch: pf.Batch) -> Tensor:
        seen.append(torch.cat([p.detach().flatten() for p in density.parameters()]))
        return pf.negative_log_likelihood(density, batch)

    released(31, ema=0.0, objective=objective)
    before = seen[-31:]  # each step
    for steps in (1, 2, 3, 4, 22, 30):
        assert torch.equal(released(steps, ema=0.0, objective=objective), before[steps])


@pytest.mark.parametrize("settings", [{}, {"ema": 0.0}, {"ema": 0.5}], ids=["default", "none", "short"])
def test_each_step_of_a_short_run_counts(settings: dict[str, Any]) -> None:
    weights = [released(steps, **settings) for steps in range(1, 8)]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(weights))
