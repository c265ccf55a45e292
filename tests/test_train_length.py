"""How long a training takes, how its batches grow, and which weights stay at its end."""

from __future__ import annotations

import copy

import pytest
import torch

import pushforward as pf
from flows import moons, small
from pushforward.toys import TwoMoons
from pushforward.training import Batch, negative_log_likelihood
from pushforward.training.auto import UNLIMITED
from pushforward.training.auto import settings as settings_for


@pytest.mark.parametrize(("length", "steps"), [({"epochs": 3}, 3 * 9), ({"steps": 20}, 20)])
def test_the_length_is_what_was_asked(length: dict[str, object], steps: int) -> None:
    records = list(pf.train(small(), moons(1000), batch=100, **length))  # type: ignore[arg-type]
    assert records[-1].step == steps
    assert records[-1].stopped == "done"
    assert records[-1].progress == 1
    assert [r.step for r in records] == sorted({r.step for r in records})
    assert records[-1].val_nll is not None
    assert all(r.stopped is None for r in records[:-1])


def test_seconds_are_wall_clock() -> None:
    import time

    start = time.perf_counter()
    fit = pf.fit(small(), moons(3000), seconds=1.5, progress="none")
    assert 1.2 < time.perf_counter() - start < 4  # the rest is for a busy machine
    assert fit.summary["steps"] > 20
    assert fit.epochs[-1].lr < 5e-4  # the rate has decayed when the time is over


def test_a_time_too_short_for_a_step_is_told() -> None:
    with pytest.warns(UserWarning, match="the time was over before the first step"):
        fit = pf.fit(small(), moons(), seconds=1e-4, progress="none")
    assert fit.summary["steps"] == 0
    assert fit.summary["best_val_nll"] is not None


def sizes_of(flow: pf.Density, x: object, **settings: object) -> list[int]:
    """The batches of the first member in a training of 40 steps, in rows."""
    sizes = []

    def objective(density: pf.Density, batch: Batch) -> torch.Tensor:
        if density is flow.members[0] and torch.is_grad_enabled() and density.training:
            sizes.append(len(batch))
        return negative_log_likelihood(density, batch)

    pf.fit(flow, x, steps=40, val_fraction=0.0, objective=objective, progress="none", **settings)  # type: ignore[arg-type]
    assert len(sizes) == 40
    return sizes


@pytest.mark.parametrize("members", [1, 2])
def test_the_batch_grows_in_parts_of_the_run_that_grow(members: int) -> None:
    flow = small() if members == 1 else pf.Ensemble([small() for _ in range(members)])
    sizes = sizes_of(flow, moons(6400), batch=100, batch_growth=8)
    rest = 200  # of a pass; each part lasts 1.41 times as long as the one before
    assert sizes == [100] * 6 + [200] * 8 + [400] * 10 + [rest] + [800] * 15


def test_fresh_points_of_a_plane_have_growing_batches() -> None:
    def draw(n: int, generator: torch.Generator) -> torch.Tensor:
        return TwoMoons().sample(n, generator=generator)

    assert set(sizes_of(small(), draw)) == {256, 512, 1024, 2048}
    assert settings_for("real_nvp", UNLIMITED, 2, 30.0)["batch_growth"] == 16
    assert set(sizes_of(small(), draw, batch=64)) == {64}
    assert len(set(sizes_of(small(), moons(1000)))) == 1


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights() -> None:
    x, val = moons(40), moons(2000, seed=1)
    flow = pf.real_nvp(2, depth=6, width=64, seed=0)
    fit = pf.fit(flow, x, val, steps=4000, progress="none", weight_decay=0.0, noise=0)
    validated = [e.val_nll for e in fit.epochs if e.val_nll is not None]
    assert fit.stopped == "early"
    assert fit.summary["steps"] < 4000
    best = -float(flow.log_prob(val).detach().mean())
    assert best <= min(validated) + 1e-4
    assert best < validated[-1]


def test_breaking_off_leaves_the_best_weights_and_own_memory() -> None:
    flow = small()
    for epoch in pf.train(flow, moons(), epochs=10):
        if epoch.epoch >= 3:
            break
    storages = {p.untyped_storage().data_ptr() for p in flow.parameters() if p.numel()}
    assert len(storages) == sum(1 for p in flow.parameters() if p.numel())
    copy.deepcopy(flow)
    assert torch.isfinite(flow.log_prob(moons())).all()


@pytest.mark.parametrize("optimizer", [None, lambda p: torch.optim.SGD(p, 1e-3)])
@pytest.mark.parametrize("members", [1, 2])
def test_a_loop_left_early_has_the_best_weights_though_its_generator_lives(members: int, optimizer: object) -> None:
    flows = [pf.real_nvp(2, depth=2, width=8, seed=k) for k in range(members)]
    density, val = pf.Mixture(flows) if members > 1 else flows[0], moons(300)
    lr = None if optimizer else 0.05
    epochs = pf.train(density, moons(400), val, steps=400, batch=64, lr=lr, optimizer=optimizer, check=False)
    for epoch in epochs:
        with torch.no_grad():
            now = -float(density.log_prob(val).mean())
        if members == 1 and epoch.best_val_nll is not None:
            assert now == pytest.approx(epoch.best_val_nll, abs=1e-4)
        if epoch.step >= 300:
            break
    before = [p.clone() for p in density.parameters()]
    epochs.close()
    assert all(torch.equal(p, q) for p, q in zip(before, density.parameters(), strict=True))


def test_a_long_pass_is_validated_from_its_first_steps_on() -> None:
    steps: list[int] = []
    flow = small()
    seen = 0

    def loss(density: pf.Density, batch: Batch) -> torch.Tensor:
        nonlocal seen
        seen += torch.is_grad_enabled()
        return negative_log_likelihood(density, batch)

    def metric(density: pf.Density, batch: Batch) -> torch.Tensor:
        assert not density.training
        steps.append(seen)
        return negative_log_likelihood(density, batch)

    epochs = list(
        pf.train(flow, moons(20_000), moons(300), epochs=1, batch=100, objective=loss, metric=metric, check=False)
    )
    assert [step - steps[1] for step in steps[1:5]] == [0, 8, 24, 56]  # at steps 8, 16, 32 and 64
    assert 8 <= steps[1] <= 9  # the objective is looked at once before
    assert [epoch.step for epoch in epochs] == [200]


def test_rows_learned_by_heart_within_a_pass_leave_early_weights() -> None:
    """A wide network and a high rate overfit sixty rows, which are drawn many times within one pass."""
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    val = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    flow = pf.real_nvp(8, depth=6, width=128, seed=0)
    result = pf.fit(flow, x, val, epochs=1, batch=60, lr=1e-2, noise=0.0, patience=None, progress="none", check=False)
    (record,) = result.epochs
    assert record.val_nll is not None
    assert record.best_val_nll is not None
    assert record.best_val_nll < record.val_nll - 0.5


def test_a_long_time_for_few_rows_ends_before_they_are_learned_by_heart() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, seed=0)
    fit = pf.fit(flow, moons(40), seconds=120, patience=None, progress="none")
    assert fit.stopped == "done"
    assert fit.summary["seconds"] < 60
    assert fit.epochs[-1].progress == 1
    assert fit.epochs[-1].lr < 1e-5  # the schedule came to its end
