"""Generic checks: every line of `cases.py` goes through all of them."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil

import pytest
import torch
from torch import Tensor

import pushforward as pf
from cases import BIJECTIONS, ELEMENTWISE, REARRANGEMENTS, Case

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
DTYPES = [torch.float64, torch.float32]
bijections = pytest.mark.parametrize("case", BIJECTIONS, ids=lambda c: c.name)
elementwise = pytest.mark.parametrize("h", ELEMENTWISE, ids=repr)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
with_context = pytest.mark.parametrize("give_context", [True, False], ids=["context", "no context"])


def random_parameters(module: torch.nn.Module, scale: float = 0.3) -> None:
    """Moves every parameter away from its start, where a wrong log-det could hide in a zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype), alpha=scale)


def build(case: Case, dtype: torch.dtype) -> pf.Bijection:
    torch.manual_seed(1)
    bijection = case.build().to(dtype)
    random_parameters(bijection)
    return bijection


def batch(case: Case, dtype: torch.dtype, rows: int = 5, seed: int = 2) -> Tensor:
    return torch.randn(rows, *case.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def context_for(case: Case, dtype: torch.dtype, give: bool, rows: int = 5) -> Tensor | None:
    if case.context_dim and not give:
        pytest.skip("the case needs a context")
    width = case.context_dim or 2  # where it is unused, a context must be ignored
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64).to(dtype) if give else None


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}


def jacobian_log_det(function, row: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """slogdet of the autograd Jacobian of a map at one row."""
    jacobian = torch.autograd.functional.jacobian(function, row)
    n = row.numel()
    sign, log_det = torch.linalg.slogdet(jacobian.reshape(n, n))
    assert sign != 0
    return log_det


@bijections
@dtypes
@with_context
def test_round_trip_in_both_orders(case: Case, dtype: torch.dtype, give_context: bool) -> None:
    b, x, context = build(case, dtype), batch(case, dtype), context_for(case, dtype, give_context)
    z, log_det = b(x, context)
    back, log_det_back = b.inverse(z, context)
    assert z.shape == x.shape
    assert log_det.shape == log_det_back.shape == (len(x),)
    assert z.dtype == dtype
    assert log_det.dtype == (torch.float64 if case.float64_log_det else dtype)
    torch.testing.assert_close(back, x, **tolerance(dtype))
    torch.testing.assert_close(log_det_back, -log_det, **tolerance(dtype))
    data, _ = b.inverse(x, context)
    torch.testing.assert_close(b(data, context)[0], x, **tolerance(dtype))


@bijections
@dtypes
@with_context
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_det_is_that_of_the_jacobian(case: Case, dtype: torch.dtype, give_context: bool, direction: str) -> None:
    b, x, context = build(case, dtype), batch(case, dtype, rows=3), context_for(case, dtype, give_context, rows=3)
    apply = getattr(b, direction)
    _, log_det = apply(x, context)
    for i in range(len(x)):
        row_context = None if context is None else context[i : i + 1]
        expected = jacobian_log_det(lambda v, c=row_context: apply(v[None], c)[0][0], x[i])
        torch.testing.assert_close(log_det[i].detach().to(dtype), expected, **tolerance(dtype))


@bijections
@with_context
def test_a_row_depends_on_itself_alone(case: Case, give_context: bool) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64)
    context = context_for(case, torch.float64, give_context)
    other, other_context = x.clone(), None if context is None else context.clone()
    other[1:] = 100 * torch.randn_like(other[1:])
    if other_context is not None:
        other_context[1:] = 9.0
    for apply in (b.forward, b.inverse):
        for whole, changed in zip(apply(x, context), apply(other, other_context), strict=True):
            torch.testing.assert_close(whole[0], changed[0], rtol=1e-12, atol=1e-12)


@bijections
def test_an_empty_batch_stays_empty(case: Case) -> None:
    b, x = build(case, torch.float32), batch(case, torch.float32)[:0]
    context = torch.zeros(0, case.context_dim) if case.context_dim else None
    for apply in (b.forward, b.inverse):
        y, log_det = apply(x, context)
        assert y.shape == x.shape
        assert log_det.shape == (0,)


@bijections
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_gradient_reaches_every_parameter(case: Case, direction: str) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64)
    parameters = [p for p in b.parameters() if p.numel()]
    still = {
        "Autoregressive/D=1",
        "Coupling/D=1 flipped",
        "TriangularCoupling/D=1 flipped",
        "MaskedCoupling/all kept",
        "MaskedCoupling/D=1",
    }
    if not parameters or case.name in still:
        pytest.skip("nothing moves in this case, or nothing is given")
    y, log_det = getattr(b, direction)(x, context_for(case, torch.float64, bool(case.context_dim)))
    weights = torch.arange(1.0, y.numel() + 1).view(y.shape)  # a rotation leaves the sum of squares as it is
    ((weights * y).square().sum() + log_det.square().sum() + log_det.sum()).backward()
    for name, p in b.named_parameters():
        if p.numel():
            assert p.grad is not None, name
            assert bool((p.grad != 0).any()), name


@pytest.mark.filterwarnings("ignore:.* saw no data")
@bijections
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("size", [1e-30, 1e3, 1e6])
def test_extreme_inputs_give_finite_values_and_gradients(case: Case, direction: str, size: float) -> None:
    b = build(case, torch.float32)
    signs = torch.tensor([1.0, -1.0, 1.0])[:, None]
    x = (size * signs * torch.ones(3, math.prod(case.shape))).view(3, *case.shape).requires_grad_()
    y, log_det = getattr(b, direction)(x, torch.full((3, case.context_dim), size) if case.context_dim else None)
    assert bool(torch.isfinite(y).all())
    assert bool(torch.isfinite(log_det).all())
    for gradient in torch.autograd.grad(y.sum() + log_det.sum(), [x, *b.parameters()], materialize_grads=True):
        assert bool(torch.isfinite(gradient).all())


@bijections
def test_zero_parameters_are_the_identity(case: Case) -> None:
    if not case.identity_at_zero:
        pytest.skip("its fixed numbers are not zero")
    b, x = build(case, torch.float64), batch(case, torch.float64)
    with torch.no_grad():
        for p in b.parameters():
            p.zero_()
    context = context_for(case, torch.float64, bool(case.context_dim))
    for apply in (b.forward, b.inverse):
        y, log_det = apply(x, context)
        torch.testing.assert_close(y, x, rtol=0, atol=case.rounding)
        torch.testing.assert_close(log_det, torch.zeros(len(x), dtype=torch.float64), rtol=0, atol=case.rounding)


@bijections
def test_state_dict_round_trip(case: Case) -> None:
    b, x = build(case, torch.float32), batch(case, torch.float32)
    context = context_for(case, torch.float32, bool(case.context_dim))
    torch.manual_seed(99)
    other = case.build()
    other.load_state_dict(b.state_dict())
    for mine, theirs in zip(b(x, context), other(x, context), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.slow
@bijections
def test_it_compiles_without_graph_breaks(case: Case) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64)
    context = context_for(case, torch.float64, bool(case.context_dim))
    torch._dynamo.reset()
    for apply in (b.forward, b.inverse):
        compiled = torch.compile(apply, fullgraph=True, backend="eager")
        for mine, theirs in zip(apply(x, context), compiled(x, context), strict=True):
            torch.testing.assert_close(mine, theirs, **tolerance(torch.float64))


def bases(shape: tuple[int, ...]) -> list[torch.distributions.Distribution | pf.Base]:
    return [
        torch.distributions.Uniform(-9.0, 9.0),
        pf.GaussianMixture(shape, 2, learnable=False),
        torch.distributions.StudentT(torch.tensor(3.0)),
    ]


@bijections
def test_it_trains_before_any_base(case: Case) -> None:
    """Also where the loss depends on no parameter, as for volume-preserving layers before a uniform base."""
    torch.manual_seed(0)
    x = 0.3 * torch.randn(60, *case.shape)
    context = torch.randn(60, case.context_dim) if case.context_dim else None
    for base in bases(case.shape):
        flow = pf.Flow(case.build(), case.shape, base=base)
        if not any(p.requires_grad for p in flow.parameters()):
            continue
        result = pf.fit(flow, x, context=context, steps=3, progress="none", check=False)
        assert (result.stopped, result.summary["skipped"]) == ("done", 0)


@bijections
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_every_mode_of_autograd_gives_the_same(case: Case, direction: str) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64, rows=3)
    for p in b.parameters():
        p.requires_grad_(False)
    context = context_for(case, torch.float64, bool(case.context_dim), rows=3)

    def joined(x: Tensor, context: Tensor | None) -> Tensor:
        y, log_det = getattr(b, direction)(x, context)
        return torch.cat([y.flatten(1), log_det[:, None]], 1)

    def together(x: Tensor) -> Tensor:
        return joined(x, context).sum(0)

    def one(row: Tensor, c: Tensor | None = None) -> Tensor:
        return joined(row[None], None if c is None else c[None])[0]

    jacobian = torch.autograd.functional.jacobian
    expected = jacobian(together, x)
    torch.testing.assert_close(jacobian(together, x, vectorize=True), expected)
    torch.testing.assert_close(jacobian(together, x, vectorize=True, strategy="forward-mode"), expected)
    rows = (x,) if context is None else (x, context)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        by_row = torch.func.vmap(transform(one))(*rows)
        torch.testing.assert_close(by_row.transpose(0, 1), expected)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(one)(*rows), joined(x, context))


@bijections
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_second_derivatives_are_the_same_in_every_mode(case: Case, direction: str) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64, rows=1)
    context = context_for(case, torch.float64, bool(case.context_dim), rows=1)

    def total(x: Tensor) -> Tensor:
        y, log_det = getattr(b, direction)(x, context)
        return y.sin().sum() + log_det.sum()

    hessian = torch.autograd.functional.hessian
    expected = hessian(total, x)
    torch.testing.assert_close(hessian(total, x, vectorize=True), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.func.hessian(total)(x), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@bijections
def test_it_can_be_exported_for_any_number_of_rows(case: Case) -> None:
    b, x = build(case, torch.float64), batch(case, torch.float64)
    context = context_for(case, torch.float64, bool(case.context_dim))
    rows = {0: torch.export.Dim("rows", min=2)}
    exported = torch.export.export(b, (x, context), dynamic_shapes=(rows, None if context is None else rows)).module()
    more, more_context = torch.cat([x, x]), None if context is None else torch.cat([context, context])
    for mine, theirs in zip(b(more, more_context), exported(more, more_context), strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance(torch.float64))


@pytest.mark.parametrize(("rearrangement", "shape"), REARRANGEMENTS, ids=repr)
def test_a_rearrangement_is_a_permutation_of_each_row(rearrangement: pf.Rearrangement, shape: tuple[int, ...]) -> None:
    x = torch.randn(3, *shape)
    y = rearrangement.forward(x)
    assert y.shape[0] == 3
    assert torch.equal(rearrangement.inverse(y), x)
    assert torch.equal(y.flatten(1).sort().values, x.flatten(1).sort().values)


@elementwise
@dtypes
@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)], ids=["vector", "image"])
def test_elementwise_round_trip_and_derivative(h: pf.Elementwise, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, *shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    params = torch.randn(6, h.num_params, *shape, generator=generator, dtype=torch.float64).to(dtype)
    for apply, back in ((h.forward, h.inverse), (h.inverse, h.forward)):
        y, log_derivative = apply(x, params)
        assert y.shape == log_derivative.shape == x.shape
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(log_derivative.exp(), slope.abs(), **tolerance(dtype))
        torch.testing.assert_close(back(y, params)[0], x, **tolerance(dtype))


@elementwise
def test_elementwise_zero_parameters_are_the_identity(h: pf.Elementwise) -> None:
    x = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None]
    y, log_derivative = h.forward(x, torch.zeros(33, h.num_params, 1, dtype=torch.float64))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x))


@elementwise
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_elementwise_extremes_are_finite(h: pf.Elementwise, size: float) -> None:
    x = torch.tensor([[size], [-size], [0.0]], requires_grad=True)
    for raw in (-size, 0.0, size):
        params = torch.full((3, h.num_params, 1), raw, requires_grad=True)
        for apply in (h.forward, h.inverse):
            y, log_derivative = apply(x, params)
            values = [y, log_derivative, *torch.autograd.grad(y.sum() + log_derivative.sum(), [x, params])]
            assert all(bool(torch.isfinite(v).all()) for v in values)


def concrete_classes(base: type) -> set[str]:
    found = set()
    for info in pkgutil.walk_packages(pf.__path__, "pushforward."):
        if info.name.rsplit(".", 1)[-1] in {"__main__", "cli"} or "plots" in info.name:
            continue  # no mathematics there, and optional packages
        for _, value in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            if issubclass(value, base) and not inspect.isabstract(value) and value.__module__.startswith("pushforward"):
                found.add(value.__name__)
    return found


def test_every_class_has_a_case() -> None:
    missing = concrete_classes(pf.Bijection) - {c.kind for c in BIJECTIONS}
    missing |= concrete_classes(pf.Elementwise) - {type(h).__name__ for h in ELEMENTWISE}
    missing |= concrete_classes(pf.Rearrangement) - {type(r).__name__ for r, _ in REARRANGEMENTS}
    assert not missing, f"add a line to tests/cases.py for: {sorted(missing)}"


def test_case_names_are_those_of_their_classes() -> None:
    for case in BIJECTIONS:
        assert type(case.build()).__name__ == case.kind, case.name
