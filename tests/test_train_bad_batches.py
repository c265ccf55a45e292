"""Batches without a finite loss: skipped, counted, and the good weights stay; as they do after an interruption."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import pushforward as pf
from flows import moons, same, small
from pushforward.baselines import fit_gaussian
from pushforward.flow import initialize


class Poison(pf.Bijection):
    """Turns every forward from the `start`-th to the `stop`-th into NaN."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop, self.calls = start, stop, 0

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.is_grad_enabled():
            self.calls += 1
            if self.start <= self.calls <= self.stop:
                x = x * math.nan
        return x, x.new_zeros(len(x))

    def inverse(self, z: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return z, z.new_zeros(len(z))


def poisoned(start: int, stop: int) -> pf.Flow:
    flow = small()
    return pf.Flow(pf.Chain(Poison(start, stop), flow.bijection), 2)


def test_a_short_run_of_bad_batches_keeps_the_good_weights() -> None:
    flow = poisoned(2, 10**9)
    initialize(flow, moons(), None)
    before = copy.deepcopy(dict(flow.named_parameters()))
    with pytest.warns(UserWarning, match="19 of the last 20 batches"):
        pf.fit(flow, moons(), steps=20, batch=500, ema=0.0, val_fraction=0.0, progress="none")
    assert same(before, dict(flow.named_parameters()))


def test_a_bad_batch_is_skipped_and_counted() -> None:
    flow = poisoned(12, 14)
    fit = pf.fit(flow, moons(), steps=100, batch=100, progress="none")
    assert fit.summary["skipped"] == 3
    assert fit.stopped == "done"
    assert math.isfinite(fit.epochs[-1].train_nll)
    assert all(bool(torch.isfinite(p).all()) for p in flow.parameters())


def test_many_bad_batches_bring_back_the_last_good_weights() -> None:
    flow = poisoned(40, 60)
    with pytest.warns(UserWarning, match="back to the last good weights, with a factor of 0.5"):
        fit = pf.fit(flow, moons(), steps=150, batch=500, progress="none")
    assert fit.summary["skipped"] == 21
    assert math.isfinite(fit.epochs[-1].train_nll)


def test_endless_bad_batches_end_the_run_with_good_weights() -> None:
    flow = poisoned(30, 10**9)
    with pytest.warns(UserWarning, match="not finite"):
        fit = pf.fit(flow, moons(), steps=2000, batch=500, progress="none")
    assert fit.stopped == "diverged"
    assert fit.summary["steps"] < 2000
    with torch.no_grad():  # where Poison is harmless
        assert bool(torch.isfinite(flow.log_prob(moons())).all())


@pytest.mark.parametrize("start", [1, 30])
def test_a_fixed_density_beside_it_does_not_hide_that_a_flow_diverged(start: int) -> None:
    x = moons()
    mixture = pf.Mixture([poisoned(start, 10**9), fit_gaussian(x)])
    with pytest.warns(UserWarning, match="not finite"):
        fit = pf.fit(mixture, x, steps=2000 if start > 1 else 20, batch=500, val_fraction=0.0, progress="none")
    assert fit.stopped == "diverged"


def test_ctrl_c_returns_the_best_weights_so_far() -> None:
    class Interrupts(Poison):
        def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            if torch.is_grad_enabled():
                self.calls += 1
                if self.calls >= 200:
                    raise KeyboardInterrupt
            return super().forward(x, context)

    flow = pf.Flow(pf.Chain(Interrupts(0, 0), small().bijection), 2)
    fit = pf.fit(flow, moons(), steps=1000, batch=100, progress="none")
    assert fit.stopped == "interrupted"
    assert fit.summary["steps"] < 200
    with torch.no_grad():
        assert -float(flow.log_prob(moons(seed=5)).mean()) < 2.0
