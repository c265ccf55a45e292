"""A training step with the gradients of the common layers written out by hand.

Small networks spend most of a step on creating and recording operators, not on arithmetic. Here nothing is recorded
that need not be: halves stay views from layer to layer, each gradient is written straight into its place in the flat
buffer, activations live in memory that is used again, and the matrices of all `LULinear`s are made together. Layers
without a rule here are recorded one by one. Several flows of one shape take the step together, in batched products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...bases import StandardNormal
from ...bijections import Bijection, Chain, Standardize
from ...flow import Flow
from .layers import alike, has_plain_net, steps_of
from .tape import Buffers, Tape, apart, beside, by_columns, together, zero
from .weights import FlatWeights

CHUNK_ROWS = 2048  # rows whose activations a CPU works on at a time: more of them leave its caches (measured)


def has_rules(flows: Sequence[Flow]) -> bool:
    """Whether a step of flows by hand pays and is right.

    It does not where the flows are no `Chain`s over vectors that have a `Coupling` with a ReLU `MLP`, where a parameter
    is frozen or shared by two layers, or where couplings of the flows differ in more than weights.
    """
    flow, members = flows[0], [_layers(flow) for flow in flows]
    if len(flow.shape) != 1 or not any(has_plain_net(layer) for layer in members[0]):
        return False
    if not all(alike(layers) for layers in zip(*members, strict=True)):
        return False
    if any(not p.requires_grad for f in flows for p in f.parameters()):
        return False
    owners: list[nn.Module] = [*members[0], flow.base, *([] if flow.embed is None else [flow.embed])]
    return sum(len(list(module.parameters())) for module in owners) == len(list(flow.parameters()))


class GradientsByHand:
    """Stands for forward and backward of the mean negative log-likelihood, and overwrites the gradients.

    Args:
        flows: M for which `has_rules` holds.
        weights: theirs.
    """

    def __init__(self, flows: Sequence[Flow], weights: FlatWeights) -> None:
        flow = flows[0]
        self.flows = flows
        self.embedding = [p for f in flows if f.embed is not None for p in f.embed.parameters()]
        self.sizes = [flow.shape[0] // 2, flow.shape[0] - flow.shape[0] // 2]
        self.normal = type(flow.base) is StandardNormal
        constant = 0.5 * math.log(2 * math.pi) * flow.shape[0] if self.normal else 0.0
        self.constant = weights.flat.new_tensor(constant)
        self.scratch = Buffers()
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        members = [_layers(flow) for flow in flows]
        if type(members[0][0]) is Standardize:
            starts = [cast(Standardize, layers.pop(0)) for layers in members]
            self.mean, self.std = (together([getattr(s, name)[None] for s in starts]) for name in ("mean", "std"))
            self.constant = self.constant + self.std.log().sum((-2, -1))
        self.steps, self.matrices, self.stacked = steps_of(members, weights)

    @torch.no_grad()
    def __call__(self, x: Tensor, context: Tensor | None, weights: Tensor | None) -> Tensor:
        """x (B, D), context (B, K) or None, weights (B,) or None -> the loss (); for M flows each has an axis of M."""
        n = x.shape[-2]
        embedded = self._embed(context)
        share = x.new_full((*x.shape[:-1], 1), 1 / n) if weights is None else (weights / n)[..., None]
        values = None if embedded is None else embedded.detach()
        grad_context = torch.zeros_like(values) if self.embedding and values is not None else None
        size = n if x.device.type != "cpu" else math.ceil(n / math.ceil(n / CHUNK_ROWS))
        total = None
        for i in range(0, n, size):
            part = [None if t is None else t[..., i : i + size, :] for t in (x, values, grad_context, share)]
            loss = self._chunk(cast(Tensor, part[0]), part[1], part[2], cast(Tensor, part[3]), i == 0)
            total = loss if total is None else total + loss
        if grad_context is not None and embedded is not None:
            zero(self.embedding)
            torch.autograd.backward(embedded, grad_context)
        return cast(Tensor, total)

    def _embed(self, context: Tensor | None) -> Tensor | None:
        if context is None:
            return None
        with torch.set_grad_enabled(bool(self.embedding)):
            parts = apart(context, len(self.flows))
            return together([cast(Tensor, f._embedded(c)) for f, c in zip(self.flows, parts, strict=True)])

    def _chunk(
        self, x: Tensor, context: Tensor | None, grad_context: Tensor | None, share: Tensor, first: bool
    ) -> Tensor:
        """Part of the rows: x (..., B, D), their share in the mean (..., B, 1) -> their part of the loss (...)."""
        z = by_columns(x)
        if self.mean is not None and self.std is not None:
            z = (z - self.mean) / self.std
        tape = Tape(z, context, share, self.sizes, first, self.scratch)
        tape.grad_context = grad_context
        self.matrices.make()
        for step in self.steps:
            step.forward(tape)
        z = tape.whole()
        if self.normal:
            nll = 0.5 * z.square().sum(-1)
            gradient = z * share
        else:
            nll, gradient = self._base(z, tape)
        tape.split_gradient(gradient)
        for i in range(len(self.steps) - 1, -1, -1):
            self.steps[i].backward(tape, i > 0)
        self.matrices.backward(tape)
        for nets in self.stacked:
            nets.learn(tape)
        log_det = beside(tape.log_dets).sum(-1)
        constant = self.constant - sum(tape.constants)
        return (share[..., 0] * (nll - log_det + constant[..., None])).sum(-1)

    def _base(self, z: Tensor, tape: Tape) -> tuple[Tensor, Tensor]:
        """-> -log p_Z(z) (..., B), and the gradient of its mean in z (..., B, D)."""
        if tape.first:
            zero(p for flow in self.flows for p in flow.base.parameters())
        values, gradients = [], []
        count = len(self.flows)
        for flow, part, share in zip(self.flows, apart(z, count), apart(tape.minus_share, count), strict=True):
            with torch.enable_grad():
                leaf = part.detach().requires_grad_()
                log_prob = flow.base.log_prob(leaf)
            if log_prob.requires_grad:  # a uniform one is the same everywhere
                torch.autograd.backward(log_prob, share[:, 0])
            values.append(-log_prob.detach())
            gradients.append(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
        return together(values), together(gradients)


def _layers(flow: Flow) -> list[Bijection]:
    return [cast(Bijection, layer) for layer in flow.bijection.bijections] if type(flow.bijection) is Chain else []
