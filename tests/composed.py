"""Flows composed by hand, whose golden files hold weights alone: what `load(path, into=...)` takes, by file name.

A composition here is never changed, as a file of it exists: a new one gets a new name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import pushforward as pf


class Sites(nn.Module):
    """A conditioner over images: one linear map at each site."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out)

    def forward(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tanh(self.linear(h.movedim(1, -1))).movedim(-1, 1)


def _net(features_in: int, features_out: int, context_dim: int = 0, **settings: Any) -> pf.MLP:
    return pf.MLP(features_in, features_out, width=8, context_dim=context_dim, **settings)


def _bounded() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh())


def layers() -> pf.Flow:
    """A layer of each sort and each elementwise map, over a mixture."""
    spline = pf.RationalQuadratic(bins=4, bound=3.0)
    chain = pf.Chain(
        pf.Standardize(4),
        pf.LULinear(4),
        pf.Coupling(_net(2, 4, activation="tanh"), pf.Affine(clamp=2.0)),
        pf.Permute([2, 0, 3, 1]),
        pf.Coupling(_net(2, 2), pf.Shift(), flip=True),
        pf.Rotation(4),
        pf.Coupling(_net(2, 2 * pf.CubicRational().num_params), pf.CubicRational()),
        pf.Inverse(pf.Coupling(_net(2, 4, residual=True, hidden_layers=3), pf.Affine())),
        pf.Coupling(_net(2, 2 * pf.SinhArcsinh().num_params), pf.SinhArcsinh(), flip=True),
        pf.TriangularCoupling(_net(2, 2 * spline.num_params), spline, 4),
        pf.Coupling(_net(2, 2 * spline.num_params), spline, flip=True),
        pf.MaskedCoupling(torch.tensor([0, 1, 0, 1]), nn.Linear(4, 4), nn.Linear(4, 4)),
        pf.ActNorm(4),
    )
    return pf.Flow(chain, 4, pf.GaussianMixture(4, 3))


def context() -> pf.Flow:
    """Conditional layers, the context standardised, over a base from `torch.distributions`."""
    spline = pf.RationalQuadratic(bins=4)
    own = _net(0, spline.num_params, 2)
    chain = pf.Chain(
        pf.Coupling(_net(1, 4, 2), pf.Affine()),
        pf.TriangularCoupling(_net(1, 2 * spline.num_params, 2), spline, 3, False, own),
        pf.ActNorm(3),
    )
    base = torch.distributions.Laplace(torch.zeros(3), torch.ones(3))
    return pf.Flow(chain, 3, base, pf.StandardizeContext(2), context_dim=2)


def image() -> pf.Flow:
    """Over images of 3 channels and 2 x 2 sites."""
    coupling = pf.Coupling(Sites(1, 4), pf.Affine())
    return pf.Flow(pf.Chain(pf.ActNorm(3), coupling, pf.LULinear(3), pf.Rotation(3), pf.Standardize(3)), (3, 2, 2))


def networks() -> pf.Flow:
    """The textbook's Real NVP with a prior from `torch.distributions`."""
    prior = torch.distributions.MultivariateNormal(torch.zeros(3), torch.tensor([1.0, 2.0, 0.5]).diag())
    masks = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    return pf.real_nvp_from_networks(_bounded, _bounded, masks, prior)


def networks_mixture() -> pf.Flow:
    """The textbook's Real NVP over a mixture that is learned."""
    return pf.real_nvp_from_networks(_bounded, _bounded, torch.tensor([[0, 1, 0], [1, 0, 1]]), pf.GaussianMixture(3, 2))


def ensemble() -> pf.Ensemble:
    """Members without a recipe."""
    return pf.Ensemble([networks() for _ in range(2)])


COMPOSED: dict[str, Callable[[], pf.Flow | pf.Ensemble]] = {
    "composed_layers_v1": layers,
    "composed_context_v1": context,
    "composed_image_v1": image,
    "networks_v1": networks,
    "networks_mixture_v1": networks_mixture,
    "ensemble_composed_v1": ensemble,
}
