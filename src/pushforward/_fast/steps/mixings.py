"""Layers that mix or scale all columns, in a training step by hand (see `closed_form`)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...bijections import ActNorm, LULinear, Rotation
from .tape import Rows, Step, add_sum, put, tanh_backward
from .weights import FlatWeights


class ActNormStep(Step):
    """Of an `ActNorm`."""

    def __init__(self, layer: ActNorm, held: FlatWeights) -> None:
        self.clamp = layer.clamp
        self.raw, self.of_raw = held.learned(layer.raw_log_scale)
        self.shift, self.of_shift = held.learned(layer.shift)

    def forward(self, rows: Rows) -> None:
        """Moves the rows."""
        self.bounded = torch.tanh(self.raw / self.clamp)
        log_scale = self.bounded * self.clamp
        self.scale, self.before = log_scale.exp().unsqueeze(-2), rows.whole()
        rows.split(torch.addcmul(self.shift.unsqueeze(-2), self.before, self.scale))
        rows.constants.append(log_scale.sum(-1))

    def backward(self, rows: Rows, further: bool) -> None:
        """Takes the gradients back."""
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


class LULinearStep(Step):
    """Of a `LULinear`, whose matrix is among the `Matrices`."""

    def __init__(self, layer: LULinear, held: FlatWeights, matrices: Matrices, index: int) -> None:
        self.matrices, self.index = matrices, index
        bias, self.of_bias = held.learned(layer.bias)
        self.bias = bias.unsqueeze(-1)
        self.multiply_add = torch.addmm if self.bias.ndim == 2 else torch.baddbmm

    def forward(self, rows: Rows) -> None:
        """Moves the rows."""
        self.before, self.matrix = rows.whole(), self.matrices.whole[self.index]
        rows.split(self.multiply_add(self.bias, self.matrix, self.before.mT).mT)
        rows.constants.append(self.matrices.log_dets[self.index])

    def backward(self, rows: Rows, further: bool) -> None:
        """Takes the gradients back."""
        gradient = rows.whole_gradient()
        self.matrices.of_matrices[self.index] = gradient.mT @ self.before
        add_sum(self.of_bias, gradient, rows.first)
        if further:
            rows.split_gradient((self.matrix.mT @ gradient.mT).mT)


class RotationStep(Step):
    """Of a `Rotation` of two columns."""

    def __init__(self, layer: Rotation, held: FlatWeights) -> None:
        self.angle, self.of_angle = held.learned(layer.raw)

    def forward(self, rows: Rows) -> None:
        """Moves the rows."""
        angle = self.angle.unsqueeze(-2)
        self.cos, self.sin = angle.cos(), angle.sin()
        a, b = rows.halves
        self.after = [torch.addcmul(a * self.cos, b, self.sin, value=-1), torch.addcmul(b * self.cos, a, self.sin)]
        rows.halves = list(self.after)

    def backward(self, rows: Rows, further: bool) -> None:
        """Takes the gradients back."""
        a, b = rows.gradients
        first, second = self.after
        put(self.of_angle, torch.addcmul(b * first, a, second, value=-1).sum(-2), rows.first)
        if further:
            back = torch.addcmul(a * self.cos, b, self.sin), torch.addcmul(b * self.cos, a, self.sin, value=-1)
            rows.gradients = list(back)
