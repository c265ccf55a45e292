"""Couplings in a training step by hand: their networks, and the maps whose parameters these give (see `by_hand`).

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
from ...nets import MLP
from ..kernels.mlp import fuses, product
from ..kernels.spline import Saved, evaluate, gradient
from .tape import Buffers, Step, Tape, add_product, add_sum, beside, put, tanh_backward, wanted
from .weights import FlatWeights, Learned

FUSED_ROWS = 1024  # rows from which a fused product pays though it takes fresh memory
threshold_backward: Any = torch.ops.aten.threshold_backward


class _Linear:
    """An affine map of a network, h (..., B, I) -> (..., B, O)."""

    def __init__(self, weight: Learned, bias: Learned, transposed: bool) -> None:
        self.weight, self.grad_weight = weight
        self.bias, self.grad_bias = bias.value.unsqueeze(-1 if transposed else -2), bias.gradient
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
        add_product(self.grad_weight, gradient, h, first)
        add_sum(self.grad_bias, gradient, first)

    def back(self, gradient: Tensor, out: Buffers, name: object, place: int = 0) -> Tensor:
        """-> the gradient in the input, (..., B, I)."""
        if len(gradient) >= FUSED_ROWS and fuses(self.weight):
            return product(gradient, self.turned)
        return self.multiply(gradient, self.weight, out=out.take(name, gradient, self.weight.shape[-1], place))


class Stacked:
    """Networks of one shape in one flow. Of few rows, the gradients of all their weights are taken at the end of the
    backward pass, in one product for each layer: dispatching the many small ones took longer than their arithmetic.
    """

    def __init__(self, nets: Sequence[MLP], weights: FlatWeights) -> None:
        self.weights, self.biases = (
            [weights.stacked(same) for same in zip(*parameters, strict=True)]
            for parameters in ([net.weights for net in nets], [net.biases for net in nets])
        )
        self.memory = Buffers(len(nets))
        self.inputs: list[Tensor] = [torch.empty(0)] * len(nets)
        self.grad_outputs: list[Tensor] = [torch.empty(0)] * len(nets)

    def learn(self, tape: Tape) -> None:
        """Takes the gradients in the outputs of all layers of all networks."""
        if not tape.few:
            return
        last = len(self.weights) - 1
        for i, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            outputs, inputs = weights.value.shape[1:]
            like = self.inputs[0]
            h = self.memory.all(("output", i - 1), like, inputs) if i else _stack(self.inputs)
            gradient = _stack(self.grad_outputs) if i == last else self.memory.all(("gradient", i), like, outputs)
            add_product(weights.gradient, gradient, h, tape.first)
            add_sum(biases.gradient, gradient, tape.first)


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.mT for part in parts]).mT


class CouplingStep(Step):
    """A coupling with a ReLU `MLP`; the elementwise map, if it is not affine, is recorded by itself."""

    def __init__(self, layer: Coupling | TriangularCoupling, weights: FlatWeights) -> None:
        net = self.net = cast(MLP, layer.net)
        last = len(net.weights) - 1
        self.linears = [
            _Linear(weights.learned(w), weights.learned(b), i == last)
            for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True))
        ]
        self.context_dim = net.context_dim
        self.elementwise = layer.elementwise
        self.moved, self.given = (0, 1) if layer.flip else (1, 0)
        self.memory = Buffers()
        self.alike: Stacked | None = None
        self.place = 0

    def join(self, alike: Stacked, place: int) -> None:
        """Its network is one of those that are alike."""
        self.alike, self.memory, self.place = alike, alike.memory, place

    def forward(self, tape: Tape) -> None:
        """Moves the rows."""
        h = tape.halves[self.given]
        if self.context_dim and tape.context is not None:
            h = torch.cat([h, tape.context], -1)
        self.inputs = [h]
        for i, linear in enumerate(self.linears[:-1]):
            h = linear.hidden(h, self.memory, ("output", i), self.place)
            self.inputs.append(h)
        self.map(tape, self.linears[-1].forward(h))

    def backward(self, tape: Tape, further: bool) -> None:
        """Takes the gradients back."""
        gradient = self.map_backward(tape)
        alike = self.alike if tape.few else None
        if alike is not None:
            alike.inputs[self.place], alike.grad_outputs[self.place] = self.inputs[0], gradient
        for i in range(len(self.linears) - 1, 0, -1):
            linear, h = self.linears[i], self.inputs[i]
            if alike is not None:
                gradient = linear.back(gradient, self.memory, ("gradient", i - 1), self.place)
            else:
                linear.learn(gradient, h, tape.first)
                gradient = linear.back(gradient, tape.scratch, i % 2)
            threshold_backward.grad_input(gradient, h, 0, grad_input=gradient)
        first = self.linears[0]
        if alike is None:
            first.learn(gradient, self.inputs[0], tape.first)
        width = tape.sizes[self.given]
        if further:
            grad_given = tape.gradients[self.given]
            weight = first.turned[..., :width, :]
            tape.gradients[self.given] = first.multiply_add(grad_given.mT, weight, gradient.mT).mT
        if tape.grad_context is not None and self.context_dim:
            tape.grad_context += gradient @ first.weight[..., width:]

    def map(self, tape: Tape, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        moved = tape.halves[self.moved]
        with torch.enable_grad():
            self.leaves = moved.detach().requires_grad_(), params.requires_grad_()
            shaped = params.unflatten(-1, (self.elementwise.num_params, moved.shape[-1]))
            x = self.leaves[0]
            if moved.ndim > 2:  # to an elementwise map, members are sites of a channel
                x, shaped = x.movedim(0, -1), shaped.movedim(0, -1)
            self.outputs = self.elementwise.forward(x, shaped)
            if moved.ndim > 2:
                self.outputs = tuple(t.movedim(-1, 0) for t in self.outputs)
        tape.halves[self.moved], log_det = (t.detach() for t in self.outputs)
        tape.log_dets.append(log_det)

    def map_backward(self, tape: Tape) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        grad_moved = tape.gradients[self.moved]
        outputs, gradients = wanted(self.outputs, (grad_moved, tape.minus_share.expand_as(grad_moved)))
        tape.gradients[self.moved], gradient = torch.autograd.grad(
            outputs, self.leaves, gradients, materialize_grads=True
        )
        return gradient


class AffineStep(CouplingStep):
    """Of a `Coupling` of an `Affine`."""

    def __init__(self, layer: Coupling, weights: FlatWeights) -> None:
        super().__init__(layer, weights)
        clamp = cast(Affine, layer.elementwise).clamp
        # Numbers of Python would be made tensors and converted at every step.
        self.clamp, self.per_clamp = weights.flat.new_tensor(clamp), weights.flat.new_tensor(1 / clamp)

    def map(self, tape: Tape, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        raw, shift = params.chunk(2, -1)
        self.bounded = (raw * self.per_clamp).tanh_()
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp(), tape.halves[self.moved]
        tape.halves[self.moved] = torch.addcmul(shift, self.before, self.scale)
        tape.log_dets.append(log_scale)

    def map_backward(self, tape: Tape) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        grad_moved = tape.gradients[self.moved]
        grad_before = tape.gradients[self.moved] = grad_moved * self.scale
        grad_log_scale = torch.addcmul(tape.minus_share, grad_before, self.before)
        return beside([tanh_backward(grad_log_scale, self.bounded), grad_moved])


class SplineStep(CouplingStep):
    """Of a `Coupling` of a `RationalQuadratic`, or a `TriangularCoupling` whose own parameters are learned numbers.

    The maps of all columns and members are one evaluation, over sites (C, B) or (M C, B).
    """

    def __init__(self, layer: Coupling | TriangularCoupling, weights: FlatWeights) -> None:
        super().__init__(layer, weights)
        self.spline = cast(RationalQuadratic, layer.elementwise)
        self.own = weights.learned(cast(nn.Parameter, layer.own)) if isinstance(layer, TriangularCoupling) else None

    def map(self, tape: Tape, params: Tensor) -> None:
        """Moves the rows by the parameters (..., B, P C)."""
        count, columns = self.spline.num_params, tape.sizes[self.moved]
        self.moved_saved = self._apply(tape, self.moved, params.mT.unflatten(-2, (count, columns)))
        if self.own is not None:
            self.given_saved = self._apply(tape, self.given, self.own.value.unsqueeze(-1))

    def map_backward(self, tape: Tape) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (..., B, P C)."""
        if self.own is not None:
            put(self.own.gradient, self._apply_backward(tape, self.given, *self.given_saved)[..., 0], tape.first)
        return self._apply_backward(tape, self.moved, *self.moved_saved).flatten(-3, -2).mT

    def _apply(self, tape: Tape, half: int, params: Tensor) -> tuple[Tensor, Saved]:
        """Moves a half (..., B, C) by params (..., P, C, B or 1)."""
        moved = tape.halves[half].mT
        sites = math.prod(moved.shape[:-1])
        x = moved.reshape(sites, moved.shape[-1])
        y, log_det, saved = evaluate(self.spline, x, params.movedim(-3, 0).flatten(1, -2), False)
        tape.halves[half] = y.view(moved.shape).mT
        tape.log_dets.append(log_det.view(moved.shape).mT)
        return x, saved

    def _apply_backward(self, tape: Tape, half: int, x: Tensor, saved: Saved) -> Tensor:
        """Takes the gradient of a half back through its maps; -> that of their parameters (..., P, C, B or 1)."""
        grad_y = tape.gradients[half].mT
        grad_log_det = tape.minus_share.mT.expand(grad_y.shape)
        grad_x, grad_params = gradient(
            self.spline, x, saved, False, grad_y.reshape(x.shape), grad_log_det.reshape(x.shape)
        )  # fmt: skip
        tape.gradients[half] = grad_x.view(grad_y.shape).mT
        return grad_params.unflatten(1, grad_y.shape[:-1]).movedim(0, -3)
