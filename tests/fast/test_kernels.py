"""Fast forms of single maps, networks and passes over many rows: they are equal to the plain ones."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import pushforward as pf
from flows import Recorder, stirred
from pushforward import chunks
from pushforward._fast import kernels

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
SPLINES = [pf.RationalQuadratic(), pf.RationalQuadratic(2, 1.5, 0.05, 0.2), pf.RationalQuadratic(16, 3.0)]
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A context within which plain forms run."""

    @contextlib.contextmanager
    def within() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for module in ("spline", "mlp", "vectors"):
                patch.setattr(f"pushforward._fast.kernels.{module}.fast_ok", lambda *gradients: False)
            patch.setattr(chunks, "fast", None)
            yield

    return within


def test_fast_forms_step_back_for_whatever_they_do_not_serve() -> None:
    seen: list[bool] = []

    def note(x: Tensor) -> Tensor:
        seen.append(kernels.fast_ok(x))
        return x * 2

    x = torch.randn(3)
    note(x)
    assert seen == [True]
    torch.func.vmap(note)(x)
    torch.func.jvp(note, (x,), (x,))
    torch.func.grad(lambda x: note(x).sum())(x)
    with torch.autograd.forward_ad.dual_level():
        note(x)
    y = x.clone().requires_grad_()
    z = y * 1
    z.register_hook(note)
    torch.autograd.grad(z, y, torch.eye(3), is_grads_batched=True)
    assert seen == [True, *[False] * 5]
    assert torch.compile(lambda x: x + float(kernels.fast_ok()), backend="eager", fullgraph=True)(x).equal(x)


@pytest.mark.parametrize("spline", SPLINES, ids=repr)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("kind", ["vector", "image", "shared"])
def test_a_spline_with_its_gradients(plainly, spline: pf.RationalQuadratic, direction: str, kind: str) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(3)
    shape = (3, 2, 2) if kind == "image" else (3,)
    x = 3 * torch.randn(60, *shape, generator=generator, dtype=torch.float64)
    params = torch.randn(1 if kind == "shared" else 60, spline.num_params, *shape, generator=generator).double()
    weights = torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)

    def results() -> list[Tensor]:
        leaves = x.clone().requires_grad_(), params.clone().requires_grad_()
        y, log_slope = getattr(spline, direction)(leaves[0], leaves[1].expand(60, -1, *shape))
        gradients = torch.autograd.grad((y * weights[0] + log_slope * weights[1]).sum(), leaves)
        with torch.no_grad():
            again = getattr(spline, direction)(leaves[0], leaves[1].expand(60, -1, *shape))
        return [y, log_slope, *gradients, *again]

    fast = results()
    with plainly():
        plain = results()
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("features_out", [3, 40])
@pytest.mark.parametrize("options", [{}, {"residual": True, "hidden_layers": 3}, {"activation": "silu"}], ids=repr)
def test_a_network(plainly, features_out: int, options: dict) -> None:  # type: ignore[no-untyped-def]
    net = pf.MLP(2, features_out, width=70, context_dim=1, **options).double()
    h, context = torch.randn(9, 2, dtype=torch.float64), torch.randn(9, 1, dtype=torch.float64)
    fast = net(h, context)
    with plainly():
        torch.testing.assert_close(net(h, context), fast, **CLOSE)


@pytest.mark.parametrize(
    "build", [pf.real_nvp, pf.spline_flow, pf.triangular_spline_flow, pf.autoregressive_spline_flow]
)
@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("context_dim", [0, 2])
def test_whole_flows_in_chunks(plainly, build, features: int, context_dim: int) -> None:  # type: ignore[no-untyped-def]
    flow = stirred(build(features, depth=3, width=16, context_dim=context_dim, seed=0), 0.1).double()
    x = torch.randn(5000, features, dtype=torch.float64)
    context = torch.randn(5000, context_dim, dtype=torch.float64) if context_dim else None

    def results() -> list[Tensor]:
        with torch.no_grad():
            z, log_det = flow.f(x, context)
            draws = flow.sample(2500, None if context is None else context[:2], generator=1)
            return [z, log_det, flow.log_prob(x, context), flow.g(x, context), draws]

    fast = results()
    with plainly():
        plain = results()
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_chunks_are_shared_out_to_threads() -> None:
    recorder, before = Recorder(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pf.Flow(recorder, 2).sample(50_000)
        assert threading.get_ident() not in {thread for _, thread in recorder.calls}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bf16_tells_its_error() -> None:
    flow = stirred(pf.real_nvp(4, depth=4, width=64, seed=0), 0.1)
    x = torch.randn(6000, 4)
    with torch.no_grad():
        exact = flow.log_prob(x)
        assert flow.rounding is None
        with pytest.warns(UserWarning, match=r"on 1024 of these rows log p differs .* nats on average"):
            rounded = flow.log_prob(x, precision="bf16")
        difference = (rounded - exact).abs()
        assert 0 < float(difference.mean()) < 0.1
        assert flow.rounding is not None
        assert flow.rounding.mean == pytest.approx(float(difference.mean()), rel=0.3)
        assert flow.rounding.largest <= float(difference.max()) * 1.01
        flow.log_prob(x[:10], precision="bf16")  # warns no more, but keeps what it was this time
        assert flow.rounding.rows == 10


def test_bf16_samples_follow_the_rounded_density() -> None:
    flow = stirred(pf.real_nvp(4, depth=4, width=64, seed=0), 0.1)
    exact = flow.sample(6000, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="nats on average"):
        rounded = flow.sample(6000, generator=torch.Generator().manual_seed(1), precision="bf16")
    assert 0 < float((rounded - exact).abs().mean()) < 0.1
    assert flow.rounding is not None
    assert 0 < flow.rounding.mean < 0.1


def test_precision_refuses_what_it_cannot_do() -> None:
    flow = pf.real_nvp(2, depth=2, width=16)
    with pytest.raises(ValueError, match="None or 'bf16', got 'half'"):
        flow.log_prob(torch.zeros(3, 2), precision="half")
    with pytest.raises(ValueError, match="without gradients"):
        flow.log_prob(torch.zeros(3, 2), precision="bf16")
    assert flow.sample(0, precision="bf16").shape == (0, 2)
