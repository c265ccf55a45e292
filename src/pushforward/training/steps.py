"""The layers of a training step with a gradient written out by hand: there, and back (see `closed_form`).

One flow has rows (B, D) and matrices (O, I). Several of one shape have (M, B, D) and (M, O, I), and the same code: axes
are counted from the end, and products are batched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..bijections import ActNorm, Bijection, Coupling, LULinear
from ..elementwise import Affine
from ..nets import MLP, fuses, product
from .tape import Buffers, Rows, Step, add_product, add_sum, apart, put, together, zero
from .weights import FlatWeights, Learned

FUSED_ROWS = 1024  # rows from which a fused product pays though it takes fresh memory
threshold_backward: Any = torch.ops.aten.threshold_backward
tanh_backward: Any = torch.ops.aten.tanh_backward


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

    def hidden(self, h: Tensor, out: Buffers, name: object) -> Tensor:
        """relu(forward(h)), in memory that is used again where that pays."""
        if h.ndim == 2 and h.shape[1] == 1:  # an outer product, which a product of matrices takes longer for
            return torch.addcmul(self.bias, h, self.turned, out=out.take(name, h, self.width)).relu_()
        if len(h) >= FUSED_ROWS and fuses(self.weight):
            return product(h, self.weight, self.bias[0], "relu")
        return self.forward(h, out.take(name, h, self.width)).relu_()

    def learn(self, gradient: Tensor, h: Tensor, first: bool) -> None:
        """Takes the gradient in the output, (..., B, O)."""
        add_product(self.of_weight, gradient, h, first)
        add_sum(self.of_bias, gradient, first)

    def back(self, gradient: Tensor, out: Buffers, name: object) -> Tensor:
        """-> the gradient in the input, (..., B, I)."""
        if len(gradient) >= FUSED_ROWS and fuses(self.weight):
            return product(gradient, self.turned)
        return self.multiply(gradient, self.weight, out=out.take(name, gradient, self.weight.shape[-1]))


class _Coupling(Step):
    """A coupling with a ReLU `MLP`; the elementwise map, if it is not affine, is recorded by itself."""

    def __init__(self, layer: Coupling, held: FlatWeights) -> None:
        net = cast(MLP, layer.net)
        last = len(net.weights) - 1
        self.linears = [
            _Linear(held.learned(w), held.learned(b), net.transposed and i == last)
            for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True))
        ]
        self.context_dim = net.context_dim
        self.elementwise = layer.elementwise
        self.moved, self.given = (0, 1) if layer.flip else (1, 0)
        self.hidden = Buffers()

    def forward(self, rows: Rows) -> None:
        h = rows.halves[self.given]
        if self.context_dim and rows.context is not None:
            h = torch.cat([h, rows.context], -1)
        self.inputs = [h]
        for i, linear in enumerate(self.linears[:-1]):
            h = linear.hidden(h, self.hidden, i)
            self.inputs.append(h)
        self.map(rows, self.linears[-1].forward(h))

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = self.of_map(rows)
        for i in range(len(self.linears) - 1, 0, -1):
            linear, h = self.linears[i], self.inputs[i]
            linear.learn(gradient, h, rows.first)
            gradient = linear.back(gradient, rows.scratch, i % 2)
            threshold_backward.grad_input(gradient, h, 0, grad_input=gradient)
        first = self.linears[0]
        first.learn(gradient, self.inputs[0], rows.first)
        width = rows.sizes[self.given]
        if further:
            of_given = rows.gradients[self.given]
            rows.gradients[self.given] = first.multiply_add(of_given, gradient, first.weight[..., :width])
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
        outputs, gradients = _wanted(self.outputs, (of_moved, rows.minus_share.expand_as(of_moved)))
        rows.gradients[self.moved], gradient = torch.autograd.grad(
            outputs, self.leaves, gradients, materialize_grads=True
        )
        return gradient


class _AffineCoupling(_Coupling):
    def __init__(self, layer: Coupling, held: FlatWeights) -> None:
        super().__init__(layer, held)
        clamp = cast(Affine, layer.elementwise).clamp
        # Numbers of Python would be made tensors and converted at every step.
        self.clamp, self.per_clamp = held.flat.new_tensor(clamp), held.flat.new_tensor(1 / clamp)

    def map(self, rows: Rows, params: Tensor) -> None:
        raw, shift = params.chunk(2, -1)
        self.bounded = (raw * self.per_clamp).tanh_()
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp(), rows.halves[self.moved]
        rows.halves[self.moved] = torch.addcmul(shift, self.before, self.scale)
        rows.log_dets.append(log_scale)

    def of_map(self, rows: Rows) -> Tensor:
        of_moved = rows.gradients[self.moved]
        of_before = rows.gradients[self.moved] = of_moved * self.scale
        of_log_scale = torch.addcmul(rows.minus_share, of_before, self.before)
        return torch.cat([tanh_backward(of_log_scale, self.bounded), of_moved], -1)


class _ActNorm(Step):
    def __init__(self, layer: ActNorm, held: FlatWeights) -> None:
        self.clamp = layer.clamp
        self.raw, self.of_raw = held.learned(layer.raw_log_scale)
        self.shift, self.of_shift = held.learned(layer.shift)

    def forward(self, rows: Rows) -> None:
        self.bounded = torch.tanh(self.raw / self.clamp)
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp().unsqueeze(-2), rows.whole()
        rows.split(torch.addcmul(self.shift.unsqueeze(-2), self.before, self.scale))
        rows.constants.append(log_scale.sum(-1))

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = rows.whole_gradient()
        of_before = gradient * self.scale
        add_sum(self.of_shift, gradient, rows.first)
        of_log_scale = torch.addcmul(rows.minus_share, of_before, self.before).sum(-2)
        put(self.of_raw, tanh_backward(of_log_scale, self.bounded), rows.first)
        rows.split_gradient(of_before)


class Matrices:
    """The matrices of all `LULinear`s of a flow, made in one go, and so their gradients."""

    def __init__(self, layers: Iterable[LULinear], held: FlatWeights) -> None:
        learned = [held.learned(layer.factors) for layer in layers]
        self.factors, self.of_factors = [v for v, _ in learned], [g for _, g in learned]
        self.of_matrices: list[Tensor] = [torch.empty(0)] * len(learned)

    def make(self) -> None:
        """Sets `whole` (L, ..., D, D), the matrices, and `log_dets` (L, ...)."""
        if not self.factors:
            return
        factors = torch.stack(self.factors)
        clamp = LULinear.clamp
        self.bounded = torch.tanh(factors.diagonal(dim1=-2, dim2=-1) / clamp)
        log_diagonal = self.bounded * clamp
        self.diagonal = log_diagonal.exp()
        self.lower, self.upper = factors.tril(-1), factors.triu(1)
        self.lower.diagonal(dim1=-2, dim2=-1).fill_(1)
        self.upper.diagonal(dim1=-2, dim2=-1).copy_(self.diagonal)
        self.whole, self.log_dets = (self.lower @ self.upper).unbind(), log_diagonal.sum(-1).unbind()

    def pass_on(self, rows: Rows) -> None:
        """Takes the gradients in the matrices on to the factors."""
        if not self.factors:
            return
        gradient = torch.stack(self.of_matrices)
        of_upper = self.lower.mT @ gradient
        of_factors = (gradient @ self.upper.mT).tril(-1).add_(of_upper.triu(1))
        of_log = of_upper.diagonal(dim1=-2, dim2=-1) * self.diagonal + rows.minus_share.sum(-2)
        of_factors.diagonal(dim1=-2, dim2=-1).copy_(tanh_backward(of_log, self.bounded))
        for into, found in zip(self.of_factors, of_factors.unbind(), strict=True):
            put(into, found, rows.first)


class _LULinear(Step):
    def __init__(self, layer: LULinear, held: FlatWeights, matrices: Matrices, index: int) -> None:
        self.matrices, self.index = matrices, index
        bias, self.of_bias = held.learned(layer.bias)
        self.bias = bias.unsqueeze(-2)
        self.multiply_add = torch.addmm if self.bias.ndim == 2 else torch.baddbmm

    def forward(self, rows: Rows) -> None:
        self.before, self.matrix = rows.whole(), self.matrices.whole[self.index]
        rows.split(self.multiply_add(self.bias, self.before, self.matrix.mT))
        rows.constants.append(self.matrices.log_dets[self.index])

    def backward(self, rows: Rows, further: bool) -> None:
        gradient = rows.whole_gradient()
        self.matrices.of_matrices[self.index] = gradient.mT @ self.before
        add_sum(self.of_bias, gradient, rows.first)
        if further:
            rows.split_gradient(gradient @ self.matrix)


class _Recorded(Step):
    """Any other layer, by autograd, member by member."""

    def __init__(self, layers: Sequence[Bijection]) -> None:
        self.layers = layers
        self.parameters = [p for layer in layers for p in layer.parameters()]

    def forward(self, rows: Rows) -> None:
        wanted = rows.of_context is not None
        whole = rows.whole()
        count = len(self.layers)
        with torch.enable_grad():
            self.before = [t.requires_grad_() for t in apart(whole, count)]
            contexts = [None] * count if rows.context is None else apart(rows.context, count)
            self.contexts = [None if c is None else c.detach().requires_grad_(wanted) for c in contexts]
            self.outputs = [
                layer(x, context) for layer, x, context in zip(self.layers, self.before, self.contexts, strict=True)
            ]
        rows.split(together([z.detach() for z, _ in self.outputs]))
        rows.log_dets.append(together([log_det.detach()[:, None] for _, log_det in self.outputs]))

    def backward(self, rows: Rows, further: bool) -> None:
        if rows.first:
            zero(self.parameters)
        count = len(self.layers)
        gradients, shares = apart(rows.whole_gradient(), count), apart(rows.minus_share, count)
        for outputs, gradient, share in zip(self.outputs, gradients, shares, strict=True):
            torch.autograd.backward(*_wanted(outputs, (gradient, share[:, 0])))
        rows.split_gradient(together([cast(Tensor, x.grad) for x in self.before]))
        if rows.of_context is not None:
            for into, context in zip(apart(rows.of_context, count), self.contexts, strict=True):
                if context is not None and context.grad is not None:
                    into += context.grad


def steps_of(members: Sequence[Sequence[Bijection]], held: FlatWeights) -> tuple[list[Step], Matrices]:
    """-> the steps of the layers of one flow, or of several of one shape; and the matrices of their `LULinear`s."""
    matrices = Matrices((layer for layer in members[0] if type(layer) is LULinear), held)
    steps: list[Step] = []
    linears = 0
    for layers in zip(*members, strict=True):
        layer = layers[0]  # `held` knows where the others have theirs
        if has_plain_net(layer):
            coupling = cast(Coupling, layer)
            kind = _AffineCoupling if type(coupling.elementwise) is Affine else _Coupling
            steps.append(kind(coupling, held))
        elif type(layer) is ActNorm:
            steps.append(_ActNorm(layer, held))
        elif type(layer) is LULinear:
            steps.append(_LULinear(layer, held, matrices, linears))
            linears += 1
        else:
            steps.append(_Recorded(layers))
    return steps, matrices


def has_plain_net(layer: Bijection) -> bool:
    """Whether it is a `Coupling` whose network has a rule here: a ReLU `MLP` without residual layers."""
    if type(layer) is not Coupling or type(layer.net) is not MLP:
        return False
    net = cast(MLP, layer.net)
    return net.activation == "relu" and not net.residual


def alike(layers: Sequence[Bijection]) -> bool:
    """Whether layers of several flows can take a step here together: couplings must differ in their weights alone."""

    def settings(layer: Bijection) -> object:
        if not has_plain_net(layer):
            return type(layer)
        coupling = cast(Coupling, layer)
        net = cast(MLP, coupling.net)
        return coupling.elementwise, coupling.flip, net.transposed, net.context_dim

    return all(settings(layer) == settings(layers[0]) for layer in layers)


def _wanted(outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves out what depends on nothing that has a gradient, such as the log-det of a shift."""
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    return [o for o, _ in pairs], [g for _, g in pairs]
