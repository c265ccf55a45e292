"""Training: it learns, it stops, it resumes, it survives bad batches, and says what it did."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import pushforward as pf
from pushforward.flow import initialize
from pushforward.io.tensors import read_tensors, write_tensors
from pushforward.recipes import RECIPES
from pushforward.toys import TwoMoons
from pushforward.training import Batch, negative_log_likelihood
from pushforward.training.auto import UNLIMITED
from pushforward.training.auto import settings as settings_for
from pushforward.training.progress import describe

Settings = dict[str, object]


def small(**kwargs: object) -> pf.Flow:
    return pf.real_nvp(2, depth=4, width=16, seed=0, **kwargs)  # type: ignore[arg-type]


def moons(n: int = 1000, seed: int = 0) -> torch.Tensor:
    return TwoMoons().sample(n, generator=torch.Generator().manual_seed(seed))


def state(flow: pf.Flow) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in flow.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_fit_recovers_a_gaussian_in_data_units() -> None:
    truth = torch.distributions.MultivariateNormal(torch.tensor([100.0, -3.0]), torch.tensor([[4.0, 1.8], [1.8, 1.0]]))
    x = truth.sample((4000,))
    flow = small()
    fit = pf.fit(flow, x, steps=400, progress="none")
    fresh = truth.sample((4000,))
    gap = (truth.log_prob(fresh) - flow.log_prob(fresh).detach()).mean()
    assert float(gap) == pytest.approx(0, abs=0.03)
    assert fit.summary["best_val_nll"] == pytest.approx(float(truth.entropy()), abs=0.15)


@pytest.mark.slow
def test_moons_are_learned_to_a_tenth_of_a_gaussians_gap() -> None:
    flow = pf.real_nvp(2, width=32, seed=0)
    pf.fit(flow, lambda n, g: TwoMoons().sample(n, generator=g), steps=600, progress="none")
    x = moons(5000, seed=9)
    truth = TwoMoons().log_prob(x)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x)
    assert float((truth - flow.log_prob(x).detach()).mean()) < 0.1 * float((truth - gaussian).mean())


def test_weights_act_like_repeated_rows() -> None:
    """Two far clusters with weights 3 to 1: the learned mass of the first is 3/4."""
    x = torch.cat([torch.randn(2000, 2) * 0.5 - 3, torch.randn(2000, 2) * 0.5 + 3])
    weights = torch.cat([torch.full((2000,), 3.0), torch.ones(2000)])
    flow = pf.real_nvp(2, depth=4, width=32, components=2, seed=0)
    pf.fit(flow, x, weights=weights, steps=500, progress="none")
    share = (flow.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 0] < 0).float().mean()
    assert float(share) == pytest.approx(0.75, abs=0.04)


def test_conditional_fit_follows_its_context() -> None:
    context = torch.rand(4000, 1) * 10 - 5
    x = torch.cat([context * 2, -context], 1) + 0.3 * torch.randn(4000, 2)
    flow = small(context_dim=1)
    pf.fit(flow, x, context=context, steps=500, progress="none")
    samples = flow.sample(2000, torch.tensor([[3.0], [-2.0]]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(0), torch.tensor([[6.0, -3.0], [-4.0, 2.0]]), atol=0.15, rtol=0)


def test_a_drawing_function_may_give_contexts() -> None:
    def draw(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        context = torch.randn(n, 1, generator=generator)
        return context + torch.randn(n, 2, generator=generator), context

    fit = pf.fit(small(context_dim=1), draw, steps=30, progress="none")
    assert fit.summary["steps"] == 30


@pytest.mark.parametrize(("length", "steps"), [({"epochs": 3}, 3 * 9), ({"steps": 20}, 20)])
def test_the_length_is_what_was_asked(length: Settings, steps: int) -> None:
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


def test_training_is_reproducible_and_leaves_the_global_rng() -> None:
    rng = torch.get_rng_state()
    flows = [small(), small(), small()]
    for flow, seed in zip(flows, (1, 1, 2), strict=True):
        pf.fit(flow, moons(), epochs=3, seed=seed, progress="none")
    assert same(state(flows[0]), state(flows[1]))
    assert not same(state(flows[0]), state(flows[2]))
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("settings", [{}, {"ema": 0.0, "val_fraction": 0.0}], ids=["default", "plain"])
def test_resume_equals_an_unbroken_run_bit_for_bit(tmp_path: Path, settings: Settings) -> None:
    whole, broken, resumed = small(), small(), small()
    straight = list(pf.train(whole, moons(), epochs=10, batch=64, **settings))  # type: ignore[arg-type]
    first = []
    for epoch in pf.train(broken, moons(), epochs=10, batch=64, checkpoint=tmp_path, **settings):  # type: ignore[arg-type]
        first.append(epoch)
        if len(first) == 5:
            break
    second = list(pf.train(resumed, moons(), epochs=10, batch=64, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert len(second) == 5
    assert same(state(whole), state(resumed))
    assert [e.train_nll for e in first + second] == [e.train_nll for e in straight]
    assert [e.val_nll for e in first + second] == [e.val_nll for e in straight]


def test_a_constant_rate_can_be_extended_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = small(), small()
    settings: Settings = {"schedule": "constant", "warmup": 0.0, "patience": None}
    list(pf.train(whole, moons(), epochs=10, **settings))  # type: ignore[arg-type]
    list(pf.train(parts, moons(), epochs=5, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    resumed = small()
    list(pf.train(resumed, moons(), epochs=10, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert same(state(whole), state(resumed))


def test_a_run_that_was_over_is_told_as_it_was(tmp_path: Path) -> None:
    first, second = small(), small()
    before = pf.fit(first, moons(), steps=60, checkpoint=tmp_path, batch=90, progress="none")
    after = pf.fit(second, moons(), steps=60, checkpoint=tmp_path, batch=90, progress="none")
    assert same(state(first), state(second))
    told = [{k: f.summary[k] for k in ("steps", "epochs", "best_val_nll")} for f in (before, after)]
    assert told[0] == told[1]


def test_a_time_too_short_for_a_step_is_told() -> None:
    with pytest.warns(UserWarning, match="0.0001 s were over before the first step"):
        fit = pf.fit(small(), moons(), seconds=1e-4, progress="none")
    assert fit.summary["steps"] == 0
    assert fit.summary["best_val_nll"] is not None


def test_a_short_run_of_bad_batches_keeps_the_good_weights() -> None:
    flow = poisoned(2, 10**9)
    initialize(flow, moons(), None)
    before = copy.deepcopy(dict(flow.named_parameters()))
    with pytest.warns(UserWarning, match="19 of the last 20 batches"):
        pf.fit(flow, moons(), steps=20, batch=500, ema=0.0, val_fraction=0.0, progress="none")
    assert same(before, dict(flow.named_parameters()))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    with pytest.raises(ValueError, match="run with other settings"):
        pf.fit(small(), moons(), epochs=1, batch=100, checkpoint=tmp_path, progress="none")
    for change in ({"data": moons() + 1}, {"weight_decay": 0.5}, {"clip": None}):
        with pytest.raises(ValueError, match="run with other settings"):
            pf.fit(small(), **{"data": moons(), "epochs": 1, "checkpoint": tmp_path, "progress": "none"} | change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another flow"):
        pf.fit(pf.real_nvp(2, depth=2), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    (tmp_path / "training.safetensors").write_bytes(b"\x08broken")
    with pytest.raises(ValueError, match="damaged"):
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")


def test_a_checkpoint_of_another_objective_is_refused(tmp_path: Path) -> None:
    def scaled(density: pf.Density, batch: pf.Batch, scale: float) -> torch.Tensor:
        return scale * pf.negative_log_likelihood(density, batch)

    def run(scale: float) -> None:
        objective = partial(scaled, scale=scale)
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none", objective=objective)

    run(1.0)
    run(1.0)
    with pytest.raises(ValueError, match="other settings"):
        run(2.0)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    header, tensors = read_tensors(tmp_path / "training.safetensors")
    write_tensors(tmp_path / "training.safetensors", tensors, header | {"format_version": 1})
    with pytest.raises(ValueError, match="another version of pushforward"):
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")


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


def test_the_number_of_threads_is_the_callers_own() -> None:
    before = torch.get_num_threads()
    for _ in pf.train(small(), moons(), epochs=2):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


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
def test_a_loop_left_early_has_the_best_weights_though_its_generator_lives(members: int, optimizer: Settings) -> None:
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {"data": x[:1]}, "at least 2 rows are needed to train, got 1"),
        (lambda x: {"data": x[:0]}, "x has no rows"),
        (lambda x: {"data": x[:, :1]}, r"expected x of shape"),
        (lambda x: {"data": x.index_fill(1, torch.tensor(1), 5.0)}, r"column\(s\) \[1\] are constant"),
        (lambda x: {"data": x, "val": x[:0]}, "val has no rows"),
        (lambda x: {"data": x, "weights": -torch.ones(len(x))}, "not negative"),
        (lambda x: {"data": x, "weights": torch.ones(3)}, r"expected weights of shape \(1000,\), got \(3,\)"),
        (lambda x: {"data": x, "epochs": 3, "seconds": 1.0}, "at most one of epochs, steps and seconds"),
        (lambda x: {"data": x, "epochs": 0}, "epochs must be None or a whole number of at least 1, got 0"),
        (lambda x: {"data": x, "batch": 0}, "batch must be None or a whole number of at least 1, got 0"),
        (lambda x: {"data": x, "epochs": 1.5}, "epochs must be None or a whole number of at least 1, got 1.5"),
        (lambda x: {"data": x, "seconds": "10"}, "seconds must be None or a positive finite number, got '10'"),
        (
            lambda x: {"data": x, "weight_decay": -1},
            "weight_decay must be None or a finite number of at least 0, got -1",
        ),
        (lambda x: {"data": x, "seed": 1.5}, "seed must be a whole number, got 1.5"),
        (
            lambda x: {"data": x, "batch_growth": True},
            "batch_growth must be None or a power of 2, from 1 to 1,048,576, got True",
        ),
        (
            lambda x: {"data": x, "batch_growth": 3},
            "batch_growth must be None or a power of 2, from 1 to 1,048,576, got 3",
        ),
        (
            lambda x: {"data": x, "batch_growth": 2, "epochs": 1},
            "batch_growth needs a length in steps or seconds, got 2 with epochs=1",
        ),
        (lambda x: {"data": x + 1e9}, "subtract so large a value first: float32 rounds it"),
        (lambda x: {"data": lambda n, g: x[:7]}, "asked for 8,192 rows and returned 7"),
        (lambda x: {"data": x, "schedule": "linear"}, "cosine or constant, got 'linear'"),
        (
            lambda x: {"data": x, "context": torch.zeros(len(x), 1)},
            r"expected no context, got a context of shape \(N, 1\)",
        ),
        (lambda x: {"data": x, "progress": "loud"}, "auto, rich, plain or none"),
        (lambda x: {"data": lambda n, g: torch.full((n, 2), math.nan)}, "not finite numbers"),
    ],
)
def test_wrong_input_is_told(change, message: str) -> None:  # type: ignore[no-untyped-def]
    arguments = {"steps": None, "progress": "none"} | change(moons())
    with pytest.raises(ValueError, match=message):
        pf.fit(small(), **arguments)


def test_settings_are_checked_before_a_flow_is_chosen() -> None:
    with pytest.raises(ValueError, match="seconds must be None or a positive finite number, got -1"):
        pf.fit("auto", moons(), seconds=-1, progress="none")


def test_nan_and_infinity_are_located() -> None:
    x = moons()
    x[17, 1], x[30, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match="2 values that are not finite numbers, the first at row 17, column 1: nan"):
        pf.fit(small(), x, progress="none")


def test_the_time_that_is_left_is_told_until_the_end() -> None:
    epoch = pf.Epoch(1.0, 10, 30.0, 0.25, 1.0, None, 1e-3, 0)
    assert epoch.seconds_left == 90
    assert "30.0 s, at most 90 s left" in describe(epoch, None)
    assert "left" not in describe(replace(epoch, progress=0.99), None)
    assert replace(epoch, stopped="early").seconds_left == 0


def test_plain_progress_prints_lines_and_none_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    pf.fit(small(), moons(), steps=60, batch=100, progress="none")
    assert capsys.readouterr().err == ""
    pf.fit(small(), moons(), steps=60, batch=100, progress="plain")
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 22
    assert "train" in lines[-1]
    assert "validation" in lines[-1]


def test_rich_progress_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    pf.fit(small(), moons(), steps=60, batch=100, progress="rich")
    assert "train" in capsys.readouterr().err


@pytest.mark.parametrize("n", [2, 3, 19, 20, 30])
def test_few_rows_work(n: int) -> None:
    fit = pf.fit(small(), moons(n), steps=10, progress="none")
    assert fit.summary["steps"] == 10


def test_a_float64_flow_trains() -> None:
    flow = small().double()
    fit = pf.fit(flow, moons(), steps=30, progress="none")
    assert fit.summary["skipped"] == 0
    assert flow.sample(2).dtype == torch.float64


@pytest.mark.parametrize("features", [1, 3, 7])
def test_other_widths_work(features: int) -> None:
    flow = pf.real_nvp(features, depth=3, width=8, components=2, seed=0)
    pf.fit(flow, torch.randn(100, features) * 1e6, steps=10, progress="none")
    assert bool(torch.isfinite(flow.log_prob(torch.randn(5, features) * 1e6).detach()).all())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_compile_learns_the_same() -> None:
    flows = [small(), small()]
    for flow, compile in zip(flows, (False, True), strict=True):
        pf.fit(flow, moons(), steps=30, compile=compile, progress="none")
    x = moons(100, seed=3)
    torch.testing.assert_close(flows[0].log_prob(x), flows[1].log_prob(x), rtol=1e-3, atol=1e-3)


def test_frozen_parameters_are_left_alone() -> None:
    flow = small()
    frozen = next(flow.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    pf.fit(flow, moons(), steps=20, val_fraction=0.0, progress="none")
    assert torch.equal(frozen, before)


def test_progress_may_be_a_function() -> None:
    seen: list[pf.Epoch] = []
    record = pf.fit(small(), moons(), steps=20, progress=seen.append)
    assert seen == record.epochs
    assert seen[-1].step == 20


def test_noise_widens_the_learned_density_by_its_own_spread() -> None:
    """A Gaussian of standard deviation s in each column, with noise of level 1: the learned one has s sqrt(2)."""
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0])
    flow = small()
    pf.fit(flow, x, steps=400, noise=1.0, val_fraction=0.0, progress="none")
    drawn = flow.sample(20_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.std(0), 2**0.5 * x.std(0), rtol=0.06, atol=0)


def test_noise_follows_the_weighted_spread() -> None:
    x = torch.cat([torch.randn(500, 2), 100 * torch.randn(500, 2)])
    weights = torch.cat([torch.ones(500), torch.zeros(500)])
    flow = small()
    pf.fit(flow, x, weights=weights, steps=300, noise=1.0, val_fraction=0.0, progress="none")
    assert float(flow.log_prob(x[:500]).detach().mean()) == pytest.approx(-3.03, abs=0.15)  # of N(0, 2) at N(0, 1)


@pytest.mark.slow
def test_few_rows_are_smoothed_unless_it_is_forbidden() -> None:
    x, fresh = moons(30), moons(5000, seed=1)
    scores = []
    for noise in (None, 0.0):
        flow = pf.real_nvp(2, depth=6, width=64, seed=0)
        pf.fit(flow, x, steps=800, noise=noise, val_fraction=0.0, progress="none")
        scores.append(float(flow.log_prob(fresh).detach().mean()))
    assert scores[0] > scores[1] + 1
    with pytest.raises(ValueError, match="noise must be None or a finite number of at least 0, got -1"):
        pf.fit(small(), x, noise=-1, progress="none")


@pytest.mark.slow
def test_fit_chooses_a_flow_for_rows_contexts_and_drawing_functions() -> None:
    x = moons(300)
    assert pf.fit("auto", x, steps=5, progress="none").flow.shape == (2,)  # type: ignore[union-attr]
    fit = pf.fit("spline_flow", x, context=x[:, :1], steps=5, progress="none")
    assert fit.flow is not None
    assert fit.flow.recipe is not None
    assert (fit.flow.recipe["name"], fit.flow.context_dim) == ("spline_flow", 1)
    drawn = pf.fit("auto", lambda n, g: TwoMoons().sample(n, generator=g), seconds=3.0, progress="none")
    assert drawn.summary["seconds"] < 8
    again = [pf.fit("auto", x, steps=5, seed=7, progress="none").flow for _ in range(2)]
    assert same(*(state(flow) for flow in again if flow is not None))
    with pytest.raises(ValueError, match=r"rows of shape \(N, D\) to choose a flow for, got \(300,\)"):
        pf.fit("auto", x[:, 0], progress="none")


def test_a_long_time_for_few_rows_ends_before_they_are_learned_by_heart() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, seed=0)
    fit = pf.fit(flow, moons(40), seconds=120, patience=None, progress="none")
    assert fit.stopped == "done"
    assert fit.summary["seconds"] < 60
    assert fit.epochs[-1].progress == 1
    assert fit.epochs[-1].lr < 1e-5  # the schedule came to its end


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what torch deprecates
def test_every_recipe_compiles_whole_with_a_dynamic_batch(recipe: str) -> None:
    flow = RECIPES[recipe](3, depth=2, seed=0)  # type: ignore[call-arg]
    pf.initialize(flow, torch.randn(50, 3))
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(flow, backend=backend, fullgraph=True, dynamic=True)
    for n in (5, 8, 13):
        x = torch.randn(n, 3)
        torch.testing.assert_close(compiled(x), flow(x))
    assert len(graphs) == 1
