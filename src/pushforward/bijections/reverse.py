"""Gradients of bijections one after the other in memory that does not grow with their number.

The inputs of the layers are not stored but recomputed from the output by the inverses (Gomez et al. 2017, arXiv
1707.04585).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..chunks import mixes_rows

if TYPE_CHECKING:
    from .base import Bijection

_MOST_DRIFT = 1e-2  # of recomputed rows, in units of the range of their channel


def reversible_forward(layers: Sequence[Bijection], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """The layers one after the other: x (B, C, *S), context (B, K) -> z (B, C, *S), log_det (B,).

    The backward pass takes about twice the time of the usual one, and gives first-order gradients only.

    Raises:
        ValueError: a layer mixes rows in training, as `BatchNorm` does; as the layers.
        RuntimeError: in the backward pass, x is not recovered: an inverse is inexact, or a layer draws random
            numbers.
    """
    for layer in layers:
        if mixes_rows(layer):
            raise ValueError(
                f"{type(layer).__name__} mixes rows in training, which are then not recovered: train without reversible"
            )
    parameters = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    return _ReversibleChain.apply(layers, x, context, *parameters)


class _ReversibleChain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: Sequence[Bijection], x: Tensor, context: Tensor | None, *_: Tensor) -> Any:
        z, total = x, x.new_zeros(x.shape[0])
        for layer in layers:
            z, log_det = layer(z, context)
            total = total + log_det
        ctx.layers = layers
        ctx.save_for_backward(x, z, context)
        return z.clone() if z is x else z, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_log_det: Tensor) -> Any:  # type: ignore[override]
        x, z, context = ctx.saved_tensors
        is_finite, grad_context = bool(z.isfinite().all()), None
        grad_parameters: list[Sequence[Tensor | None]] = []
        for layer in reversed(ctx.layers):
            z, grad, grad_given, grad_own = _backward_layer(layer, z, context, grad, grad_log_det)
            grad_parameters.append(grad_own)
            if grad_given is not None:
                grad_context = grad_given if grad_context is None else grad_context + grad_given
        drift = _drift(z, x) if len(x) else 0.0
        if is_finite and not drift <= _MOST_DRIFT:
            raise RuntimeError(
                f"the inverse of the flow does not recover its rows: they are off by {drift:.2g} of their range. Train "
                "without reversible: a layer draws random numbers, or its inverse is not exact"
            )
        return None, grad.to(x.dtype), grad_context, *(g for own in reversed(grad_parameters) for g in own)


def _backward_layer(
    layer: Bijection, z: Tensor, context: Tensor | None, grad: Tensor, grad_log_det: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Sequence[Tensor | None]]:
    """Back through one layer: its output z and the gradients of that and of its log-determinant -> those of its input.

    Returns:
        the input, its gradient, that of the context (None for none), those of the layer's parameters.
    """
    with torch.no_grad():
        x, _ = layer.inverse(z, context)
    x = x.detach().requires_grad_()
    given = None if context is None else context.detach().requires_grad_()
    parameters = [p for p in layer.parameters() if p.requires_grad]
    with torch.enable_grad():
        again, log_det = layer(x, given)
        pairs = [(again, grad.to(again.dtype)), (log_det, grad_log_det.to(log_det.dtype))]
        outputs, grads = zip(*[pair for pair in pairs if pair[0].requires_grad], strict=True)
        inputs = [x, *([] if given is None else [given]), *parameters]
        grad_x, *others = torch.autograd.grad(outputs, inputs, grads, allow_unused=True)
    grad_context = None if given is None else others.pop(0)
    return x.detach(), torch.zeros_like(x) if grad_x is None else grad_x, grad_context, others


def _drift(recovered: Tensor, x: Tensor) -> float:
    """How far recomputed rows are from x (B, C, *S), at most, in units of the range of their channel."""
    off, rows = ((t.movedim(1, 0).flatten(1)) for t in (recovered - x, x))
    width = rows.amax(1) - rows.amin(1)
    return float((off.abs().amax(1) / torch.where(width > 0, width, 1 + rows.abs().amax(1))).max())
