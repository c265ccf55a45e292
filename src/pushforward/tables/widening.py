"""Widening the base of a trained flow until rows that it was not fitted to are as likely as it says.

A flow that learned its training rows a little by heart sends other rows too far out in latent space. What is left to
do after training is closed form there: a scale for each latent, and a mixture of a few widths, both by maximum
likelihood on the validation rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import like
from ..bases import GaussianMixture, StandardNormal
from ..flow import Flow

_WIDTHS = (0.8, 1.2, 2.5)  # where the mixture starts
_PRIOR_ROWS = 20.0  # rows of the standard normal that are thought in, so that few validation rows do not run away
_ROUNDS = 100
_BOUNDS = (0.2, 20.0)


@torch.no_grad()
def widen(flow: Flow, x: Tensor, context: Tensor | None, weights: Tensor | None) -> float:
    """Gives a flow with a standard normal base one of several widths, fitted to validation rows.

    Args:
        flow: trained; only one with a standard normal base is changed.
        x: (N, D), validation rows.
        context: (N, K), of them.
        weights: (N,), of mean 1.

    Returns:
        What the mean negative log-density of these rows loses by it, in nats; 0.0 where nothing was changed.
    """
    features = flow.shape[0]
    recipe = flow.recipe
    if type(flow.base) is not StandardNormal or recipe is None or "components" not in recipe["arguments"]:
        return 0.0
    z = flow.f(x, context)[0].double()
    share = (torch.ones(len(z)) if weights is None else weights).to(z)
    squares = (share[:, None] * z.square()).sum(0)
    scale = ((squares + _PRIOR_ROWS) / (share.sum() + _PRIOR_ROWS)).sqrt().clamp(*_BOUNDS)
    radius = (z / scale).square().sum(1)
    widths, parts = _fitted(radius, share, features)
    base = GaussianMixture(
        features, len(widths), means=torch.zeros(len(widths), features), scales=(widths[:, None] * scale).float(),
        weights=parts.float(),
    ).to(like(flow))  # fmt: skip
    before = -(share * flow.base.log_prob(z.to(like(flow)))).mean()
    after = -(share * base.log_prob(z.to(like(flow)))).mean()
    if not bool(after < before):
        return 0.0
    flow.base = base.requires_grad_(any(p.requires_grad for p in flow.parameters()))  # what is frozen stays so
    recipe["arguments"]["components"] = len(widths)
    return float(before - after)


def _fitted(radius: Tensor, share: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """Squared radii (N,), weighted -> widths (K,) and parts (K,) of a mixture of normals about zero, by EM."""
    # Quantiles of chi^2 (Wilson and Hilferty 1931) stand for the thought-in rows.
    levels = (torch.arange(20, dtype=radius.dtype) + 0.5) / 20
    spread = 2 / (9 * features)
    prior = features * (1 - spread + math.sqrt(spread) * torch.special.ndtri(levels)).clamp(min=0.01) ** 3
    radius = torch.cat([radius, prior.to(radius)])
    share = torch.cat([share, torch.full_like(prior, _PRIOR_ROWS / len(prior)).to(share)])
    widths = torch.tensor(_WIDTHS, dtype=radius.dtype)
    parts = torch.tensor([0.3, 0.6, 0.1], dtype=radius.dtype)
    for _ in range(_ROUNDS):
        joint = parts.log() - features * widths.log() - 0.5 * radius[:, None] / widths.square()
        owner = share[:, None] * joint.softmax(1)
        total = owner.sum(0)
        widths = ((owner * radius[:, None]).sum(0) / (features * total).clamp(min=1e-9)).sqrt().clamp(*_BOUNDS)
        parts = (total / share.sum()).clamp(min=1e-6)
    return widths, parts / parts.sum()
