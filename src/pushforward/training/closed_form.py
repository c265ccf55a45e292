"""A training step with the gradients of the common layers written out by hand.

Small networks spend most of a step on creating and recording operators, not on arithmetic. Here nothing is recorded
that need not be: halves stay views from layer to layer, each gradient is written straight into its place in the flat
buffer, and the matrices of all `LULinear`s are made together. Layers without a rule here are recorded one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ..bases import StandardNormal
from ..bijections import Bijection, Chain, LULinear, Standardize
from ..flow import Flow
from .steps import Matrices, Rows, has_plain_net, step_of, zero

Loss = Callable[[Tensor, "Tensor | None", "Tensor | None"], Tensor]


def closed_form(flow: Flow) -> Loss | None:
    """A function that stands for forward and backward: (x (B, D), context, weights (B,)) -> the mean NLL, a scalar.

    It overwrites the `grad` of every parameter, which must exist (as in `FlatWeights`).

    Returns:
        None where autograd serves as well: the flow is no `Chain` over vectors that has a `Coupling` with a ReLU
        `MLP`, a parameter is frozen, or one is shared by two layers.
    """
    layers = [cast(Bijection, layer) for layer in flow.bijection.bijections] if type(flow.bijection) is Chain else []
    if len(flow.shape) != 1 or not any(has_plain_net(layer) for layer in layers):
        return None
    owners: list[nn.Module] = [*layers, flow.base, *([] if flow.embed is None else [flow.embed])]
    if any(not p.requires_grad or p.grad is None for p in flow.parameters()) or sum(
        len(list(module.parameters())) for module in owners
    ) != len(list(flow.parameters())):
        return None
    start = cast(Standardize, layers.pop(0)) if type(layers[0]) is Standardize else None
    matrices = Matrices([layer for layer in layers if type(layer) is LULinear])
    steps = [step_of(layer, matrices) for layer in layers]
    normal = type(flow.base) is StandardNormal
    embedding = [] if flow.embed is None else list(flow.embed.parameters())
    features = flow.shape[0]
    sizes = [features // 2, features - features // 2]
    constant = 0.0 if start is None else float(start.std.log().sum())
    if normal:
        constant += 0.5 * math.log(2 * math.pi) * features

    @torch.no_grad()
    def loss(x: Tensor, context: Tensor | None, weights: Tensor | None) -> Tensor:
        with torch.set_grad_enabled(bool(embedding)):
            embedded = flow._embedded(context)
        z = x if start is None else (x - start.mean) / start.std
        share = z.new_full((len(z),), 1 / len(z)) if weights is None else weights / len(z)
        rows = Rows(list(z.split(sizes, 1)), None if embedded is None else embedded.detach(), share, sizes)
        if embedding and embedded is not None:
            rows.of_context = torch.zeros_like(embedded)
        matrices.make()
        log_det = None
        for step in steps:
            added = step.forward(rows)
            log_det = added if log_det is None else log_det + added
        assert log_det is not None
        z = rows.whole()
        if normal:
            nll = 0.5 * z.square().sum(1)
            gradient = z * share[:, None]
        else:
            nll, gradient = _of_base(flow, z, share)
        rows.split_gradient(gradient)
        for i in range(len(steps) - 1, -1, -1):
            steps[i].backward(rows, i > 0)
        matrices.pass_on(share)
        if rows.of_context is not None and embedded is not None:
            zero(embedding)
            torch.autograd.backward(embedded, rows.of_context)
        return (share * (nll - log_det + constant)).sum()

    return loss


def _of_base(flow: Flow, z: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """-> -log p_Z(z) (B,), and the gradient of its mean in z (B, D)."""
    zero(flow.base.parameters())
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        log_prob = flow.base.log_prob(leaf)
    torch.autograd.backward(log_prob, -share)
    return -log_prob.detach(), cast(Tensor, leaf.grad)
