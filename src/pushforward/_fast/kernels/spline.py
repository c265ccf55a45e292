"""The spline of `bijections.spline` with few operators, and its gradient by hand.

Small tensors spend their time on creating and recording operators, so this file keeps their number low: one softmax and
one small matrix product give all knots, and one gather fetches what an element needs of them.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fast_ok

if TYPE_CHECKING:
    from ...bijections.spline import RationalQuadratic

softmax_backward: Any = torch.ops.aten._softmax_backward_data
softplus_backward: Any = torch.ops.aten.softplus_backward


def apply(spline: RationalQuadratic, x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    """x (B, C, *S), params (B, P, C, *S) -> y (B, C, *S), log-derivative (B, C, *S), in the given direction."""
    rows, params = _in_rows(x, params)  # (C, B), (P, C, B or 1)
    if torch.is_grad_enabled():
        y, log_slope = cast("tuple[Tensor, Tensor]", _Spline.apply(rows, params, spline, inverse))
    else:
        y, log_slope = evaluate(spline, rows, params, inverse)[:2]
    return _like(y, x), _like(log_slope, x)


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass: elements (C, B), of which E = C B or C have own splines."""

    sizes: Tensor  # (K, 2 E), the softmax
    rows: Tensor  # (6, C, B), the rows of the table that an element uses
    raw: Tensor  # (2, C, B), raw slopes at both ends of the bin
    inside: Tensor  # (C, B), x, clamped
    width: Tensor
    height: Tensor
    d0: Tensor  # slopes at both ends
    d1: Tensor
    s: Tensor  # height / width
    e: Tensor  # d0 + d1 - 2 s
    t: Tensor  # place in the bin, 0 to 1
    t2: Tensor  # t^2
    u: Tensor  # t (1 - t)
    den: Tensor  # s + e u, equation 4
    r: Tensor  # (y - y0) / height
    q: Tensor  # d0 (1 - t)^2 + 2 s u + d1 t^2
    slope: Tensor  # dy/dx = s^2 q / den^2, equation 5


def evaluate(spline: RationalQuadratic, x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor, Saved]:
    """x (C, B), params (P, C, B or 1) -> y (C, B), log-derivative (C, B) in the given direction, and for `gradient`."""
    bins, bound, splines = spline.bins, spline.bound, params.shape[1:]
    const = _constants(spline, x.dtype, x.device)
    sizes = params[: 2 * bins].reshape(bins, 2 * math.prod(splines)).softmax(0)
    knots = torch.mm(const.to_knots, sizes).view(2 * bins + 4, *splines)  # x and y of each knot in turn; two rows of 0
    inside = x.clamp(-bound, bound)
    first = 3 if inverse else 2
    bin_of = (inside >= knots[first : first + 2 * bins - 2 : 2]).sum(0)
    index = torch.addcmul(const.rows, bin_of, const.strides)
    ends = torch.cat([knots, params[2 * bins :], knots[-1:]]).expand(-1, *x.shape).gather(0, index)
    width, height = (ends[2:4] - ends[:2]).unbind(0)
    raw = ends[4:]
    d0, d1 = (F.softplus(raw, const.beta) + const.min_slope).unbind(0)
    s = height / width
    e = torch.add(d0 + d1, s, alpha=-2)
    outside = x - inside
    part = (inside - ends[1]) / height if inverse else (inside - ends[0]) / width
    if inverse:
        b = torch.addcmul(d0, part, e, value=-1)
        four = 4 * s * part
        root = torch.addcmul(b * b, s - b, four).clamp(min=_TINY).sqrt()
        # Both forms of the root add what has one sign.
        total = b.abs() + root
        t = torch.where(b > 0, 0.5 * four / total, 0.5 * total / (s + b.abs()))
    else:
        t = part
    t2 = t * t
    u = t - t2
    den = torch.addcmul(s, e, u)
    r = part if inverse else torch.addcmul(d0 * u, s, t2) / den
    q = torch.addcmul(torch.lerp(d0, d1, t), e, u, value=-1)
    ratio = s / den
    slope = q * ratio * ratio
    saved = Saved(sizes, index, raw, inside, width, height, d0, d1, s, e, t, t2, u, den, r, q, slope)
    # Outside, the inner map is at a bound, where its slope is 1 but for rounding, and what remains of x is added.
    log_slope = torch.where(outside == 0, slope.log(), 0.0)
    if inverse:
        return torch.addcmul(ends[0], width, t) + outside, -log_slope, saved
    return torch.addcmul(ends[1], height, r) + outside, log_slope, saved


class _Spline(torch.autograd.Function):
    """`evaluate` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: Tensor, spline: RationalQuadratic, inverse: bool) -> tuple[Tensor, Tensor]:
        y, log_slope, saved = evaluate(spline, x, params, inverse)
        ctx.save_for_backward(x, params, *saved)
        ctx.spline, ctx.inverse = spline, inverse
        return y, log_slope

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, params, *saved = ctx.saved_tensors
        spline, inverse = ctx.spline, ctx.inverse
        if torch.is_grad_enabled() or not fast_ok(*grads):
            return (*_recorded(ctx, x, params, grads), None, None)
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return *gradient(spline, x, Saved(*saved), inverse, *grads), None, None
        return *gradient(spline, x, Saved(*saved), inverse, *grads), None, None


def _recorded(ctx: Any, x: Tensor, params: Tensor, grads: tuple[Tensor, ...]) -> list[Tensor | None]:
    """The gradients of x and params by autograd: for second derivatives, and for many outputs at once."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        if not create_graph:
            x, params = (t.detach().requires_grad_(n) for t, n in zip((x, params), ctx.needs_input_grad, strict=False))
        outputs = evaluate(ctx.spline, x, params, ctx.inverse)[:2]
    inputs = [t for t, needed in zip((x, params), ctx.needs_input_grad, strict=False) if needed]
    result = iter(torch.autograd.grad(outputs, inputs, grads, create_graph=create_graph))
    return [next(result) if needed else None for needed in ctx.needs_input_grad[:2]]


def gradient(
    spline: RationalQuadratic, x: Tensor, f: Saved, inverse: bool, grad_y: Tensor, grad_log_slope: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of x (C, B) and params (P, C, B or 1), by the chain rule over the formulas of `evaluate`."""
    bins = spline.bins
    const = _constants(spline, x.dtype, x.device)
    grad_log = torch.where(f.inside == x, -grad_log_slope if inverse else grad_log_slope, 0.0)  # of the forward map
    twice = grad_log + grad_log
    by_q = grad_log / f.q
    by_den = twice / f.den
    # The log-slope's derivative in x, then y's: y = y0 + height r(t).
    bend = f.e * torch.add(const.one, f.t, alpha=-2)
    grad_x = torch.addcmul(by_q * (f.d1 - f.d0), by_q + by_den, bend, value=-1) / f.width
    if inverse:
        # x solves F(x, params) = y: its derivatives are those of F, turned round.
        grad_input = (grad_y + grad_x) / f.slope
        grad_tail, grad_y, grad_x = grad_y, -grad_input, -grad_y
    else:
        grad_tail = grad_y
        grad_input = grad_x = torch.addcmul(grad_x, grad_y, f.slope)
    grad_num = grad_y * f.height / f.den  # r = num / den
    grad_den = torch.addcmul(by_den, grad_num, f.r)  # negative
    grad_den_u = grad_den * f.u
    grad_s = twice / f.s
    grad_s = (
        grad_s.addcmul_(grad_num, f.t2)
        .addcmul_(by_q, f.u, value=2)
        .sub_(grad_den)
        .add_(grad_den_u, alpha=2)
        .div_(f.width)
    )
    grad_d1 = (by_q * f.t2).sub_(grad_den_u)
    grad_d0 = by_q.addcmul(by_q, torch.add(f.t2, f.t, alpha=-2)).addcmul_(grad_num, f.u).sub_(grad_den_u)  # (1 - t)^2
    grad_height = torch.addcmul(grad_s, grad_y, f.r)
    minus_grad_width = (f.t * grad_x).addcmul_(f.s, grad_s)
    raw0, raw1 = f.raw.unbind(0)
    grad_raw0, grad_raw1 = (softplus_backward(d, raw, const.beta, 20) for d, raw in ((grad_d0, raw0), (grad_d1, raw1)))
    gathered = torch.stack(
        [minus_grad_width - grad_x, grad_y - grad_height, -minus_grad_width, grad_height, grad_raw0, grad_raw1]
    )
    table = gathered.new_zeros(3 * bins + 4, f.sizes.shape[1] // 2)
    if table.shape[1] == x.numel():
        table.scatter_(0, f.rows.flatten(1), gathered.flatten(1))
    else:  # a spline of many elements: its gradients add up
        place = torch.arange(len(x), device=x.device)[:, None] + f.rows * len(x)
        table.view(-1).index_add_(0, place.flatten(), gathered.flatten())
    grad_sizes = torch.mm(const.from_knots, table[: 2 * bins + 4].view(bins + 2, f.sizes.shape[1]))
    grad_logits = softmax_backward(grad_sizes, f.sizes, 0, x.dtype).view(2 * bins, table.shape[1])
    grad_params = torch.cat([grad_logits, table[2 * bins + 4 : -1]])
    grad_params = grad_params.view(len(grad_params), len(x), x.shape[1] if table.shape[1] == x.numel() else 1)
    return torch.where(f.inside == x, grad_input, grad_tail), grad_params


class _Constants(NamedTuple):
    to_knots: Tensor  # (K + 2, K): the sizes of all bins, as parts of 1, to all knots; its last row is 0
    from_knots: Tensor  # (K, K + 2), its transpose
    rows: Tensor  # (6, 1, 1): where x0, y0, x1, y1, d0, d1 of bin 0 lie in the table
    strides: Tensor  # (6, 1, 1): by how many rows further they lie in the next bin
    min_slope: Tensor
    one: Tensor
    beta: float  # of the softplus; it makes the slope of raw 0 exactly 1


def _build_constants(spline: RationalQuadratic, dtype: torch.dtype, device: torch.device) -> _Constants:
    bins, bound = spline.bins, spline.bound
    knot = torch.arange(bins + 1, dtype=torch.float64)[:, None]
    before = (knot > torch.arange(bins, dtype=torch.float64)).double()
    to_knots = 2 * bound * ((1 - bins * spline.min_bin) * before + spline.min_bin * knot) - bound
    to_knots = torch.cat([to_knots, to_knots.new_zeros(1, bins)]).to(device, dtype)
    return _Constants(
        to_knots,
        to_knots.t().contiguous(),
        torch.tensor([0, 1, 2, 3, 2 * bins + 3, 2 * bins + 4], device=device)[:, None, None],
        torch.tensor([2, 2, 2, 2, 1, 1], device=device)[:, None, None],
        torch.tensor(spline.min_slope, dtype=dtype, device=device),
        torch.tensor(1.0, dtype=dtype, device=device),
        math.log(2) / (1 - spline.min_slope),
    )


@functools.lru_cache(maxsize=64)
def _constants(spline: RationalQuadratic, dtype: torch.dtype, device: torch.device) -> _Constants:
    with torch.inference_mode(False):
        return _build_constants(spline, dtype, device)


_TINY = 1e-30  # a square root's argument is at least this, so that its derivative is finite


def _in_rows(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, C), params (B, P, C) -> x (C, B), params (P, C, B). Images (B, C, *S) become one row (1, B C S).

    A row for each parameter lets every operation run along memory; where a conditioner wrote its output so, this is a
    view. Parameters that were expanded over the rows are taken once: (P, C, 1).
    """
    if x.ndim == 2:
        shared = params.stride(0) == 0 and len(params) > 1 and params.numel() > 0
        return x.t().contiguous(), (params[:1] if shared else params).permute(1, 2, 0)
    return x.reshape(1, -1), params.transpose(0, 1).reshape(params.shape[1], 1, -1)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """(C, B), in the order of `_in_rows` -> the shape (B, C, *S) and dtype of x."""
    rows = rows.to(x.dtype)
    return rows.t() if x.ndim == 2 else rows.view(x.shape)
