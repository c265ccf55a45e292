"""Couplings in a training step by hand: their networks, and the maps whose parameters these give (see `closed_form`).

One flow has rows (B, D) and matrices (O, I). Several of one shape have (M, B, D) and (M, O, I), and the same code: axes
are counted from the end, and products are batched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...bijections import Affine, Coupling, RationalQuadratic, TriangularCoupling
from ...bijections.spline import Saved, evaluate, gradient
from ...nets import MLP, fuses, product
from .tape import Buffers, Rows, Step, add_product, add_sum, beside, put, tanh_backward, wanted
from .weights import FlatWeights, Learned

FUSED_ROWS = 1024  # rows from which a fused product pays though it takes fresh memory
threshold_backward: Any = torch.ops.aten.threshold_backward


class _Linear:
    """An affine map of a network, h (..., B, I) -> (..., B, O)."""

    def __init__(self, weight: Learned, bias: Learned, transposed: bool) -> None:
        self.weight, self.of_weight = weight
        self.bias, self.of_bias = bias.value.unsqueeze(-1 if transposed else -2), bias.gradient
        self.width, self.transposed, self.turned = self.weight.shape[-2], transposed, self.weight.mT
        single = self.weight.ndim == 2
        self.multiply, self.multiply_add = (torch.mm, torch.addmm) if single else (torch.bmm, torch.baddbmm)

    def forward(self, h: Tensor, out: Tensor | None = None) -> Tensor:
        if self.transposed:
            return self.multiply_add(self.bias, self.weight, h.mT).mT
        return self.multiply_add(self.bias, h, self.turned, out=out)

    def hidden(self, h: Tensor, out: Buffers, name: object, place: int) -> Tensor:
        """relu(forward(h)), in memory that is used again where that pays."""
        if h.ndim == 2 and h.shape[1] == 1:  # an outer product, which a product of matrices takes longer for
            return torch.addcmul(self.bias, h, self.turned, out=out.take(name, h, self.width, place)).relu_()
        if len(h) >= FUSED_ROWS and fuses(self.weight):
            return product(h, self.weight, self.bias[0], "relu")
        return self.forward(h, out.take(name, h, self.width, place)).relu_()

    def learn(self, gradient: Tensor, h: Tensor, first: bool) -> None:
        """Takes the gradient in the output, (..., B, O)."""
        add_product(self.of_weight, gradient, h, first)
        add_sum(self.of_bias, gradient, first)

    def back(self, gradient: Tensor, out: Buffers, name: object, place: int = 0) -> Tensor:
        """-> the gradient in the input, (..., B, I)."""
        if len(gradient) >= FUSED_ROWS and fuses(self.weight):
            return product(gradient, self.turned)
        return self.multiply(gradient, self.weight, out=out.take(name, gradient, self.weight.shape[-1], place))


class Alike:
    """Networks of one shape in one flow. Of few rows, the gradients of all their weights are found at the end of the
    way back, in one product for each layer: dispatching the many small ones took longer than their arithmetic.
    """

    def __init__(self, nets: Sequence[MLP], held: FlatWeights) -> None:
        self.weights, self.biases = (
            [held.all_learned(same) for same in zip(*parameters, strict=True)]
            for parameters in ([net.weights for net in nets], [net.biases for net in nets])
        )
        self.memory = Buffers(len(nets))
        self.inputs: list[Tensor] = [torch.empty(0)] * len(nets)
        self.of_outputs: list[Tensor] = [torch.empty(0)] * len(nets)

    def learn(self, rows: Rows) -> None:
        """Takes the gradients in the outputs of all layers of all networks."""
        if not rows.few:
            return
        last = len(self.weights) - 1
        for i, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            outputs, inputs = weights.value.shape[1:]
            like = self.inputs[0]
            h = self.memory.all(("output", i - 1), like, inputs) if i else _stack(self.inputs)
            gradient = _stack(self.of_outputs) if i == last else self.memory.all(("gradient", i), like, outputs)
            add_product(weights.gradient, gradient, h, rows.first)
            add_sum(biases.gradient, gradient, rows.first)


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.mT for part in parts]).mT


class CouplingStep(Step):
    """A coupling with a ReLU `MLP`; the elementwise map, if it is not affine, is recorded by itself."""

    def __init__(self, layer: Coupling | TriangularCoupling, held: FlatWeights) -> None:
        net = self.net = cast(MLP, layer.net)
        last = len(net.weights) - 1
        self.linears = [
            _Linear(held.learned(w), held.learned(b), i == last)
            for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True))
        ]
        self.context_dim = net.context_dim
        self.elementwise = layer.elementwise
        self.moved, self.given = (0, 1) if layer.flip else (1, 0)
        self.memory = Buffers()
        self.alike: Alike | None = None
        self.place = 0

    def join(self, alike: Alike, place: int) -> None:
        """Its network is one of those that are alike."""
        self.alike, self.memory, self.place = alike, alike.memory, place

    def forward(self, rows: Rows) -> None:
        """Moves the rows."""
        h = rows.halves[self.given]
        if self.context_dim and rows.context is not None:
            h = torch.cat([h, rows.context], -1)
        self.inputs = [h]
        for i, linear in enumerate(self.linears[:-1]):
            h = linear.hidden(h, self.memory, ("output", i), self.place)
            self.inputs.append(h)
        self.map(rows, self.linears[-1].forward(h))

    def backward(self, rows: Rows, further: bool) -> None:
        """Takes the gradients back."""
        gradient = self.of_map(rows)
        alike = self.alike if rows.few else None
        if alike is not None:
            alike.inputs[self.place], alike.of_outputs[self.place] = self.inputs[0], gradient
        for i in range(len(self.linears) - 1, 0, -1):
            linear, h = self.linears[i], self.inputs[i]
            if alike is not None:
                gradient = linear.back(gradient, self.memory, ("gradient", i - 1), self.place)
            else:
                linear.learn(gradient, h, rows.first)
                gradient = linear.back(gradient, rows.scratch, i % 2)
            threshold_backward.grad_input(gradient, h, 0, grad_input=gradient)
        first = self.linears[0]
        if alike is None:
            first.learn(gradient, self.inputs[0], rows.first)
        width = rows.sizes[self.given]
        if further:
            of_given = rows.gradients[self.given]
            weight = first.turned[..., :width, :]
            rows.gradients[self.given] = first.multiply_add(of_given.mT, weight, gradient.mT).mT
        if rows.of_context is not None and self.context_dim:
            rows.of_context += gradient @ first.weight[..., width:]

    def map(self, rows: Rows, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        moved = rows.halves[self.moved]
        with torch.enable_grad():
            self.leaves = moved.detach().requires_grad_(), params.requires_grad_()
            shaped = params.unflatten(-1, (self.elementwise.num_params, moved.shape[-1]))
            x = self.leaves[0]
            if moved.ndim > 2:  # to an elementwise map, members are sites of a channel
                x, shaped = x.movedim(0, -1), shaped.movedim(0, -1)
            self.outputs = self.elementwise.forward(x, shaped)
            if moved.ndim > 2:
                self.outputs = tuple(t.movedim(-1, 0) for t in self.outputs)
        rows.halves[self.moved], log_det = (t.detach() for t in self.outputs)
        rows.log_dets.append(log_det)

    def of_map(self, rows: Rows) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        of_moved = rows.gradients[self.moved]
        outputs, gradients = wanted(self.outputs, (of_moved, rows.minus_share.expand_as(of_moved)))
        rows.gradients[self.moved], gradient = torch.autograd.grad(
            outputs, self.leaves, gradients, materialize_grads=True
        )
        return gradient


class AffineStep(CouplingStep):
    """Of a `Coupling` of an `Affine`."""

    def __init__(self, layer: Coupling, held: FlatWeights) -> None:
        super().__init__(layer, held)
        clamp = cast(Affine, layer.elementwise).clamp
        # Numbers of Python would be made tensors and converted at every step.
        self.clamp, self.per_clamp = held.flat.new_tensor(clamp), held.flat.new_tensor(1 / clamp)

    def map(self, rows: Rows, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        raw, shift = params.chunk(2, -1)
        self.bounded = (raw * self.per_clamp).tanh_()
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp(), rows.halves[self.moved]
        rows.halves[self.moved] = torch.addcmul(shift, self.before, self.scale)
        rows.log_dets.append(log_scale)

    def of_map(self, rows: Rows) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        of_moved = rows.gradients[self.moved]
        of_before = rows.gradients[self.moved] = of_moved * self.scale
        of_log_scale = torch.addcmul(rows.minus_share, of_before, self.before)
        return beside([tanh_backward(of_log_scale, self.bounded), of_moved])


class SplineStep(CouplingStep):
    """Of a `Coupling` of a `RationalQuadratic`, or a `TriangularCoupling` whose own parameters are learned numbers.

    The maps of all columns and members are one evaluation, over sites (C, B) or (M C, B).
    """

    def __init__(self, layer: Coupling | TriangularCoupling, held: FlatWeights) -> None:
        super().__init__(layer, held)
        self.spline = cast(RationalQuadratic, layer.elementwise)
        self.own = held.learned(cast(nn.Parameter, layer.own)) if isinstance(layer, TriangularCoupling) else None

    def map(self, rows: Rows, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        count, columns = self.spline.num_params, rows.sizes[self.moved]
        self.of_moved_half = self._there(rows, self.moved, params.mT.unflatten(-2, (count, columns)))
        if self.own is not None:
            self.of_given_half = self._there(rows, self.given, self.own.value.unsqueeze(-1))

    def of_map(self, rows: Rows) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        if self.own is not None:
            put(self.own.gradient, self._back(rows, self.given, *self.of_given_half)[..., 0], rows.first)
        return self._back(rows, self.moved, *self.of_moved_half).flatten(-3, -2).mT

    def _there(self, rows: Rows, half: int, params: Tensor) -> tuple[Tensor, Saved]:
        """Moves a half (..., B, C) by params (..., P, C, B or 1)."""
        moved = rows.halves[half].mT
        sites = math.prod(moved.shape[:-1])
        x = moved.reshape(sites, moved.shape[-1])
        y, log_det, saved = evaluate(self.spline, x, params.movedim(-3, 0).flatten(1, -2), False)
        rows.halves[half] = y.view(moved.shape).mT
        rows.log_dets.append(log_det.view(moved.shape).mT)
        return x, saved

    def _back(self, rows: Rows, half: int, x: Tensor, saved: Saved) -> Tensor:
        """Takes the gradient of a half back through its maps; -> that of their parameters (..., P, C, B or 1)."""
        of_y = rows.gradients[half].mT
        of_log_det = rows.minus_share.mT.expand(of_y.shape)
        of_x, of_params = gradient(
            self.spline, x, saved, False, of_y.reshape(x.shape), of_log_det.reshape(x.shape)
        )  # fmt: skip
        rows.gradients[half] = of_x.view(of_y.shape).mT
        return of_params.unflatten(1, of_y.shape[:-1]).movedim(0, -3)
