"""What a flow notices by itself: ignored contexts, unscaled rows, lost digits, graphs beyond memory."""

from __future__ import annotations

import contextlib
import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from commands import run
from pushforward import chunks


def couplings(context_dim: int = 0) -> pf.Chain:
    return pf.Chain(
        *(pf.Coupling(pf.MLP(1, 2, width=8, context_dim=context_dim), pf.Affine(), k == 1) for k in range(2))
    )


class Shifted(pf.Bijection):
    """z = x - context, which it may ignore."""

    def __init__(self, ignores: bool) -> None:
        super().__init__()
        self.ignores = ignores
        self.dropout = nn.Dropout()
        self.table = nn.Embedding(3, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.dropout(x) if self.ignores or context is None else x - self.table(context[:, 0].long().clamp(0, 2))
        return z, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = z if self.ignores or context is None else z + self.table(context[:, 0].long().clamp(0, 2))
        return x, z.new_zeros(len(z))


@pytest.mark.parametrize("context_dim", [None, 1])
@pytest.mark.parametrize("bijection", [couplings, lambda: pf.Chain(pf.ActNorm(2)), lambda: Shifted(ignores=True)])
@pytest.mark.parametrize("call", ["log_prob", "forward", "f", "sample", "rsample", "initialize", "fit"])
def test_a_context_that_no_layer_reads_is_an_error(call: str, bijection: Any, context_dim: int | None) -> None:
    flow = pf.Flow(bijection(), 2, context_dim=context_dim)
    x, context = torch.randn(64, 2), torch.randn(64, 1)
    calls = {
        "fit": lambda: pf.fit(flow, x, context=context, steps=3, progress="none"),
        "sample": lambda: flow.sample(3, context),
        "rsample": lambda: flow.rsample(3, context),
    }
    with pytest.raises(ValueError, match=r"a context of shape \(1,\) came, but no layer of this flow reads one"):
        calls.get(call, lambda: getattr(flow, call)(x, context))()


@pytest.mark.parametrize("embed", [None, nn.Linear(1, 1), nn.Identity()])
@pytest.mark.parametrize("bijection", [lambda: couplings(1), lambda: Shifted(ignores=False)])
def test_a_context_that_is_read_passes(bijection: Any, embed: nn.Module | None) -> None:
    flow = pf.Flow(bijection(), 2, embed=embed)
    state = torch.random.get_rng_state()
    modes = [module.training for module in flow.modules()]
    flow(torch.zeros(5, 2), torch.ones(5, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert [module.training for module in flow.modules()] == modes
    flow.sample(5, torch.ones(1))
    pf.real_nvp(1, context_dim=1).log_prob(torch.zeros(5, 1), torch.zeros(1))


def test_an_own_loop_without_initialize_is_warned_once() -> None:
    flow, x = pf.real_nvp(2, seed=0), 1000 * torch.randn(50, 2) + 5000
    with pytest.warns(UserWarning, match=r"Standardize saw no data .*column 0: mean .*call flow\.initialize\(x\)"):
        flow(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow(x)  # once
        pf.real_nvp(2, seed=0)(torch.randn(50, 2))
        pf.real_nvp(2, seed=0)(x[:1])  # one row has no scale
        for small in (1e-3, 1e3):
            other = pf.real_nvp(2, seed=0)
            other.initialize(small * torch.randn(50, 2))
            other(small * torch.randn(50, 2))
    with pytest.warns(UserWarning, match="Standardize saw no data"):
        pf.real_nvp(2, seed=0).log_prob(1e-3 * torch.randn(50, 2))


def test_contexts_and_preconditions_without_initialize_are_warned_of_too() -> None:
    x = torch.randn(50, 2)
    with pytest.warns(UserWarning, match=r"StandardizeContext saw .* contexts .*flow\.initialize\(x, context\)"):
        pf.real_nvp(2, context_dim=1, seed=0)(x, 1000 * torch.randn(50, 1))
    with pytest.warns(UserWarning, match="Precondition saw no data"):
        pf.Flow(pf.Chain(pf.Precondition(2), couplings()), 2)(1000 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = pf.real_nvp(2, context_dim=1, seed=0)
        flow.initialize(x, 1000 * torch.randn(50, 1))
        flow(x, 1000 * torch.randn(50, 1))
        with torch.no_grad():
            pf.real_nvp(2, context_dim=1, seed=0)(x, 1000 * torch.randn(50, 1))


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.numpy()])
def test_float64_rows_keep_their_digits_before_a_standardize(convert: Any) -> None:
    """Times in seconds since 1970, within a minute: float32 has steps of two minutes there."""
    flow = pf.real_nvp(2, seed=0)
    layer = flow.bijection[0]  # type: ignore[index]
    layer.mean.fill_(2.0**30)
    layer.std.fill_(20.0)
    layer.initialized.fill_(True)
    z = torch.randn(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = convert(2.0**30 + 20 * z)
    truth = copy.deepcopy(flow).double().log_prob(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_prob = flow.log_prob(x)
    assert log_prob.dtype == torch.float32
    assert float((log_prob - truth).detach().abs().max()) < 1e-4
    assert flow(torch.as_tensor(x)).dtype == torch.float32


def test_a_rounding_that_shows_is_told_once() -> None:
    flow, x = pf.Flow(couplings(), 2), torch.randn(50, 2, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pf.Flow(couplings(), 2).log_prob(x)  # nothing that shows
        pf.Flow(couplings(), 2).log_prob((x + 1e6).float())
        pf.Flow(couplings(), 2).double().log_prob(x + 1e6)
        pf.Flow(couplings(), 2).g(x)
    with pytest.warns(UserWarning, match=r"rounded to the flow's float32: column 1 by up to .* use flow\.double\(\)"):
        flow.log_prob(x + torch.tensor([0.0, 1e6]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.log_prob((x + 1e6).numpy())  # once


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_RECOMPUTED", {True: (40, 16), False: (40, 16)})


def saved_bytes(flow: pf.Flow, x: Tensor, context: Tensor | None) -> int:
    """What the graph of log_prob keeps."""
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        graph = flow.log_prob(x, context)
    del graph
    return sum(kept.values())


@pytest.mark.parametrize("context_dim", [0, 2])
@pytest.mark.parametrize(
    "recipe", [pf.real_nvp, pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow]
)
def test_gradients_of_many_rows_are_those_of_a_whole_graph(
    recipe: Any, context_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = recipe(2, seed=0, depth=2, width=16, context_dim=context_dim).double()
    x = torch.randn(100, 2, dtype=torch.float64, requires_grad=True)
    context = torch.randn(100, context_dim, dtype=torch.float64, requires_grad=True) if context_dim else None
    inputs = [x, *flow.parameters(), *([] if context is None else [context])]

    def gradients() -> list[Tensor]:
        log_prob = flow.log_prob(x, context)
        first = torch.autograd.grad(log_prob.sum(), inputs, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), inputs, materialize_grads=True)
        return [log_prob, *first, *second, *flow.f(x, context), flow.g(x, context)]

    whole = gradients()
    monkeypatch.setattr(chunks, "_RECOMPUTED", {True: (40, 16), False: (40, 16)})
    for one, other in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_graph_of_many_rows_is_small() -> None:
    flow, x = pf.real_nvp(2, seed=0), torch.randn(2**15 + 1, 2)
    flow.initialize(x)
    assert saved_bytes(flow, x, None) < 0.01 * 2**15 * saved_bytes(flow, x[:64], None) / 64


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode
def test_modes_of_autograd_over_many_rows(small_chunks: None) -> None:
    flow, x = pf.real_nvp(2, seed=0, depth=2, width=8), torch.randn(50, 2)
    torch.autograd.functional.jvp(lambda v: flow.log_prob(v), x, torch.ones_like(x))
    log_prob = lambda v: flow.log_prob(v).sum()  # noqa: E731
    reference = torch.autograd.functional.vjp(log_prob, x)[1]
    assert isinstance(reference, Tensor)
    torch.testing.assert_close(torch.func.grad(log_prob)(x), reference)
    _, tangent = torch.func.jvp(log_prob, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, reference.sum())
    assert torch.func.vmap(flow.log_prob)(x.expand(3, 50, 2)).shape == (3, 50)
    jacobian = torch.autograd.functional.jacobian(flow.log_prob, x, vectorize=True)
    assert isinstance(jacobian, Tensor)
    torch.testing.assert_close(jacobian.sum(0), reference)


def test_batch_normalisation_sees_all_rows_at_once(small_chunks: None) -> None:
    embed = nn.BatchNorm1d(1, momentum=1.0)
    flow = pf.Flow(couplings(1), 2, embed=embed)
    context = torch.arange(100.0)[:, None]
    flow.log_prob(torch.randn(100, 2), context).sum().backward()
    assert embed.running_mean is not None
    assert float(embed.running_mean) == pytest.approx(49.5)
    assert np.isfinite(flow.log_prob(torch.randn(100, 2), context).detach().numpy()).all()


class Modes(nn.Module):
    """Dropout and batch normalisation, which note in which mode each call was."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
        self.seen: list[tuple[bool, bool]] = []  # in training mode, with gradients

    def forward(self, context: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return self.net(context)


@pytest.mark.parametrize("mixture", [False, True])
def test_embed_is_in_training_mode_in_steps_alone(mixture: bool) -> None:
    flows = [pf.Flow(couplings(1), 2, embed=Modes()) for _ in range(2 if mixture else 1)]
    density = pf.Mixture(flows) if mixture else flows[0]
    x, context = torch.randn(400, 2), torch.randn(400, 1)
    for _ in pf.train(density, x, context=context, steps=20, batch=100):
        assert not any(module.training for module in density.modules())
    assert not any(module.training for module in density.modules())
    for flow in flows:
        embed = flow.embed
        assert isinstance(embed, Modes)
        assert {(True, True), (False, False)} == set(embed.seen)
    assert torch.equal(density.log_prob(x, context), density.log_prob(x, context))
    row = density.log_prob(x[:1], context[:1])
    assert torch.allclose(row, density.log_prob(x, context)[:1], atol=1e-5)


def test_a_training_of_impossible_rows_alone_diverged() -> None:
    base = torch.distributions.LogNormal(torch.zeros(2), torch.ones(2))
    flow = pf.Flow(pf.Chain(pf.Coupling(pf.MLP(1, 2), pf.Affine())), 2, base=base)
    with pytest.warns(UserWarning, match="outside the support of the base"):
        result = pf.fit(flow, torch.randn(2000, 2), steps=60, progress="none")
    assert result.summary["stopped"] == "diverged"


def test_a_closed_loop_leaves_the_best_weights() -> None:
    flow, x, val = pf.real_nvp(2, depth=2, width=8, seed=0), torch.randn(400, 2), torch.randn(300, 2)
    with contextlib.closing(pf.train(flow, x, val, steps=200, batch=64, lr=0.05)) as epochs:
        last = next(epoch for epoch in epochs if epoch.val_nll is not None and epoch.step >= 50)
    assert last.best_val_nll is not None
    assert -float(flow.log_prob(val).mean().detach()) == pytest.approx(last.best_val_nll, abs=1e-4)


def test_best_weights_keep_their_batch_statistics() -> None:
    embed = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    flow = pf.Flow(couplings(1), 2, embed=embed)
    x, context, val = torch.randn(200, 2), torch.randn(200, 1), (torch.randn(100, 2), torch.randn(100, 1))
    result = pf.fit(flow, x, val, context=context, steps=300, batch=50, lr=0.1, patience=None, progress="none")
    best = result.summary["best_val_nll"]
    assert result.epochs[-1].val_nll != best  # it was not the last
    assert -float(flow.log_prob(*val).mean().detach()) == pytest.approx(best, abs=1e-5)


def test_the_best_of_a_history_is_that_of_the_file() -> None:
    from pushforward.cli.curves import CURVE_POINTS, thinned
    from pushforward.plots import history as of_pyplot
    from pushforward.plots import without_pyplot

    history = without_pyplot()(of_pyplot)

    values = [5.0 + abs(i - 333) / 100 for i in range(10 * CURVE_POINTS + 7)]
    epochs = [pf.Epoch(i, i, i, 0.5, value, value, 0.1, 0, None, min(values), 333) for i, value in enumerate(values)]
    curve = thinned(epochs)
    assert min(curve["val_nll"]) == 5.0 == curve["best_val_nll"]
    assert history(epochs).get_legend_handles_labels()[1][2] == "best 5, at step 333"
    worse = [pf.Epoch(i, i, i, 0.5, 2.0, 2.0 + i, 0.1, 0, None, 1.5, 0) for i in range(1, 4)]
    assert history(worse).get_legend_handles_labels()[1][2] == "best 1.5, before training"


@pytest.mark.parametrize(
    "table",
    [
        {"a": ["x", "y", "z", "x"] * 20, "b": ["u", "v"] * 40},
        {"when": np.datetime64("2020-01-01") + np.arange(80) % 37 * np.timedelta64(1, "D"), "a": ["x"] * 80},
        {"a": ["x"] * 80, "v": np.random.default_rng(0).normal(size=80)},
    ],
)
def test_info_of_a_table_that_was_saved_from_python(table: Any, tmp_path: Path) -> None:
    density = pf.fit_table(table, steps=5, progress="none")
    pf.save(density, tmp_path / "m.safetensors", training=density.training_summary, about={"note": "mine"})
    result = run("info", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "best validation, nats" in result.output
