"""What stands around a flow of arrays: fixed maps before it, simple densities and further members beside it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from pushforward.baselines import Baseline, fit_gaussian
from pushforward.training import Batch
from pushforward.training.stack import Stack, mixing_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near_singular(n: int, columns: int = 20, decades: float = 6.0, seed: int = 0) -> tuple[Tensor, float]:
    """Normal rows (n, D) float64 whose covariance has a condition number of 10^(2 decades); their entropy."""
    scales = np.logspace(0, -decades, columns)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(columns, columns)))[0] * scales
    rows = torch.randn(n, columns, dtype=torch.float64, generator=seeded(seed)) @ torch.from_numpy(turn).mT
    return rows, 0.5 * columns * math.log(2 * math.pi * math.e) + float(np.log(scales).sum())


def cauchy(n: int, seed: int = 0) -> Tensor:
    return torch.tan(math.pi * (torch.rand(n, 2, dtype=torch.float64, generator=seeded(seed)) - 0.5))


def test_columns_of_condition_number_1e12_are_whitened_in_closed_form() -> None:
    (x, entropy), (test, _) = near_singular(20_000), near_singular(5000, seed=1)
    flow = pf.Flow(pf.Chain(pf.Precondition(20, bends=True)), 20)
    pf.initialize(flow, x)
    with torch.no_grad():
        assert float(flow.log_prob(test).mean()) == pytest.approx(-entropy, abs=0.1)


def test_columns_that_know_nothing_of_each_other_stay_apart() -> None:
    x = torch.randn(4000, 30, generator=seeded())
    x[:, 7] += x[:, 3]
    layer = pf.Precondition(30, bends=True)
    layer.measure(x, whiten=True)
    off = layer.matrix - layer.matrix.diag().diag()
    assert off.nonzero().tolist() == [[7, 3]]


@pytest.mark.parametrize(("rows", "left", "whitened"), [
    (400, 0.2, True), (4000, 0.2, False), (4000, 0.01, True), (20_000, 0.2, True),
])  # fmt: skip
def test_a_flow_sees_correlated_columns_of_a_middling_number_of_rows(rows: int, left: float, whitened: bool) -> None:
    common = torch.randn(rows, 1, dtype=torch.float64, generator=seeded())
    x = common + left * torch.randn(rows, 10, dtype=torch.float64, generator=seeded(1))
    layer = pf.Precondition(10, bends=True)
    z = layer.initialize(x)
    correlation = torch.corrcoef(z.mT).fill_diagonal_(0).abs().max()
    assert bool(correlation < 0.3) is whitened


def test_bends_are_for_columns_that_need_them() -> None:
    normal = torch.randn(4000, 4, generator=seeded())
    x = torch.stack([normal[:, 0], normal[:, 1] / normal[:, 2], normal[:, 3].exp()], 1)
    layer = pf.Precondition(3, bends=True)
    z = layer.initialize(x)
    assert layer.is_bent.tolist() == [False, True, True]
    assert layer.heavy[:2].tolist() == [[False, False], [True, True]]
    log_det = layer(x)[1]
    gaussian = fit_gaussian(z).log_prob(z) + log_det
    assert float(gaussian.mean() - fit_gaussian(x).log_prob(x).mean()) > 3
    straight = torch.randn(4000, 3, generator=seeded()) * 5
    layer = pf.Precondition(3, bends=True)
    layer.initialize(straight)
    assert not layer.is_bent.any()
    assert float(layer(straight)[1].std()) < 0.05  # a line but for what is folded


@pytest.mark.parametrize("common", [True, False])
def test_columns_that_are_scaled_in_common_are_neither_bent_nor_folded(common: bool) -> None:
    normal = torch.randn(20_000, 32, generator=seeded(), dtype=torch.float64)
    scale = torch.randn(20_000, 1 if common else 32, generator=seeded(1), dtype=torch.float64).mul(0.6).exp()
    x = normal * scale
    layer = pf.Precondition(32, bends=True)
    layer.initialize(x)
    assert bool(layer.is_bent.any()) is not common
    log_det = layer(x)[1]
    assert (float(log_det.std()) < 1e-9) is common
    assert torch.allclose(layer.inverse(layer(x)[0])[0].double(), x, atol=1e-3)
    few = pf.Precondition(32, bends=True)
    few.initialize(x[:5000])
    assert bool(few.is_bent.any())


@pytest.mark.parametrize("case", ["narrow", "zeros", "outlier"])
def test_what_float32_would_not_see_is_folded_though_columns_are_scaled_in_common(case: str) -> None:
    x = torch.randn(22_000, 6, generator=seeded(), dtype=torch.float64)
    share = torch.rand(22_000, 1, generator=seeded(1))
    if case == "outlier":
        x *= torch.where(share < 0.4, 0.05, 1.0)
        x[1] = 1e4  # which a sample of the rows does not see
    else:
        x *= torch.where(share < 0.6, 1e-3 if case == "narrow" else 0.0, 1.0)
    z = pf.Precondition(6, bends=True).initialize(x)
    assert float(z.abs().max()) < 40


@pytest.mark.parametrize("recipe", ["auto", "real_nvp"])
def test_heavy_tails_are_learned(recipe: str) -> None:
    x, test = cauchy(6000), cauchy(4000, seed=1)
    fit = pf.fit(recipe, x, steps=60, progress="none")
    with torch.no_grad():
        gap = -(math.pi * (1 + test**2)).log().sum(1) - fit.flow.log_prob(test)
    assert float(gap.mean()) < 0.15


def test_counts_over_six_decades_are_a_context() -> None:
    def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(n, 1, dtype=torch.float64, generator=seeded(seed))
        count = (10 ** (6 * uniform)).round()
        return count.log() + torch.randn(n, 1, dtype=torch.float64, generator=seeded(seed + 10)), count

    (x, context), (test, test_context) = draw(6000, 0), draw(4000, 1)
    fit = pf.fit("auto", x, context=context, steps=200, progress="none")
    with torch.no_grad():
        score = float(fit.flow.log_prob(test, test_context).mean())
    assert score == pytest.approx(-0.5 * math.log(2 * math.pi * math.e), abs=0.1)


def test_a_training_behind_fixed_maps_tells_nats_of_the_data() -> None:
    x, val = cauchy(1000), cauchy(300, seed=1)
    flow = pf.real_nvp(2, depth=2, width=8, precondition=True, seed=0)
    fit = pf.fit(flow, x, val, steps=40, batch=100, progress="none")
    assert fit.summary["best_val_nll"] == pytest.approx(-float(flow.log_prob(val).detach().mean()), abs=1e-4)
    whole = pf.real_nvp(2, depth=2, width=8, precondition=True, seed=0)

    def objective(density: pf.Density, batch: pf.training.Batch) -> Tensor:
        return pf.training.negative_log_likelihood(density, batch)

    pf.fit(whole, x, val, steps=40, batch=100, noise=0.0, objective=objective, progress="none")
    mapped = pf.real_nvp(2, depth=2, width=8, precondition=True, seed=0)
    pf.fit(mapped, x, val, steps=40, batch=100, noise=0.0, progress="none")
    for one, other in zip(whole.parameters(), mapped.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_fresh_rows_are_mapped_as_they_are_drawn() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, precondition=True, seed=0)
    fit = pf.fit(
        flow, lambda n, g: cauchy(n, seed=int(torch.randint(1000, (), generator=g))), steps=60, progress="none"
    )
    test = cauchy(4000, seed=1)
    assert fit.summary["best_val_nll"] == pytest.approx(-float(flow.log_prob(test).detach().mean()), abs=0.4)


def test_members_of_one_map_train_behind_it_together() -> None:
    flows = [pf.real_nvp(2, depth=2, width=8, precondition=True, seed=k) for k in range(2)]
    ensemble, x = pf.Ensemble(flows), cauchy(1000)
    pf.fit(ensemble, x, steps=30, progress="none")
    start = ensemble.fixed_start()
    assert start is not None
    assert ensemble.fixed_start() is not None
    flows[0].bijection[0].centre += 1  # type: ignore[index]
    assert ensemble.fixed_start() is None


def test_few_rows_are_stacked_into_one_density_that_is_saved_and_sampled(tmp_path: Path) -> None:
    x, test = torch.randn(150, 4, generator=seeded()), torch.randn(2000, 4, generator=seeded(1))
    fit = pf.fit("auto", x, steps=60, progress="none")
    density = fit.density
    assert isinstance(density, pf.Mixture)
    assert isinstance(fit.flow, pf.Flow)
    assert fit.summary["stack"].keys() > {"flow", "gaussian"}
    assert sum(fit.summary["stack"].values()) == pytest.approx(1)
    with torch.no_grad():
        scores = density.log_prob(test)
        assert float(scores.mean()) > float(fit.flow.log_prob(test).mean())
        assert float(scores.mean()) > float(fit_gaussian(x).log_prob(test).mean()) - 0.05
        pf.save(density, tmp_path / "stack.safetensors")
        torch.testing.assert_close(pf.load(tmp_path / "stack.safetensors").log_prob(test), scores)
    assert density.sample(500, generator=0).shape == (500, 4)
    assert density.inner_flows(test)[0].flow is fit.flow


def test_what_is_not_stacked() -> None:
    x = torch.randn(60, 2, generator=seeded())
    assert isinstance(pf.fit("auto", x, steps=5, stack=False, progress="none").density, pf.Flow)
    weighted = pf.fit("auto", x, weights=torch.rand(60, generator=seeded()), steps=5, progress="none")
    assert "stack" not in weighted.summary
    with pytest.raises(ValueError, match="cannot be stacked: they have weights"):
        pf.fit("auto", x, weights=torch.ones(60), steps=5, stack=True, progress="none")
    with pytest.raises(ValueError, match="cannot be stacked: they are drawn by a function"):
        pf.fit("auto", lambda n, g: torch.randn(n, 2, generator=g), steps=5, stack=True, progress="none")
    with pytest.raises(ValueError, match="members and stack are for a flow that fit chooses"):
        pf.fit(pf.real_nvp(2, seed=0), x, stack=True, progress="none")
    with pytest.raises(ValueError, match="members must be a whole number"):
        pf.fit("auto", x, members=0, progress="none")


@pytest.mark.slow
def test_time_left_over_goes_to_further_members_or_is_told() -> None:
    x = torch.randn(200, 2, generator=seeded())
    settings = {"seconds": 12.0, "stack": False, "progress": "none"}
    alone = pf.fit("auto", x, members=1, **settings)
    assert "s: " in alone.summary["time_left"]
    more = pf.fit("auto", x, **settings)
    assert more.summary["members"] > 1
    assert len(more.flow.members) == more.summary["members"]
    assert more.summary["seconds"] < 14


def test_an_estimator_stacks_few_rows_and_keeps_the_latents_of_its_flow(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(150, 3)) * [1, 10, 1000]
    x = np.insert(x, 1, 7.0, axis=1)  # a constant column
    model = pf.FlowDensity(steps=40, random_state=0).fit(x)
    flow_alone = pf.FlowDensity(steps=40, random_state=0, stack=False).fit(x)
    assert model.fit_record_ is not None
    assert model.fit_record_.summary["stack"]["flow"] < 1
    assert len(model.flows_) == 1
    test = np.insert(np.random.default_rng(1).normal(size=(2000, 3)) * [1, 10, 1000], 1, 7.0, axis=1)
    assert model.score(test) > flow_alone.score(test)
    z = model.transform(x)
    assert z.shape == x.shape
    assert np.allclose(model.inverse_transform(z), x)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert np.allclose(again.score_samples(x), model.score_samples(x))
    assert np.allclose(again.transform(x), z)
    assert model.sample(20, random_state=0).shape == (20, 4)
    with pytest.raises(ValueError, match="they have weights, or some of them are repeated"):
        pf.FlowDensity(stack=True).fit(x, sample_weight=np.arange(150))


def test_weights_are_those_of_the_likeliest_mixture() -> None:
    better = torch.tensor([[0.0] * 98, [-3.0] * 98])
    assert float(mixing_weights(better)[0]) > 0.95
    assert mixing_weights(torch.tensor([[0.0, math.nan], [0.0, 0.0]])).sum() == pytest.approx(1)


@pytest.mark.parametrize("seconds", [0.01, 60.0])
def test_simple_densities_that_took_long_are_not_fitted_again(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    def slowly(x: Tensor, *_: object, **__: object) -> dict[str, Baseline]:
        time.sleep(0.02)
        fitted.append(len(x))
        return {"gaussian": fit_gaussian(x)}

    monkeypatch.setattr("pushforward.training.stack.fit_baselines", slowly)
    x = 5 * torch.randn(400, 2, dtype=torch.float64, generator=seeded())
    stack = Stack(Batch(x[:300]), Batch(x[300:]), 0, seconds=seconds)
    weights = stack.mixed_with(pf.Flow(pf.Chain(pf.Standardize(2)), 2).double())[1]
    assert weights["gaussian"] > 0.5
    assert fitted == ([300] if seconds < 1 else [300, 350, 350, 400])
    assert stack.mixing_seconds == pytest.approx(0.0 if seconds < 1 else 0.02, abs=0.5)


@pytest.mark.parametrize(("count", "learned"), [(500, True), (1100, False)])
def test_simple_densities_of_few_rows_are_worth_what_nearly_all_rows_make_of_them(
    count: int, learned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here they know nothing before they have seen nine tenths of the rows, of which a fifth is held out."""

    def late(x: Tensor, *_: object, **__: object) -> dict[str, Baseline]:
        return {"gaussian": fit_gaussian(x if len(x) >= 0.9 * count else 1000 * x)}

    monkeypatch.setattr("pushforward.training.stack.fit_baselines", late)
    x = 5 * torch.randn(count, 2, dtype=torch.float64, generator=seeded())
    stack = Stack(Batch(x[: count * 4 // 5]), Batch(x[count * 4 // 5 :]), 0)
    weights = stack.mixed_with(pf.Flow(pf.Chain(pf.Standardize(2)), 2).double())[1]
    assert (weights.get("gaussian", 0.0) > 0.9) is learned


def test_what_knows_by_heart_the_rows_that_it_has_seen_has_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(Baseline):
        def __init__(self, seen: Tensor) -> None:
            super().__init__(2, "memory")
            self.register_buffer("seen", seen)

        def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
            return torch.where((x[:, None] == self.seen).all(2).any(1), 50.0, -50.0)

        def sample(self, *args: object, **settings: object) -> Tensor:
            raise NotImplementedError

    monkeypatch.setattr("pushforward.training.stack.fit_baselines", lambda x, *_, **__: {"memory": Memory(x)})
    x = torch.randn(100, 2, dtype=torch.float64, generator=seeded())
    flow = pf.Flow(pf.Chain(pf.Standardize(2)), 2).double()
    assert Stack(Batch(x[:80]), Batch(x[80:]), 0).mixed_with(flow)[1].get("memory", 0.0) < 0.1  # by the prior
