"""Trainings that are suspended, or run where gradients are off, or whose density is changed in the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward as pf

ADAM = functools.partial(torch.optim.Adam, lr=1e-2)


def rows() -> Tensor:
    u = torch.randn(600, 1, generator=torch.Generator().manual_seed(0))
    return torch.cat([u, u.square()], 1) + 0.1 * torch.randn(600, 2, generator=torch.Generator().manual_seed(1))


def flow(**options: Any) -> pf.Flow:
    return pf.real_nvp(2, depth=2, width=8, seed=0, **options)


def loss(density: pf.Flow) -> float:
    with torch.no_grad():
        return -float(density.log_prob(rows()).mean())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_that_are_off_outside_are_on_in_a_step(activation: str) -> None:
    plain, within = flow(activation=activation), flow(activation=activation)
    pf.fit(plain, rows(), steps=40, progress="none")
    with torch.no_grad():
        pf.fit(within, rows(), steps=40, progress="none")
    assert loss(within) == pytest.approx(loss(plain), abs=1e-5)
    with torch.inference_mode(), pytest.raises(ValueError, match="leave torch"):
        pf.fit(flow(), rows(), steps=1, progress="none")


@pytest.mark.parametrize("optimizer", [None, ADAM])
def test_a_suspended_training_does_not_touch_a_later_one(optimizer: Callable[..., Any] | None) -> None:
    alone, density = flow(), flow()
    pf.fit(alone, rows(), steps=40, optimizer=optimizer, lr=None if optimizer else 1e-2, progress="none")
    before = pf.train(density, rows(), steps=1000, optimizer=optimizer)
    next(before)
    pf.fit(density, rows(), steps=40, optimizer=optimizer, lr=None if optimizer else 1e-2, progress="none")
    trained = loss(density)
    assert trained == pytest.approx(loss(alone), abs=1e-3)
    with pytest.raises(RuntimeError, match="another one of the same density began since"):
        next(before)
    before.close()
    assert loss(density) == trained

    earlier = pf.train(density, rows(), steps=1000, optimizer=optimizer)
    next(earlier)
    later = pf.train(density, rows(), steps=200, optimizer=optimizer)
    next(later)
    earlier.close()
    list(later)
    assert loss(density) < trained


def test_a_density_may_be_converted_and_back_in_the_loop() -> None:
    alone, density = flow(), flow()
    pf.fit(alone, rows(), steps=40, progress="none")
    for _ in pf.train(density, rows(), steps=40):
        density.double()
        density.float()
    assert loss(density) == pytest.approx(loss(alone), abs=1e-5)
    epochs = pf.train(density, rows(), steps=40)
    next(epochs)
    density.double()
    with pytest.raises(RuntimeError, match=r"float32 on cpu when its training began, not torch.float64"):
        next(epochs)


def test_a_validation_that_is_nan_is_not_the_best() -> None:
    values = iter([2.0, float("nan"), *[3.0] * 100])
    result = pf.fit(
        flow(), rows(), steps=60, metric=lambda *_: torch.tensor(next(values)), progress="none", patience=None
    )  # fmt: skip
    assert result.summary["best_val_nll"] == 2.0
