"""Trainings that are suspended, or run where gradients are off, or whose density is changed in the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.training.stack import Stack

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


class Penalised(pf.Flow):
    """A flow whose training counts more than its likelihood."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x, context) - 1e3 * sum(p.square().sum() for p in self.bijection.parameters())


def squares(density: pf.Flow) -> float:
    return float(sum(p.detach().square().sum() for p in density.bijection.parameters()))


@pytest.mark.parametrize("precondition", [False, True])
def test_what_a_user_overrides_or_hooks_is_not_passed_over(precondition: bool) -> None:
    own = Penalised(flow(precondition=precondition).bijection, 2)
    pf.fit(own, rows(), steps=60, lr=1e-2, progress="none")
    assert squares(own) < 0.5 * squares(flow(precondition=precondition))
    masked = flow()
    coupling = next(layer for layer in masked.bijection if isinstance(layer, pf.Coupling))  # type: ignore[attr-defined]
    weight = coupling.net.weights[0]  # type: ignore[union-attr, index]
    weight.register_hook(torch.zeros_like)
    before = weight.detach().clone()
    pf.fit(masked, rows(), steps=20, weight_decay=0.0, progress="none")
    torch.testing.assert_close(weight.detach(), before)


def test_an_optimizer_with_groups_in_another_order_is_resumed(tmp_path: Path) -> None:
    def groups(parameters: Any) -> torch.optim.Optimizer:
        first, *others = list(parameters)
        return torch.optim.Adam([{"params": others[::-1], "lr": 1e-2}, {"params": [first], "lr": 1e-3}])

    whole, parts = flow(), flow()
    pf.fit(whole, rows(), epochs=6, optimizer=groups, patience=None, schedule="constant", progress="none")
    settings: dict[str, Any] = {"optimizer": groups, "patience": None, "schedule": "constant", "progress": "none"}
    pf.fit(parts, rows(), epochs=3, checkpoint=tmp_path / "run", **settings)
    again = flow()
    pf.fit(again, rows(), epochs=6, checkpoint=tmp_path / "run", **settings)
    torch.testing.assert_close(again.log_prob(rows()), whole.log_prob(rows()))


def test_rows_without_weight_set_no_scale() -> None:
    far, weights = torch.cat([rows(), 1e3 * rows()[:100]]), torch.cat([torch.ones(600), torch.zeros(100)])
    weighted, alone = flow(), flow()
    pf.fit(weighted, far, weights=weights, steps=1, progress="none")
    pf.fit(alone, rows(), steps=1, progress="none")
    for name, value in weighted.named_buffers():
        torch.testing.assert_close(value, dict(alone.named_buffers())[name], rtol=0.1, atol=0.1)


def test_an_objective_may_take_gradients_in_the_rows() -> None:
    def score_matching(density: pf.Density, batch: Any) -> Tensor:
        x = batch.x.clone().requires_grad_()
        (score,) = torch.autograd.grad(density(x).sum(), x, create_graph=True)
        trace = sum(torch.autograd.grad(score[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))
        return (trace + score.square().sum(1) / 2).mean()

    result = pf.fit(flow(activation="tanh"), rows(), objective=score_matching, steps=5, progress="none")
    assert isinstance(result.summary["best_val_nll"], float)
    with pytest.raises(ValueError, match="the objective must return a tensor of one number, got NoneType"):
        pf.fit(flow(), rows(), objective=lambda *_: None, steps=2, progress="none")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("first_ends", [False, True])
def test_after_ctrl_c_nothing_more_is_fitted(first_ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pf.Epoch] = []

    def interrupt(epoch: pf.Epoch) -> None:
        if not first_ends or (seen and seen[-1].stopped):
            raise KeyboardInterrupt
        seen.append(epoch)

    def again(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    if not first_ends:
        monkeypatch.setattr(import_module("pushforward.training.fit"), "calibrate_tails", again)
    monkeypatch.setattr(Stack, "mix_into", again)
    settings: dict[str, Any] = {"seconds": 30.0, "patience": 0.02} if first_ends else {"steps": 500}
    result = pf.fit("auto", rows(), stack=True, progress=interrupt, **settings)
    assert result.stopped == "interrupted"
    assert isinstance(result.density, pf.Flow)
    assert result.summary["steps"] > 0
