"""The monotone rational-quadratic spline (Durkan et al. 2019, Neural Spline Flows, arXiv 1906.04032).

Small tensors spend their time on creating and recording operators, so this file keeps their number low: one softmax and
one small matrix product give all knots, one gather fetches what an element needs of them, and the gradient is written
out by hand. The tests hold it equal to the textbook's form and to autograd.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .elementwise import Elementwise

softmax_backward: Any = torch.ops.aten._softmax_backward_data
softplus_backward: Any = torch.ops.aten.softplus_backward


@dataclass(frozen=True)
class RationalQuadratic(Elementwise):
    """A monotone spline of rational quadratics on [-bound, bound], and the identity outside.

    Each bin maps [x_k, x_k+1] onto [y_k, y_k+1] by a ratio of two quadratics with given slopes at its ends, so that the
    whole is monotone with a continuous derivative and its inverse is the root of a quadratic. The slope is 1 at both
    bounds, where the linear tails begin. An element's 3 * bins - 1 parameters are, in this order, the logits of width
    and height of each bin in turn (w_1, h_1, w_2, h_2, ...), then the raw slopes at the inner knots.

    Args:
        bins: K, at least 2.
        bound: half the width of the interval, in the units of x; a positive number.
        min_bin: the least width and height of a bin, as a part of the interval; below 1 / bins.
        min_slope: the least slope at an inner knot; between 0 and 1.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> spline = RationalQuadratic(bins=4)
        >>> y, log_det = spline.forward(torch.tensor([[0.5], [9.0]]), torch.ones(2, 11, 1))
        >>> spline.inverse(y, torch.ones(2, 11, 1))[0].flatten()
        tensor([0.5000, 9.0000])
    """

    bins: int = 8
    bound: float = 4.0
    min_bin: float = 1e-3
    min_slope: float = 1e-3

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("bins", isinstance(self.bins, int) and not isinstance(self.bins, bool) and self.bins >= 2, "at least 2"),
            ("bound", 0 < self.bound < math.inf, "a positive number"),
        ):
            if not good:
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
        if not 0 < self.min_bin < 1 / self.bins:
            raise ValueError(f"min_bin must be between 0 and 1 / bins = {1 / self.bins:g}, got {self.min_bin!r}")
        if not 0 < self.min_slope < 1:
            raise ValueError(f"min_slope must be between 0 and 1, got {self.min_slope!r}")

    @property
    def num_params(self) -> int:  # type: ignore[override]
        """P = 3 * bins - 1."""
        return 3 * self.bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S), params (B, P, C, *S) -> y (B, C, *S), log|dy/dx| (B, C, *S)."""
        return self._apply(x, params, False)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, *S), params (B, P, C, *S) -> x (B, C, *S), log|dx/dy| (B, C, *S)."""
        return self._apply(y, params, True)

    def _apply(self, x: Tensor, params: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        if torch.is_autocast_enabled(x.device.type):
            # In bfloat16 the knots would coincide.
            with torch.autocast(x.device.type, enabled=False):
                return self._apply(x, params, inverse)
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows, params = _in_rows(x.to(dtype), params.to(dtype))  # (C, B), (P, C, B or 1)
        if torch.compiler.is_compiling() or _in_functorch() or not torch.is_grad_enabled():
            y, log_det = evaluate(self, rows, params, inverse)[:2]
        else:
            y, log_det = cast("tuple[Tensor, Tensor]", _Spline.apply(rows, params, self, inverse))
        return _like(y, x), _like(log_det, x)


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
    found = torch.cat([knots, params[2 * bins :], knots[-1:]]).expand(-1, *x.shape).gather(0, index)
    width, height = (found[2:4] - found[:2]).unbind(0)
    raw = found[4:]
    d0, d1 = (F.softplus(raw, const.beta) + const.min_slope).unbind(0)
    s = height / width
    e = torch.add(d0 + d1, s, alpha=-2)
    outside = x - inside
    if inverse:
        part = (inside - found[1]) / height
        b = torch.addcmul(d0, part, e, value=-1)
        four = 4 * s * part
        root = torch.addcmul(b * b, s - b, four).clamp(min=_TINY).sqrt()
        # Both forms of the root add what has one sign.
        total = b.abs() + root
        t = torch.where(b > 0, 0.5 * four / total, 0.5 * total / (s + b.abs()))
    else:
        t = (inside - found[0]) / width
    t2 = t * t
    u = t - t2
    den = torch.addcmul(s, e, u)
    r = torch.addcmul(d0 * u, s, t2) / den
    q = torch.addcmul(torch.lerp(d0, d1, t), e, u, value=-1)
    ratio = s / den
    slope = q * ratio * ratio
    saved = Saved(sizes, index, raw, inside, width, height, d0, d1, s, e, t, t2, u, den, r, q, slope)
    # Outside, the inner map is at a bound and what remains of x is added: no branch, and no NaN behind one.
    if inverse:
        return torch.addcmul(found[0], width, t) + outside, -slope.log(), saved
    return torch.addcmul(found[1], height, r) + outside, slope.log(), saved


class _Spline(torch.autograd.Function):
    """`evaluate` with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: Tensor, spline: RationalQuadratic, inverse: bool) -> tuple[Tensor, Tensor]:
        y, log_det, saved = evaluate(spline, x, params, inverse)
        ctx.save_for_backward(x, params, *saved)
        ctx.spline, ctx.inverse = spline, inverse
        return y, log_det

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, params, *saved = ctx.saved_tensors
        spline, inverse = ctx.spline, ctx.inverse
        of_y, of_log_det = grads
        if torch.is_grad_enabled():  # a second derivative will be asked for: autograd records the plain maths
            needed = [t for t, need in zip((x, params), ctx.needs_input_grad, strict=False) if need]
            outputs = evaluate(spline, x, params, inverse)[:2]
            found = iter(torch.autograd.grad(outputs, needed, (of_y, of_log_det), create_graph=True))
            return (*(next(found) if need else None for need in ctx.needs_input_grad[:2]), None, None)
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return *gradient(spline, x, Saved(*saved), inverse, of_y, of_log_det), None, None
        return *gradient(spline, x, Saved(*saved), inverse, of_y, of_log_det), None, None


def gradient(
    spline: RationalQuadratic, x: Tensor, f: Saved, inverse: bool, of_y: Tensor, of_log_det: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of x (C, B) and params (P, C, B or 1), by the chain rule over the formulas of `evaluate`."""
    bins = spline.bins
    const = _constants(spline, x.dtype, x.device)
    of_log = -of_log_det if inverse else of_log_det  # of the log-slope of the forward map
    twice = of_log + of_log
    by_q = of_log / f.q
    by_den = twice / f.den
    # The log-slope's derivative in x, then y's: y = y0 + height r(t).
    bend = f.e * torch.add(const.one, f.t, alpha=-2)
    of_x = torch.addcmul(by_q * (f.d1 - f.d0), by_q + by_den, bend, value=-1) / f.width
    if inverse:
        # x solves F(x, params) = y: its derivatives are those of F, turned round.
        of_input = (of_y + of_x) / f.slope
        of_tail, of_y, of_x = of_y, -of_input, -of_y
    else:
        of_tail = of_y
        of_input = of_x = torch.addcmul(of_x, of_y, f.slope)
    of_num = of_y * f.height / f.den  # r = num / den
    of_den = torch.addcmul(by_den, of_num, f.r)  # negative
    of_den_u = of_den * f.u
    of_s = twice / f.s
    of_s = of_s.addcmul_(of_num, f.t2).addcmul_(by_q, f.u, value=2).sub_(of_den).add_(of_den_u, alpha=2).div_(f.width)
    of_d1 = (by_q * f.t2).sub_(of_den_u)
    of_d0 = by_q.addcmul(by_q, torch.add(f.t2, f.t, alpha=-2)).addcmul_(of_num, f.u).sub_(of_den_u)  # (1 - t)^2
    of_height = torch.addcmul(of_s, of_y, f.r)
    less_width = (f.t * of_x).addcmul_(f.s, of_s)
    raw0, raw1 = f.raw.unbind(0)
    of_raw0, of_raw1 = (softplus_backward(d, raw, const.beta, 20) for d, raw in ((of_d0, raw0), (of_d1, raw1)))
    found = torch.stack([less_width - of_x, of_y - of_height, -less_width, of_height, of_raw0, of_raw1])
    table = found.new_zeros(3 * bins + 4, f.sizes.shape[1] // 2)
    if table.shape[1] == x.numel():
        table.scatter_(0, f.rows.flatten(1), found.flatten(1))
    else:  # a spline of many elements: its gradients add up
        place = torch.arange(len(x), device=x.device)[:, None] + f.rows * len(x)
        table.view(-1).index_add_(0, place.flatten(), found.flatten())
    of_sizes = torch.mm(const.from_knots, table[: 2 * bins + 4].view(bins + 2, f.sizes.shape[1]))
    of_logits = softmax_backward(of_sizes, f.sizes, 0, x.dtype).view(2 * bins, table.shape[1])
    of_params = torch.cat([of_logits, table[2 * bins + 4 : -1]])
    of_params = of_params.view(len(of_params), len(x), x.shape[1] if table.shape[1] == x.numel() else 1)
    return torch.where(f.inside == x, of_input, of_tail), of_params


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
def _kept_constants(spline: RationalQuadratic, dtype: torch.dtype, device: torch.device) -> _Constants:
    with torch.inference_mode(False):
        return _build_constants(spline, dtype, device)


def _constants(spline: RationalQuadratic, dtype: torch.dtype, device: torch.device) -> _Constants:
    build = _build_constants if torch.compiler.is_compiling() else _kept_constants
    return build(spline, dtype, device)


_TINY = 1e-30  # a square root's argument is at least this, so that its derivative is finite


def _in_functorch() -> bool:
    return torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]


def _in_rows(x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, C), params (B, P, C) -> x (C, B), params (P, C, B). Images (B, C, *S) become one row (1, B C S).

    A row for each parameter lets every operation run along memory; from a conditioner that wrote its output so
    (`MLP(..., transposed=True)`) this is a view. Parameters that were expanded over the rows are taken once: (P, C, 1).
    """
    if x.ndim == 2:
        shared = params.stride(0) == 0 and len(params) > 1 and params.numel() > 0
        shared = shared and not torch.compiler.is_compiling() and not _in_functorch()
        return x.t().contiguous(), (params[:1] if shared else params).permute(1, 2, 0)
    return x.reshape(1, -1), params.transpose(0, 1).reshape(params.shape[1], 1, -1)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """(C, B), in the order of `_in_rows` -> the shape (B, C, *S) and dtype of x."""
    rows = rows.to(x.dtype)
    return rows.t() if x.ndim == 2 else rows.view(x.shape)
