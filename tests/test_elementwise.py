"""The maps with more than a scale and a shift: splines against the textbook's form, and the analytic maps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pushforward as pf

SPLINES = [pf.RationalQuadratic(), pf.RationalQuadratic(2, 1.5, 0.05, 0.2), pf.RationalQuadratic(16, 3.0)]
splines = pytest.mark.parametrize("spline", SPLINES, ids=repr)


def textbook(spline: pf.RationalQuadratic, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """Durkan et al. 2019, equations 4 to 8, line by line: x (N,), params (N, P) -> y (N,), log-derivative (N,)."""
    bins, bound = spline.bins, spline.bound
    sizes = params[:, : 2 * bins].unflatten(1, (bins, 2))
    sizes = 2 * bound * (F.softmax(sizes, 1) * (1 - bins * spline.min_bin) + spline.min_bin)
    knots = F.pad(sizes.cumsum(1), (0, 0, 1, 0)) - bound
    raw = params[:, 2 * bins :]
    slopes = F.softplus(raw, math.log(2) / (1 - spline.min_slope)) + spline.min_slope
    slopes = F.pad(slopes, (1, 1), value=1.0)
    y, log_det = x.clone(), torch.zeros_like(x)
    for n in range(len(x)):
        if abs(x[n]) < bound:
            k = int((x[n] >= knots[n, 1:-1, 0]).sum())
            (x0, y0), (x1, y1), d0, d1 = knots[n, k], knots[n, k + 1], slopes[n, k], slopes[n, k + 1]
            s, xi = (y1 - y0) / (x1 - x0), (x[n] - x0) / (x1 - x0)
            den = s + (d1 + d0 - 2 * s) * xi * (1 - xi)
            y[n] = y0 + (y1 - y0) * (s * xi**2 + d0 * xi * (1 - xi)) / den
            slope = s**2 * (d1 * xi**2 + 2 * s * xi * (1 - xi) + d0 * (1 - xi) ** 2) / den**2
            log_det[n] = slope.log()
    return y, log_det


def inputs(spline: pf.Elementwise, rows: int = 60, scale: float = 1.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    params = scale * torch.randn(rows, spline.num_params, 1, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), params.requires_grad_()


@splines
def test_a_spline_is_that_of_the_paper_with_its_gradients(spline: pf.RationalQuadratic) -> None:
    x, params = inputs(spline)
    ours = spline.forward(x, params)
    theirs = [t[:, None] for t in textbook(spline, x[:, 0], params[:, :, 0])]
    weights = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    mine, other = (torch.autograd.grad((y * weights[0] + d * weights[1]).sum(), [x, params]) for y, d in (ours, theirs))
    torch.testing.assert_close(mine, other)


@splines
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_of_a_spline_are_right_in_both_directions(spline: pf.RationalQuadratic, direction: str) -> None:
    x, params = inputs(spline, rows=6)
    apply = getattr(spline, direction)
    assert torch.autograd.gradcheck(apply, (x, params), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (x, params), fast_mode=True)


def test_a_spline_under_function_transforms_is_the_same() -> None:
    spline = pf.RationalQuadratic()
    x, params = (t.detach() for t in inputs(spline, rows=4))

    def total(x: Tensor) -> Tensor:
        y, log_det = spline.forward(x, params)
        return (y + log_det).sum()

    (expected,) = torch.autograd.grad(total(leaf := x.clone().requires_grad_()), leaf)
    torch.testing.assert_close(torch.func.grad(total)(x), expected)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 12),
    st.floats(0.5, 8.0),
    st.floats(0.0, 4.0),
    st.integers(0, 10_000),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_spline_is_monotone_and_goes_back(
    bins: int, bound: float, size: float, seed: int, dtype: torch.dtype
) -> None:
    spline = pf.RationalQuadratic(bins, bound)
    generator = torch.Generator().manual_seed(seed)
    params = size * torch.randn(1, spline.num_params, 1, generator=generator, dtype=torch.float64).to(dtype)
    x = torch.linspace(-1.2 * bound, 1.2 * bound, 401, dtype=dtype)[:, None]
    y, log_det = spline.forward(x, params.expand(401, -1, -1))
    assert bool((y.diff(dim=0) >= -1e-6 * bound).all())
    assert bool(torch.isfinite(log_det).all())
    back, log_det_back = spline.inverse(y, params.expand(401, -1, -1))
    # The inverse magnifies the rounding of y by its slope.
    allowed = 32 * torch.finfo(dtype).eps * bound * (1 + (-log_det).exp().max())
    assert bool(((back - x).abs() <= allowed).all())
    if dtype == torch.float64:
        torch.testing.assert_close(log_det_back, -log_det, rtol=1e-6, atol=1e-6)


@splines
def test_a_spline_joins_its_tails_smoothly(spline: pf.RationalQuadratic) -> None:
    _, params = inputs(spline, rows=1, scale=2.0)
    bound = spline.bound
    x = torch.tensor([-bound - 1, -bound, -bound + 1e-9, bound - 1e-9, bound, bound + 1], dtype=torch.float64)[:, None]
    for apply in (spline.forward, spline.inverse):
        y, log_det = apply(x, params.expand(len(x), -1, -1))
        torch.testing.assert_close(y, x, rtol=0, atol=1e-8)
        torch.testing.assert_close(log_det, torch.zeros_like(log_det), rtol=0, atol=1e-5)


def test_the_layout_of_the_parameters_does_not_matter() -> None:
    spline = pf.RationalQuadratic(5)
    params = torch.randn(7, spline.num_params, 3)
    x = torch.randn(7, 3)
    across = params.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for a, b in zip(spline.forward(x, params), spline.forward(x, across), strict=True):
        torch.testing.assert_close(a, b)
    image, of_image = x[:, :, None, None], params[:, :, :, None, None]
    torch.testing.assert_close(spline.forward(image, of_image)[0][:, :, 0, 0], spline.forward(x, params)[0])


def test_autocast_leaves_a_spline_alone() -> None:
    spline = pf.RationalQuadratic(16)
    x, params = torch.randn(50, 2), 2 * torch.randn(50, spline.num_params, 2)
    expected = spline.forward(x, params)
    with torch.autocast("cpu", torch.bfloat16):
        for mine, other in zip(spline.forward(x, params), expected, strict=True):
            assert torch.equal(mine, other)
        half, log_det = spline.forward(x.bfloat16(), params.bfloat16())
    assert half.dtype == log_det.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected[0], rtol=0.05, atol=0.1)


@pytest.mark.parametrize("h", [pf.CubicRational(), pf.SinhArcsinh()], ids=repr)
def test_analytic_maps_go_back_with_their_gradients(h: pf.Elementwise) -> None:
    x, params = inputs(h, rows=200, scale=2.5)
    for apply, back in ((h.forward, h.inverse), (h.inverse, h.forward)):
        y, log_det = apply(x, params)
        again, log_det_back = back(y, params)
        torch.testing.assert_close(again, x, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(log_det_back, -log_det, rtol=1e-7, atol=1e-7)
        few = (x[:5].detach().requires_grad_(), params[:5].detach().requires_grad_())
        assert torch.autograd.gradcheck(apply, few, fast_mode=True)
        assert torch.autograd.gradgradcheck(apply, few, fast_mode=True)


@pytest.mark.parametrize("h", [pf.CubicRational(), pf.SinhArcsinh()], ids=repr)
def test_analytic_maps_are_monotone_and_bounded_far_away(h: pf.Elementwise) -> None:
    generator = torch.Generator().manual_seed(5)
    params = 4 * torch.randn(1, h.num_params, 1, generator=generator, dtype=torch.float64)
    x = torch.linspace(-2000, 2000, 40_001, dtype=torch.float64)[:, None]
    y, log_det = h.forward(x, params.expand(len(x), -1, -1))
    assert bool((y.diff(dim=0) > 0).all())
    assert float((y - x).abs().max()) < 100
    torch.testing.assert_close(log_det[[0, -1]], torch.zeros(2, 1, dtype=torch.float64), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pf.RationalQuadratic(bins=1), "bins must be at least 2, got 1"),
        (lambda: pf.RationalQuadratic(bins=2.5), "bins must be at least 2, got 2.5"),  # type: ignore[arg-type]
        (lambda: pf.RationalQuadratic(bound=0.0), "bound must be a positive number"),
        (lambda: pf.RationalQuadratic(bins=10, min_bin=0.1), "min_bin must be between 0 and 1 / bins = 0.1"),
        (lambda: pf.RationalQuadratic(min_slope=1.0), "min_slope must be between 0 and 1, got 1.0"),
        (lambda: pf.CubicRational(min_slope=0.0), "min_slope must be between 0 and 1"),
        (lambda: pf.CubicRational(clamp=-1.0), "clamp must be a positive number"),
        (lambda: pf.SinhArcsinh(clamp=3.0), "clamp must be above 0 and at most 2"),
        (lambda: pf.Rotation(0), "channels must be at least 1"),
        (lambda: pf.Rotation(3, angle=1.0), "an angle turns 2 channels, got channels = 3"),
        (lambda: pf.TriangularCoupling(pf.MLP(1, 2), pf.Affine(), 0), "channels must be at least 1"),
        (
            lambda: pf.TriangularCoupling(pf.MLP(1, 3), pf.Affine(), 2)(torch.zeros(1, 2)),
            "must return 2 channels, got 3",
        ),
    ],
)
def test_wrong_settings_are_told(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_a_rotation_keeps_lengths(channels: int) -> None:
    layer = pf.Rotation(channels).double()
    torch.nn.init.normal_(layer.raw, std=3.0)
    matrix = layer.matrix()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(channels, dtype=torch.float64))
    assert float(torch.linalg.det(matrix).detach()) == pytest.approx(1.0)


def test_a_rotation_turns_by_its_angle() -> None:
    z, _ = pf.Rotation(2, angle=math.pi / 6)(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(z, torch.tensor([[math.cos(math.pi / 6), 0.5]]))


def test_a_triangular_coupling_is_its_two_halves() -> None:
    spline = pf.RationalQuadratic(4)
    layer = pf.TriangularCoupling(pf.MLP(2, 3 * spline.num_params), spline, 5)
    torch.nn.init.normal_(layer.own)  # type: ignore[arg-type]
    x = torch.randn(6, 5)
    z, log_det = layer(x)
    first, log_det_first = spline.forward(x[:, :2], layer.own.expand(6, -1, -1))  # type: ignore[union-attr]
    coupling = pf.Coupling(layer.net, spline)
    second, log_det_second = coupling(x)
    torch.testing.assert_close(z, torch.cat([first, second[:, 2:]], 1))
    torch.testing.assert_close(log_det, log_det_first.sum(1) + log_det_second)


@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_that_all_rows_share_are_as_those_of_each_row(channels: int) -> None:
    spline = pf.RationalQuadratic(bins=5)
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(50, channels, dtype=torch.float64, generator=generator)
    found = []
    for copied in (False, True):
        leaves = x.clone().requires_grad_(), torch.full((1, 14, channels), 0.3, dtype=torch.float64)
        leaves[1].add_(torch.linspace(-1, 1, 14)[:, None]).requires_grad_()
        params = leaves[1].expand(50, -1, -1)
        y, log_det = spline.forward(leaves[0], params.contiguous() if copied else params)
        (y.sin().sum() + (log_det * y).sum()).backward()
        back, _ = spline.inverse(y.detach(), params.detach())
        torch.testing.assert_close(back, x)
        found.append((y, log_det, *(t.grad for t in leaves)))
    for shared, own in zip(*found, strict=True):
        torch.testing.assert_close(shared, own, rtol=1e-10, atol=1e-10)
