"""A training step with the gradients of the common layers written out by hand.

Small networks spend most of a step on creating and recording operators, not on arithmetic. Here nothing is recorded
that need not be: halves stay views from layer to layer, each gradient is written straight into its place in the flat
buffer, activations live in memory that is used again, and the matrices of all `LULinear`s are made together. Layers
without a rule here are recorded one by one. Several flows of one shape take the step together, in batched products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...bases import StandardNormal
from ...bijections import Bijection, Chain, Standardize
from ...flow import Flow
from .layers import alike, has_plain_net, steps_of
from .tape import Buffers, Rows, apart, beside, by_columns, together, zero
from .weights import FlatWeights

Loss = Callable[[Tensor, "Tensor | None", "Tensor | None"], Tensor]
CHUNK_ROWS = 2048  # rows whose activations a CPU works on at a time: more of them leave its caches (measured)


def closed_form(flows: Sequence[Flow], held: FlatWeights) -> Loss | None:
    """A function that stands for forward and backward, and overwrites the gradients.

    For one flow it takes x (B, D), context (B, K) or None, weights (B,) or None, and returns the mean NLL (). For M
    flows of one shape each of these has a leading axis of M.

    Returns:
        None where autograd serves as well: the flows are no `Chain`s over vectors that have a `Coupling` with a ReLU
        `MLP`, a parameter is frozen or shared by two layers, or couplings of the flows differ in more than weights.
    """
    flow = flows[0]
    members = [_layers(flow) for flow in flows]
    if len(flow.shape) != 1 or not any(has_plain_net(layer) for layer in members[0]):
        return None
    if not all(alike(layers) for layers in zip(*members, strict=True)):
        return None
    owners: list[nn.Module] = [*members[0], flow.base, *([] if flow.embed is None else [flow.embed])]
    if any(not p.requires_grad for f in flows for p in f.parameters()) or sum(
        len(list(module.parameters())) for module in owners
    ) != len(list(flow.parameters())):
        return None
    starts = None
    if type(members[0][0]) is Standardize:
        starts = [cast(Standardize, layers.pop(0)) for layers in members]
    steps, matrices, together_learned = steps_of(members, held)
    count, features = len(flows), flow.shape[0]
    normal = type(flow.base) is StandardNormal
    embedding = [] if flow.embed is None else [p for f in flows for p in cast(nn.Module, f.embed).parameters()]
    sizes = [features // 2, features - features // 2]
    constant = held.flat.new_tensor(0.5 * math.log(2 * math.pi) * features if normal else 0.0)
    mean = std = None
    if starts is not None:
        mean, std = (together([getattr(s, name)[None] for s in starts]) for name in ("mean", "std"))
        constant = constant + std.log().sum((-2, -1))
    scratch = Buffers()

    def of_chunk(x: Tensor, context: Tensor | None, of_context: Tensor | None, share: Tensor, first: bool) -> Tensor:
        z = by_columns(x)
        if mean is not None and std is not None:
            z = (z - mean) / std
        rows = Rows(z, context, share, sizes, first, scratch)
        rows.of_context = of_context
        matrices.make()
        for step in steps:
            step.forward(rows)
        z = rows.whole()
        if normal:
            nll = 0.5 * z.square().sum(-1)
            gradient = z * share
        else:
            nll, gradient = _of_base(flows, z, rows)
        rows.split_gradient(gradient)
        for i in range(len(steps) - 1, -1, -1):
            steps[i].backward(rows, i > 0)
        matrices.pass_on(rows)
        for nets in together_learned:
            nets.learn(rows)
        log_det = beside(rows.log_dets).sum(-1)
        shared = constant - sum(rows.constants)
        return (share[..., 0] * (nll - log_det + shared[..., None])).sum(-1)

    @torch.no_grad()
    def loss(x: Tensor, context: Tensor | None, weights: Tensor | None) -> Tensor:
        n = x.shape[-2]
        with torch.set_grad_enabled(bool(embedding)):
            embedded = None
            if context is not None:
                parts = [cast(Tensor, f._embedded(c)) for f, c in zip(flows, apart(context, count), strict=True)]
                embedded = together(parts)
        share = x.new_full((*x.shape[:-1], 1), 1 / n) if weights is None else (weights / n)[..., None]
        given = None if embedded is None else embedded.detach()
        of_context = torch.zeros_like(given) if embedding and given is not None else None
        size = n if x.device.type != "cpu" else math.ceil(n / math.ceil(n / CHUNK_ROWS))
        total = None
        for i in range(0, n, size):
            part = [None if t is None else t[..., i : i + size, :] for t in (x, given, of_context, share)]
            found = of_chunk(cast(Tensor, part[0]), part[1], part[2], cast(Tensor, part[3]), i == 0)
            total = found if total is None else total + found
        if of_context is not None and embedded is not None:
            zero(embedding)
            torch.autograd.backward(embedded, of_context)
        return cast(Tensor, total)

    return loss


def recorded(forwards: Sequence[Callable[..., Tensor]], held: FlatWeights) -> Loss:
    """The same by autograd, flow by flow, for any flows or their compiled forms."""
    count = len(forwards)

    def loss(x: Tensor, context: Tensor | None, weights: Tensor | None) -> Tensor:
        held.gradient.zero_()
        losses = []
        nothing = [None] * count
        contexts, shares = (nothing if t is None else apart(t, count) for t in (context, weights))
        for forward, rows, c, w in zip(forwards, apart(x, count), contexts, shares, strict=True):
            log_prob = forward(rows, c)
            nll = -(log_prob if w is None else log_prob * w).mean()
            nll.backward()  # adds to the parameters' views of the flat gradient while it is still in cache
            losses.append(nll.detach())
        return together(losses)

    return loss


def _layers(flow: Flow) -> list[Bijection]:
    return [cast(Bijection, layer) for layer in flow.bijection.bijections] if type(flow.bijection) is Chain else []


def _of_base(flows: Sequence[Flow], z: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """-> -log p_Z(z) (..., B), and the gradient of its mean in z (..., B, D)."""
    if rows.first:
        zero(p for flow in flows for p in flow.base.parameters())
    found = []
    for flow, part, share in zip(flows, apart(z, len(flows)), apart(rows.minus_share, len(flows)), strict=True):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_()
            log_prob = flow.base.log_prob(leaf)
        torch.autograd.backward(log_prob, share[:, 0])
        found.append((-log_prob.detach(), cast(Tensor, leaf.grad)))
    return together([nll for nll, _ in found]), together([gradient for _, gradient in found])
