"""Rows as scientists have them: of extreme scales, masked, nearly dependent; and calls in all shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pushforward as pf
from pushforward.training.auto import choose

QUICK = {"steps": 20, "progress": "none"}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_stack_takes_the_leading_axes_that_its_flow_takes() -> None:
    x, context = normal(400, 2), normal(400, 3, seed=1)
    density = pf.fit("auto", x, context=context, **QUICK).density
    assert density is not None
    assert len(density.members) > 1
    each = torch.stack([density.log_prob(x[:5], c.expand(5, -1)) for c in context[:4]], 1)
    torch.testing.assert_close(density.log_prob(x[:5, None], context[None, :4]), each, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(density.log_prob(x[:5], context[0]), each[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(density.log_prob(x[0], context[0]), each[0, 0], rtol=1e-5, atol=1e-5)
    assert density.log_prob(x[0], context[:3]).shape == (3,)
    drawn, log_prob = density.sample_with_log_prob(3, context[:4], generator=0)  # type: ignore[attr-defined]
    assert (drawn.shape, log_prob.shape) == ((3, 4, 2), (3, 4))
    gradient = torch.func.grad(lambda row: density.log_prob(row, context[0]))(x[0])
    assert gradient.shape == (2,)
    assert bool(gradient.isfinite().all())
    with pytest.raises(ValueError, match="do not broadcast"):
        density.members[1].log_prob(x[:5], context[:4])


@pytest.mark.parametrize("scale", [1e44, 1e-45, 1e100])
@pytest.mark.parametrize("stack", [True, False])
def test_samples_of_numbers_beyond_float32_are_float64(scale: float, stack: bool) -> None:
    x = scale * np.exp(0.5 * np.random.default_rng(0).normal(size=(1000, 1)))
    density = pf.fit("auto", x, stack=stack, **QUICK).density
    assert density is not None
    drawn = density.sample(500, generator=0)
    assert drawn.dtype == torch.float64
    assert len(drawn.unique()) == 500
    assert 0.3 < float((drawn / scale).median()) < 3


@pytest.mark.parametrize("scale", [1e160, 1e-170])
def test_numbers_whose_squares_float64_does_not_hold_are_refused(scale: float) -> None:
    x = scale * np.random.default_rng(0).normal(size=(300, 2))
    fits = (lambda: pf.fit("auto", x, **QUICK), lambda: pf.FlowDensity().fit(x),
            lambda: pf.fit(pf.real_nvp(2, seed=0).double(), x, **QUICK))  # fmt: skip
    for fit in fits:
        with pytest.raises(ValueError, match=r"column 0 of \w+ goes from .* does not hold the squares"):
            fit()


def test_samples_keep_what_columns_leave_of_each_other() -> None:
    a, noise = np.random.default_rng(0).normal(size=(2, 2000))
    flow = pf.real_nvp(2, depth=2, width=16, seed=0, precondition=True)
    pf.fit(flow, np.stack([a, a + 1e-8 * noise], 1), check=False, **QUICK)
    drawn, log_prob = flow.sample_with_log_prob(1000, generator=0)
    assert float((drawn[:, 1] - drawn[:, 0]).std()) == pytest.approx(1e-8, rel=0.2)
    torch.testing.assert_close(flow.log_prob(drawn).double(), log_prob.double(), rtol=1e-3, atol=1e-3)


def test_the_derivative_at_the_first_knot_of_a_bend_is_one_sided() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.where(rng.random((1500, 2)) < 0.6, 0.0, np.exp(rng.normal(size=(1500, 2)))))
    layer = pf.Precondition(2, bends=True)
    layer.initialize(x)
    assert bool(layer.is_bent.all())
    assert float(layer.knots[0, :, 0].abs().max()) == 0
    report = pf.check_bijection(layer, x[:50])
    assert report.ok, report.text()


def test_contexts_that_float32_rounds_are_told() -> None:
    rng = np.random.default_rng(0)
    time = 1.7e9 + 100 * rng.random((500, 1))
    flow = pf.spline_flow(1, context_dim=1, standardize=False, seed=0)
    for use in (
        lambda: pf.fit(flow, rng.normal(size=(500, 1)), context=time, **QUICK),
        lambda: flow.log_prob(np.zeros((500, 1)), time),
    ):
        with pytest.warns(UserWarning, match="float64 contexts are rounded to the flow's float32: column 0"):
            use()


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_contexts_and_rows_far_from_zero_keep_their_digits(kind: type) -> None:
    minute = np.arange(600)[:, None] % 60
    y = minute / 60 + 0.01 * np.random.default_rng(0).normal(size=(600, 2))
    flow = pf.real_nvp(2, context_dim=1, seed=0)
    time = (1_700_000_000 + minute).astype(kind)
    pf.fit(flow, 1e9 + y, context=time, steps=200, progress="none")
    drawn = flow.sample(500, context=time[[0, 59]], generator=0) - 1e9
    assert torch.allclose(drawn.mean((0, 2)), torch.tensor([0, 59 / 60], dtype=torch.float64), atol=0.1)
    assert float(flow.log_prob(1e9 + y, time).detach().mean()) > 4  # -.07 for one that does not see the context


def test_a_mean_that_float32_rounds_by_many_spreads_is_told() -> None:
    x = normal(100, 2).double()
    with pytest.raises(ValueError, match=r"column 0 of x has mean 1e\+09 .*, beyond .* subtract the mean"):
        pf.fit(pf.real_nvp(2), 1e9 + 32 + x, **QUICK)
    assert pf.fit(pf.real_nvp(2, precondition=True), 1e9 + 32 + x, **QUICK).summary["best_val_nll"] < 4


@pytest.mark.parametrize("size", [1e-50, 1e50])
def test_a_scale_that_the_dtype_does_not_hold_is_told(size: float) -> None:
    x = normal(100, 1).double()
    with pytest.raises(ValueError, match=r"column 0 of x has mean .*, beyond what float32 holds: subtract"):
        pf.fit(pf.real_nvp(1), size * x, **QUICK)
    with pytest.raises(ValueError, match=r"column 0 of the context has mean .*, beyond what float32 holds"):
        pf.fit(pf.real_nvp(1, context_dim=1), x, context=size * x, **QUICK)


def test_rows_beyond_all_networks_have_no_density() -> None:
    flow = pf.real_nvp(2, seed=0)
    flow.initialize(normal(100, 2))
    far = torch.tensor([[1e38, 0.0], [1e38, 1e38], [math.inf, 0.0], [math.nan, 1e38], [0.0, 0.0]])
    log_prob = flow.log_prob(far)
    assert bool(torch.isneginf(log_prob[:3]).all())
    assert log_prob.isnan().tolist() == [False, False, False, True, False]
    for p in flow.parameters():
        p.data.fill_(math.nan)
    assert bool(flow.log_prob(far).isnan().all())  # that the weights are lost is not hidden
    gamma = pf.Flow(pf.Chain(), 1, torch.distributions.Gamma(2.0, 1.0))
    assert gamma.log_prob([[math.inf], [-1.0], [math.nan]]).tolist()[:2] == [-math.inf, -math.inf]


def test_sizes_may_be_numbers_of_numpy(tmp_path: Path) -> None:
    flow = pf.real_nvp(np.int64(2), context_dim=np.int32(3), depth=np.int64(2))
    pf.save(flow, tmp_path / "flow.safetensors")
    assert pf.load(tmp_path / "flow.safetensors").recipe == flow.recipe
    assert pf.Flow(pf.ActNorm(2), np.int64(2), context_dim=np.int64(3)).context_dim == 3


def test_a_flow_built_in_inference_mode_says_so() -> None:
    with torch.inference_mode():
        flow = pf.real_nvp(2)
    with pytest.raises(ValueError, match=r"built within torch\.inference_mode\(\)"):
        pf.fit(flow, normal(50, 2), **QUICK)


def test_an_embedding_of_images_keeps_the_shape_of_a_context_in_its_file(tmp_path: Path) -> None:
    def composed() -> pf.Flow:
        embed = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        return pf.Flow(
            pf.Chain(pf.Standardize(2), pf.Coupling(pf.MLP(1, 2, context_dim=3), pf.Affine())), 2, embed=embed
        )

    x, images = normal(100, 2), normal(100, 1, 8, 8, seed=1)
    flow, again = composed(), composed()
    pf.fit(flow, x, context=images, **QUICK)
    pf.save(flow, tmp_path / "flow.safetensors")
    pf.load(tmp_path / "flow.safetensors", into=again)
    assert again.sample(3, images[:5]).shape == (3, 5, 2)
    torch.testing.assert_close(again.eval().log_prob(x, images), flow.eval().log_prob(x, images))


def test_masked_numbers_are_no_numbers() -> None:
    x = np.ma.masked_array(normal(50, 1).numpy(), mask=False)
    x[:5] = np.ma.masked
    flow = pf.Flow(pf.Chain(), 1)
    with pytest.raises(ValueError, match="5 do not, the first is row 0"):
        flow.space.read(x)
    with pytest.raises(ValueError, match="5 values that are not finite numbers, the first at row 0, column 0: nan"):
        pf.fit(flow, x, **QUICK)


@pytest.mark.parametrize("make", [pf.ActNorm, pf.BatchNorm, pf.LULinear, pf.Precondition, pf.Standardize])
def test_rows_take_the_dtype_of_the_bijection_that_is_checked(make: type) -> None:
    for rows in (normal(20, 2).double(), normal(20, 2).numpy()):
        report = pf.check_bijection(make(2), rows)
        assert report.ok, report.text()


def test_what_is_no_bijection_is_not_checked() -> None:
    with pytest.raises(ValueError, match="expected a Bijection, got a Affine"):
        pf.check_bijection(pf.Affine(), normal(8, 2))  # type: ignore[arg-type]


def test_bases_that_are_no_densities_are_refused() -> None:
    for distribution in (torch.distributions.Poisson(3.0), torch.distributions.VonMises(0.0, 1.0)):
        with pytest.raises(ValueError, match="must be a density over numbers"):
            pf.Flow(pf.Chain(), 1, distribution)
    flow = pf.Flow(pf.Chain(), 1, torch.distributions.Exponential(1.0))
    assert flow.log_prob(torch.tensor([[math.nan], [-1.0]])).isnan().tolist() == [True, False]


def test_small_weights_and_numpy_numbers_count_as_any() -> None:
    x = normal(200, 2)
    flows = [pf.real_nvp(2, depth=2, width=8, seed=0) for _ in range(2)]
    for flow, weights in zip(flows, (np.full(200, 1e-46), np.ones(200)), strict=True):
        pf.fit(flow, x, weights=weights, **QUICK)
    torch.testing.assert_close(flows[0].log_prob(x), flows[1].log_prob(x))
    assert len(pf.fit("auto", x, members=np.int64(2), stack=False, **QUICK).flow.members) == 2  # type: ignore[arg-type]


def test_other_number_formats_and_devices() -> None:
    flow = pf.real_nvp(2, depth=2, width=8, seed=0).bfloat16()
    pf.fit(flow, normal(100, 2), **QUICK)
    assert pf.real_nvp(2).to(device="meta").log_prob(torch.empty(5, 2, device="meta")).shape == (5,)
    with pytest.raises(ValueError, match="device must be one of torch's"):
        pf.FlowDensity(device="nowhere").fit(normal(100, 2).numpy())
    with pytest.raises(ValueError, match="number 0 is a Linear"):
        pf.Mixture([nn.Linear(2, 2)])  # type: ignore[list-item]


def test_an_estimator_tells_the_rule_of_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def spy(*rows_and_columns: int, **settings: object) -> object:
        given.append(settings["seconds"])
        return choose(*rows_and_columns, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("pushforward.estimators._fitting.choose", spy)
    pf.FlowDensity(seconds=3.0).fit(normal(100, 2).numpy())
    assert given == [3.0]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("change", [lambda x: x[::-1], lambda x: x[:0], lambda x: x[:, ::-1], read_only])
def test_a_look_at_rounding_takes_arrays_of_any_layout(change: Any) -> None:
    x = change(np.random.default_rng(0).normal(size=(50, 2)))
    rows, context = torch.tensor(x.copy()).float(), torch.zeros(len(x), 2)
    of_rows = pf.Flow(pf.Coupling(pf.MLP(1, 2), pf.Affine()), 2)
    of_contexts = pf.Flow(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine()), 2)
    assert torch.equal(of_rows.log_prob(x), of_rows.log_prob(rows))
    assert torch.equal(of_contexts.log_prob(context, x), of_contexts.log_prob(context, rows))
    assert of_contexts.sample(3, x).shape == (3, *rows.shape)
