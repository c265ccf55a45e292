"""The training step of a plain Real NVP with its gradient written out by hand.

Small networks spend most of a step on creating and recording operators, not on arithmetic. Here nothing is recorded:
halves stay views from layer to layer, and each gradient is written straight into its place in the flat buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ..bases import StandardNormal
from ..bijections import ActNorm, Bijection, Chain, Coupling, Standardize
from ..elementwise import Affine
from ..flow import Flow
from ..nets import MLP

Loss = Callable[[Tensor, "Tensor | None", "Tensor | None"], Tensor]
threshold_backward: Any = torch.ops.aten.threshold_backward
tanh_backward: Any = torch.ops.aten.tanh_backward


def closed_form(flow: Flow) -> Loss | None:
    """A function that stands for forward and backward: (x (B, D), context, weights (B,)) -> the mean NLL, a scalar.

    It overwrites the `grad` of every parameter, which must exist (as in `FlatWeights`).

    Returns:
        None unless the flow is [Standardize], affine `Coupling`s with ReLU `MLP`s, [ActNorm] over a `StandardNormal`,
        all trainable and without a trainable embedding: autograd serves all others.
    """
    layers = list(cast("list[Bijection]", flow.bijection.bijections)) if type(flow.bijection) is Chain else []
    start = cast(Standardize, layers.pop(0)) if layers and type(layers[0]) is Standardize else None
    end = cast(ActNorm, layers.pop()) if layers and type(layers[-1]) is ActNorm else None
    parts = [_Part(layer) for layer in layers if _is_plain(layer)]
    embedded = flow.embed is not None and any(True for _ in flow.embed.parameters())
    if len(parts) != len(layers) or not parts or type(flow.base) is not StandardNormal or embedded:
        return None
    if any(not p.requires_grad or p.grad is None for p in flow.parameters()):
        return None
    features = flow.shape[0]
    sizes = [features // 2, features - features // 2]
    constant = 0.5 * math.log(2 * math.pi) * features
    if start is not None:
        constant += float(start.std.log().sum())

    @torch.no_grad()
    def loss(x: Tensor, context: Tensor | None, weights: Tensor | None) -> Tensor:
        context = flow._embedded(context)
        z = x if start is None else (x - start.mean) / start.std
        halves = list(z.split(sizes, 1))
        log_det = None
        for part in parts:
            added = part.forward(halves, context)
            log_det = added if log_det is None else log_det + added
        assert log_det is not None
        share = torch.full_like(log_det, 1 / len(x)) if weights is None else weights / len(x)
        last = torch.cat(halves, 1)
        if end is None:
            z, of_z = last, last * share[:, None]
        else:
            log_scale = end.log_scale()
            scale = log_scale.exp()
            log_det = log_det + log_scale.sum()
            z = torch.addcmul(end.shift, last, scale)
            gradient = z * share[:, None]
            of_z = gradient * scale
            _grad(end.shift).copy_(gradient.sum(0))
            of_log_scale = (of_z * last).sum(0) - share.sum()
            _grad(end.raw_log_scale).copy_(tanh_backward(of_log_scale, log_scale / end.clamp))
        gradients = list(of_z.split(sizes, 1))
        for i in range(len(parts) - 1, -1, -1):
            parts[i].backward(gradients, share, further=i > 0)
        return (share * (0.5 * z.square().sum(1) - log_det + constant)).sum()

    return loss


class _Part:
    """One coupling: what its forward leaves for its backward."""

    def __init__(self, layer: Bijection) -> None:
        coupling = cast(Coupling, layer)
        net = cast(MLP, coupling.net)
        self.weights, self.biases = list(net.weights), list(net.biases)
        self.context_dim = net.context_dim
        self.clamp = cast(Affine, coupling.elementwise).clamp
        self.moved, self.given = (0, 1) if coupling.flip else (1, 0)

    def forward(self, halves: list[Tensor], context: Tensor | None) -> Tensor:
        """Moves its half; -> log_det (B,)."""
        given, moved = halves[self.given], halves[self.moved]
        h = torch.cat([given, context], 1) if self.context_dim and context is not None else given
        self.inputs = [h]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = torch.addmm(bias, h, weight.t()).relu_()
            self.inputs.append(h)
        raw, shift = torch.addmm(self.biases[-1], h, self.weights[-1].t()).chunk(2, 1)
        self.bounded = torch.tanh(raw / self.clamp)
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp(), moved
        halves[self.moved] = torch.addcmul(shift, moved, self.scale)
        return log_scale.sum(1)

    def backward(self, gradients: list[Tensor], share: Tensor, further: bool) -> None:
        """Takes the gradients of both halves back through the layer, to the data only if there is a layer before."""
        of_moved = gradients[self.moved]
        of_before = of_moved * self.scale
        of_log_scale = torch.addcmul(-share[:, None], of_before, self.before)
        gradient = torch.cat([tanh_backward(of_log_scale, self.bounded), of_moved], 1)
        for i in range(len(self.weights) - 1, -1, -1):
            torch.mm(gradient.t(), self.inputs[i], out=_grad(self.weights[i]))
            torch.sum(gradient, 0, out=_grad(self.biases[i]))
            if i > 0:
                gradient = threshold_backward(gradient @ self.weights[i], self.inputs[i], 0)
        if further:
            width = gradients[self.given].shape[1]
            gradients[self.given] = torch.addmm(gradients[self.given], gradient, self.weights[0][:, :width])
            gradients[self.moved] = of_before


def _is_plain(layer: Bijection) -> bool:
    if type(layer) is not Coupling or type(layer.elementwise) is not Affine or type(layer.net) is not MLP:
        return False
    net = cast(MLP, layer.net)
    return net.activation == "relu" and not net.residual


def _grad(parameter: Tensor) -> Tensor:
    return cast(Tensor, parameter.grad)
