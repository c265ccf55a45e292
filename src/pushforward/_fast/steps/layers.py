"""Which layer takes a training step by a rule of its own, and which is recorded by autograd (see `by_hand`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ...bijections import (
    ActNorm,
    Affine,
    Bijection,
    Coupling,
    LULinear,
    RationalQuadratic,
    Rotation,
    TriangularCoupling,
)
from ...nets import MLP
from .couplings import AffineStep, CouplingStep, SplineStep, Stacked
from .mixings import ActNormStep, LULinearStep, Matrices, RotationStep
from .tape import Step, Tape, apart, together, wanted, zero
from .weights import FlatWeights


class _Recorded(Step):
    """Any other layer, by autograd, member by member."""

    def __init__(self, layers: Sequence[Bijection]) -> None:
        self.layers = layers
        self.parameters = [p for layer in layers for p in layer.parameters()]

    def forward(self, tape: Tape) -> None:
        wanted = tape.grad_context is not None
        whole = tape.whole()
        count = len(self.layers)
        with torch.enable_grad():
            self.before = [t.requires_grad_() for t in apart(whole, count)]
            contexts = [None] * count if tape.context is None else apart(tape.context, count)
            self.contexts = [None if c is None else c.detach().requires_grad_(wanted) for c in contexts]
            self.outputs = [
                layer(x, context) for layer, x, context in zip(self.layers, self.before, self.contexts, strict=True)
            ]
        tape.split(together([z.detach() for z, _ in self.outputs]))
        tape.log_dets.append(together([log_det.detach()[:, None] for _, log_det in self.outputs]))

    def backward(self, tape: Tape, further: bool) -> None:
        if tape.first:
            zero(self.parameters)
        count = len(self.layers)
        gradients, shares = apart(tape.whole_gradient(), count), apart(tape.minus_share, count)
        for outputs, gradient, share in zip(self.outputs, gradients, shares, strict=True):
            torch.autograd.backward(*wanted(outputs, (gradient, share[:, 0])))
        tape.split_gradient(together([cast(Tensor, x.grad) for x in self.before]))
        if tape.grad_context is not None:
            for into, context in zip(apart(tape.grad_context, count), self.contexts, strict=True):
                if context is not None and context.grad is not None:
                    into += context.grad


def steps_of(
    members: Sequence[Sequence[Bijection]], weights: FlatWeights
) -> tuple[list[Step], Matrices, list[Stacked]]:
    """-> the steps of the layers of one flow, or of several of one shape; the matrices of their `LULinear`s; and which
    of their networks learn together."""
    matrices = Matrices((layer for layer in members[0] if type(layer) is LULinear), weights)
    steps: list[Step] = []
    linears = 0
    for layers in zip(*members, strict=True):
        layer = layers[0]  # `weights` knows where the others have theirs
        if has_plain_net(layer):
            coupling = cast(Coupling, layer)
            kind = {Affine: AffineStep, RationalQuadratic: SplineStep}.get(type(coupling.elementwise), CouplingStep)
            steps.append(kind(coupling, weights))
        elif type(layer) is ActNorm:
            steps.append(ActNormStep(layer, weights))
        elif type(layer) is LULinear:
            steps.append(LULinearStep(layer, weights, matrices, linears))
            linears += 1
        elif type(layer) is Rotation and layer.channels == 2:
            steps.append(RotationStep(layer, weights))
        else:
            steps.append(_Recorded(layers))
    return steps, matrices, _alike(steps, weights) if len(members) == 1 else []


def _alike(steps: Sequence[Step], weights: FlatWeights) -> list[Stacked]:
    """Lets couplings whose networks have one shape learn together."""
    groups: dict[object, list[CouplingStep]] = {}
    for step in steps:
        if isinstance(step, CouplingStep):
            groups.setdefault(tuple(weight.shape for weight in step.net.weights), []).append(step)
    stacked = []
    for group in groups.values():
        nets = [step.net for step in group]
        if len(group) > 1 and all(
            weights.are_side_by_side(same) for same in zip(*(net.parameters() for net in nets), strict=True)
        ):
            stacked.append(Stacked(nets, weights))
            for place, step in enumerate(group):
                step.join(stacked[-1], place)
    return stacked


def has_plain_net(layer: Bijection) -> bool:
    """Whether its network has a rule here: a ReLU `MLP` without residual layers, of a `Coupling` or of a
    `TriangularCoupling` of splines with parameters of its own."""
    if type(layer) is TriangularCoupling:
        if type(layer.elementwise) is not RationalQuadratic or not isinstance(layer.own, Tensor):
            return False
    elif type(layer) is not Coupling:
        return False
    net = layer.net
    return isinstance(net, MLP) and type(net) is MLP and net.activation == "relu" and not net.residual


def alike(layers: Sequence[Bijection]) -> bool:
    """Whether layers of several flows can take a step here together: couplings must differ in their weights alone."""

    def settings(layer: Bijection) -> object:
        if not has_plain_net(layer):
            return type(layer)
        coupling = cast(Coupling, layer)
        net = cast(MLP, coupling.net)
        return type(layer), coupling.elementwise, coupling.flip, net.context_dim

    return all(settings(layer) == settings(layers[0]) for layer in layers)
