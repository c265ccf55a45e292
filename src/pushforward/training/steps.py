"""The layers of a training step with a gradient written out by hand: there, and back (see `closed_form`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from ..bijections import ActNorm, Bijection, Coupling, LULinear
from ..elementwise import Affine
from ..nets import MLP

threshold_backward: Any = torch.ops.aten.threshold_backward
tanh_backward: Any = torch.ops.aten.tanh_backward


class Rows:
    """What passes from layer to layer, there and back.

    Attributes:
        halves: both parts of the current values, (B, D // 2) and (B, D - D // 2).
        context: (B, K) or None.
        share: (B,), the part of each row in the mean.
        gradients: of the loss in both halves, on the way back.
        of_context: (B, K), the gradient in the context so far; None where it is not wanted.
    """

    def __init__(self, halves: list[Tensor], context: Tensor | None, share: Tensor, sizes: list[int]) -> None:
        self.halves, self.context, self.share, self.sizes = halves, context, share, sizes
        self.gradients: list[Tensor] = []
        self.of_context: Tensor | None = None

    def whole(self) -> Tensor:
        """The current values (B, D)."""
        return torch.cat(self.halves, 1)

    def split(self, z: Tensor) -> None:
        """Takes new values (B, D)."""
        self.halves = list(z.split(self.sizes, 1))

    def whole_gradient(self) -> Tensor:
        """The current gradient (B, D)."""
        return torch.cat(self.gradients, 1)

    def split_gradient(self, gradient: Tensor) -> None:
        """Takes a new gradient (B, D)."""
        self.gradients = list(gradient.split(self.sizes, 1))


class Step(ABC):
    """One layer: what its forward leaves for its backward."""

    @abstractmethod
    def forward(self, rows: Rows) -> Tensor:
        """Moves the rows; -> log_det, (B,) or a scalar."""

    @abstractmethod
    def backward(self, rows: Rows, further: bool) -> None:
        """Writes the gradients of its parameters, and takes those of the rows back if there is a layer before."""


class _Coupling(Step):
    """A coupling with a ReLU `MLP`; the elementwise map, if it is not affine, is recorded by itself."""

    def __init__(self, layer: Coupling) -> None:
        net = cast(MLP, layer.net)
        self.transposed = net.transposed
        self.weights, self.biases = list(net.weights), list(net.biases)
        self.context_dim = net.context_dim
        self.elementwise = layer.elementwise
        self.moved, self.given = (0, 1) if layer.flip else (1, 0)

    def forward(self, rows: Rows) -> Tensor:
        given = rows.halves[self.given]
        h = torch.cat([given, rows.context], 1) if self.context_dim and rows.context is not None else given
        self.inputs = [h]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = torch.addmm(bias, h, weight.t()).relu_()
            self.inputs.append(h)
        weight, bias = self.weights[-1], self.biases[-1]
        if self.transposed:
            return self.map(rows, torch.addmm(bias[:, None], weight, h.t()).t())
        return self.map(rows, torch.addmm(bias, h, weight.t()))

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = self.of_map(rows)
        for i in range(len(self.weights) - 1, -1, -1):
            torch.mm(gradient.t(), self.inputs[i], out=_grad(self.weights[i]))
            torch.sum(gradient, 0, out=_grad(self.biases[i]))
            if i > 0:
                gradient = threshold_backward(gradient @ self.weights[i], self.inputs[i], 0)
        width = rows.sizes[self.given]
        if further:
            of_given = rows.gradients[self.given]
            rows.gradients[self.given] = torch.addmm(of_given, gradient, self.weights[0][:, :width])
        if rows.of_context is not None and self.context_dim:
            rows.of_context.addmm_(gradient, self.weights[0][:, width:])

    def map(self, rows: Rows, params: Tensor) -> Tensor:
        """Moves the rows by the parameters (B, P M); -> log_det (B,)."""
        moved = rows.halves[self.moved]
        with torch.enable_grad():
            self.leaves = moved.detach().requires_grad_(), params.requires_grad_()
            shaped = params.unflatten(1, (self.elementwise.num_params, moved.shape[1]))
            self.outputs = self.elementwise.forward(self.leaves[0], shaped)
        rows.halves[self.moved], log_det = (t.detach() for t in self.outputs)
        return log_det.sum(1)

    def of_map(self, rows: Rows) -> Tensor:
        """Takes the gradients back through the map; -> that of the parameters (B, P M)."""
        of_moved = rows.gradients[self.moved]
        outputs, gradients = _wanted(self.outputs, (of_moved, (-rows.share)[:, None].expand_as(of_moved)))
        rows.gradients[self.moved], gradient = torch.autograd.grad(
            outputs, self.leaves, gradients, materialize_grads=True
        )
        return gradient


class _AffineCoupling(_Coupling):
    def map(self, rows: Rows, params: Tensor) -> Tensor:
        self.clamp = cast(Affine, self.elementwise).clamp
        raw, shift = params.chunk(2, 1)
        self.bounded = torch.tanh(raw / self.clamp)
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp(), rows.halves[self.moved]
        rows.halves[self.moved] = torch.addcmul(shift, self.before, self.scale)
        return log_scale.sum(1)

    def of_map(self, rows: Rows) -> Tensor:
        of_moved = rows.gradients[self.moved]
        of_before = rows.gradients[self.moved] = of_moved * self.scale
        of_log_scale = torch.addcmul(-rows.share[:, None], of_before, self.before)
        return torch.cat([tanh_backward(of_log_scale, self.bounded), of_moved], 1)


class _ActNorm(Step):
    def __init__(self, layer: ActNorm) -> None:
        self.layer = layer

    def forward(self, rows: Rows) -> Tensor:
        self.log_scale = self.layer.log_scale()
        self.scale, self.before = self.log_scale.exp(), rows.whole()
        rows.split(torch.addcmul(self.layer.shift, self.before, self.scale))
        return self.log_scale.sum()

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = rows.whole_gradient()
        of_before = gradient * self.scale
        torch.sum(gradient, 0, out=_grad(self.layer.shift))
        of_log_scale = (of_before * self.before).sum(0) - rows.share.sum()
        _grad(self.layer.raw_log_scale).copy_(tanh_backward(of_log_scale, self.log_scale / self.layer.clamp))
        rows.split_gradient(of_before)


class Matrices:
    """The matrices of all `LULinear`s of a flow, made in one go, and so their gradients."""

    def __init__(self, layers: Iterable[LULinear]) -> None:
        self.layers = list(layers)
        self.of_matrices: list[Tensor] = [torch.empty(0)] * len(self.layers)

    def make(self) -> None:
        """Sets `whole` (L, D, D), the matrices, and `log_dets` (L,)."""
        if not self.layers:
            return
        factors = torch.stack([layer.factors.detach() for layer in self.layers])
        clamp = LULinear.clamp
        self.bounded = torch.tanh(factors.diagonal(dim1=1, dim2=2) / clamp)
        log_diagonal = self.bounded * clamp
        self.diagonal = log_diagonal.exp()
        self.lower, self.upper = factors.tril(-1), factors.triu(1)
        self.lower.diagonal(dim1=1, dim2=2).fill_(1)
        self.upper.diagonal(dim1=1, dim2=2).copy_(self.diagonal)
        self.whole, self.log_dets = self.lower @ self.upper, log_diagonal.sum(1)

    def pass_on(self, share: Tensor) -> None:
        """Takes the gradients in the matrices on to the factors."""
        if not self.layers:
            return
        gradient = torch.stack(self.of_matrices)
        of_upper = self.lower.mT @ gradient
        of_factors = (gradient @ self.upper.mT).tril(-1).add_(of_upper.triu(1))
        of_log = of_upper.diagonal(dim1=1, dim2=2) * self.diagonal - share.sum()
        of_factors.diagonal(dim1=1, dim2=2).copy_(tanh_backward(of_log, self.bounded))
        for layer, found in zip(self.layers, of_factors.unbind(), strict=True):
            _grad(layer.factors).copy_(found)


class _LULinear(Step):
    def __init__(self, layer: LULinear, matrices: Matrices) -> None:
        self.layer, self.matrices = layer, matrices
        self.index = next(i for i, other in enumerate(matrices.layers) if other is layer)

    def forward(self, rows: Rows) -> Tensor:
        self.before = rows.whole()
        rows.split(torch.addmm(self.layer.bias, self.before, self.matrices.whole[self.index].t()))
        return self.matrices.log_dets[self.index]

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = rows.whole_gradient()
        self.matrices.of_matrices[self.index] = gradient.t() @ self.before
        torch.sum(gradient, 0, out=_grad(self.layer.bias))
        if further:
            rows.split_gradient(gradient @ self.matrices.whole[self.index])


class _Recorded(Step):
    """Any other layer, by autograd."""

    def __init__(self, layer: Bijection) -> None:
        self.layer, self.parameters = layer, list(layer.parameters())

    def forward(self, rows: Rows) -> Tensor:
        with torch.enable_grad():
            self.before = rows.whole().requires_grad_()
            self.context = None
            if rows.context is not None:
                self.context = rows.context.detach().requires_grad_(rows.of_context is not None)
            self.outputs = self.layer(self.before, self.context)
        z, log_det = (t.detach() for t in self.outputs)
        rows.split(z)
        return log_det

    def backward(self, rows: Rows, further: bool) -> None:
        zero(self.parameters)
        torch.autograd.backward(*_wanted(self.outputs, (rows.whole_gradient(), -rows.share)))
        rows.split_gradient(cast(Tensor, self.before.grad))
        if rows.of_context is not None and self.context is not None and self.context.grad is not None:
            rows.of_context += self.context.grad


def step_of(layer: Bijection, matrices: Matrices) -> Step:
    """The step of a layer; `matrices` holds all `LULinear`s."""
    if has_plain_net(layer):
        coupling = cast(Coupling, layer)
        return _AffineCoupling(coupling) if type(coupling.elementwise) is Affine else _Coupling(coupling)
    if type(layer) is ActNorm:
        return _ActNorm(layer)
    return _LULinear(layer, matrices) if type(layer) is LULinear else _Recorded(layer)


def has_plain_net(layer: Bijection) -> bool:
    """Whether it is a `Coupling` whose network has a rule here: a ReLU `MLP` without residual layers."""
    if type(layer) is not Coupling or type(layer.net) is not MLP:
        return False
    net = cast(MLP, layer.net)
    return net.activation == "relu" and not net.residual


def zero(parameters: Iterable[Tensor]) -> None:
    """Sets their gradients to zero, in place."""
    for p in parameters:
        _grad(p).zero_()


def _wanted(outputs: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves out what depends on nothing that has a gradient, such as the log-det of a shift."""
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    return [o for o, _ in pairs], [g for _, g in pairs]


def _grad(parameter: Tensor) -> Tensor:
    return cast(Tensor, parameter.grad)
