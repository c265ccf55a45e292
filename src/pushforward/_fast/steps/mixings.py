"""Layers that mix or scale all columns, in a training step by hand (see `by_hand`)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...bijections import ActNorm, LULinear, Rotation
from .tape import Step, Tape, add_sum, put, tanh_backward
from .weights import FlatWeights


class ActNormStep(Step):
    """Of an `ActNorm`."""

    def __init__(self, layer: ActNorm, weights: FlatWeights) -> None:
        self.clamp = layer.clamp
        self.raw, self.grad_raw = weights.learned(layer.raw_log_scale)
        self.shift, self.grad_shift = weights.learned(layer.shift)

    def forward(self, tape: Tape) -> None:
        """Moves the rows."""
        self.bounded = torch.tanh(self.raw / self.clamp)
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp().unsqueeze(-2), tape.whole()
        tape.split(torch.addcmul(self.shift.unsqueeze(-2), self.before, self.scale))
        tape.constants.append(log_scale.sum(-1))

    def backward(self, tape: Tape, further: bool) -> None:
        """Takes the gradients back."""
        gradient = tape.whole_gradient()
        grad_before = gradient * self.scale
        add_sum(self.grad_shift, gradient, tape.first)
        grad_log_scale = torch.addcmul(tape.minus_share, grad_before, self.before).sum(-2)
        put(self.grad_raw, tanh_backward(grad_log_scale, self.bounded), tape.first)
        tape.split_gradient(grad_before)


class Matrices:
    """The matrices of all `LULinear`s of a flow, made in one go, and so their gradients."""

    def __init__(self, layers: Iterable[LULinear], weights: FlatWeights) -> None:
        learned = [weights.learned(layer.factors) for layer in layers]
        self.factors, self.grad_factors = [v for v, _ in learned], [g for _, g in learned]
        self.grad_matrices: list[Tensor] = [torch.empty(0)] * len(learned)

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

    def backward(self, tape: Tape) -> None:
        """Takes the gradients in the matrices on to the factors."""
        if not self.factors:
            return
        gradient = torch.stack(self.grad_matrices)
        grad_upper = self.lower.mT @ gradient
        grad_factors = (gradient @ self.upper.mT).tril(-1).add_(grad_upper.triu(1))
        grad_log = grad_upper.diagonal(dim1=-2, dim2=-1) * self.diagonal + tape.minus_share.sum(-2)
        grad_factors.diagonal(dim1=-2, dim2=-1).copy_(tanh_backward(grad_log, self.bounded))
        for into, gradient in zip(self.grad_factors, grad_factors.unbind(), strict=True):
            put(into, gradient, tape.first)


class LULinearStep(Step):
    """Of a `LULinear`, whose matrix is among the `Matrices`."""

    def __init__(self, layer: LULinear, weights: FlatWeights, matrices: Matrices, index: int) -> None:
        self.matrices, self.index = matrices, index
        bias, self.grad_bias = weights.learned(layer.bias)
        self.bias = bias.unsqueeze(-1)
        self.multiply_add = torch.addmm if self.bias.ndim == 2 else torch.baddbmm

    def forward(self, tape: Tape) -> None:
        """Moves the rows."""
        self.before, self.matrix = tape.whole(), self.matrices.whole[self.index]
        tape.split(self.multiply_add(self.bias, self.matrix, self.before.mT).mT)
        tape.constants.append(self.matrices.log_dets[self.index])

    def backward(self, tape: Tape, further: bool) -> None:
        """Takes the gradients back."""
        gradient = tape.whole_gradient()
        self.matrices.grad_matrices[self.index] = gradient.mT @ self.before
        add_sum(self.grad_bias, gradient, tape.first)
        if further:
            tape.split_gradient((self.matrix.mT @ gradient.mT).mT)


class RotationStep(Step):
    """Of a `Rotation` of two columns."""

    def __init__(self, layer: Rotation, weights: FlatWeights) -> None:
        self.angle, self.grad_angle = weights.learned(layer.raw)

    def forward(self, tape: Tape) -> None:
        """Moves the rows."""
        angle = self.angle.unsqueeze(-2)
        self.cos, self.sin = angle.cos(), angle.sin()
        a, b = tape.halves
        self.after = [torch.addcmul(a * self.cos, b, self.sin, value=-1), torch.addcmul(b * self.cos, a, self.sin)]
        tape.halves = list(self.after)

    def backward(self, tape: Tape, further: bool) -> None:
        """Takes the gradients back."""
        a, b = tape.gradients
        first, second = self.after
        put(self.grad_angle, torch.addcmul(b * first, a, second, value=-1).sum(-2), tape.first)
        if further:
            back = torch.addcmul(a * self.cos, b, self.sin), torch.addcmul(b * self.cos, a, self.sin, value=-1)
            tape.gradients = list(back)
