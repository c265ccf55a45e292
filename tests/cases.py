"""The registry: one line for each bijection and elementwise map; the generic tests check every line.

A concrete class without a line fails `test_registry.py::test_every_class_has_a_case`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import pushforward as pf


@dataclass(frozen=True)
class Case:
    """How to build one bijection, and the shape (C, *S) and context width K of what it takes."""

    name: str
    build: Callable[[], pf.Bijection]
    shape: tuple[int, ...] = (4,)
    context_dim: int = 0
    identity_at_zero: bool = True  # with all parameters at zero

    @property
    def kind(self) -> str:
        return self.name.split("/")[0]


class PointwiseNet(nn.Module):
    """A conditioner over (B, C, *S): one linear map at each site, so that couplings are tested with spatial axes."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out)

    def forward(self, h: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tanh(self.linear(h.movedim(1, -1))).movedim(-1, 1)


def mlp(features_in: int, features_out: int, context_dim: int = 0, **kwargs: object) -> pf.MLP:
    return pf.MLP(features_in, features_out, width=16, context_dim=context_dim, activation="tanh", **kwargs)  # type: ignore[arg-type]


def mask(*bits: int) -> torch.Tensor:
    return torch.tensor(bits)


def bounded(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, features), nn.Tanh())


def masked(*bits: int) -> pf.MaskedCoupling:
    return pf.MaskedCoupling(mask(*bits), bounded(len(bits)), bounded(len(bits)))


def fitted_standardize() -> pf.Standardize:
    layer = pf.Standardize(4)
    layer.initialize(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2, 3, 4]) + 5)
    return layer


BIJECTIONS = [
    Case("Chain/empty", lambda: pf.Chain()),
    Case("Chain", lambda: pf.Chain(pf.LULinear(4), pf.Coupling(mlp(2, 4), pf.Affine()), pf.ActNorm(4))),
    Case("Inverse", lambda: pf.Inverse(pf.Coupling(mlp(2, 4), pf.Affine()))),
    Case("Coupling/affine", lambda: pf.Coupling(mlp(2, 4), pf.Affine())),
    Case("Coupling/affine flipped", lambda: pf.Coupling(mlp(2, 4), pf.Affine(), flip=True)),
    Case("Coupling/shift", lambda: pf.Coupling(mlp(2, 2), pf.Shift())),
    Case("Coupling/residual", lambda: pf.Coupling(mlp(2, 4, residual=True, hidden_layers=3), pf.Affine())),
    Case("Coupling/context", lambda: pf.Coupling(mlp(2, 4, context_dim=3), pf.Affine()), (4,), 3),
    Case("Coupling/D=1", lambda: pf.Coupling(mlp(0, 2), pf.Affine()), (1,)),
    Case("Coupling/D=1 flipped", lambda: pf.Coupling(mlp(1, 0), pf.Affine(), flip=True), (1,)),
    Case("Coupling/D=1 context", lambda: pf.Coupling(mlp(0, 2, context_dim=2), pf.Affine()), (1,), 2),
    Case("Coupling/D=2", lambda: pf.Coupling(mlp(1, 2), pf.Affine()), (2,)),
    Case("Coupling/D=3", lambda: pf.Coupling(mlp(1, 4), pf.Affine()), (3,)),
    Case("Coupling/D=3 flipped", lambda: pf.Coupling(mlp(2, 2), pf.Affine(), flip=True), (3,)),
    Case("Coupling/image", lambda: pf.Coupling(PointwiseNet(1, 4), pf.Affine()), (3, 2, 2)),
    Case("MaskedCoupling", lambda: masked(0, 1, 0, 1)),
    Case("MaskedCoupling/D=1", lambda: masked(0), (1,)),
    Case("MaskedCoupling/all kept", lambda: masked(1, 1, 1), (3,)),
    Case("Permute", lambda: pf.Permute([2, 0, 3, 1]), identity_at_zero=False),
    Case("Permute/image", lambda: pf.Permute([2, 0, 1]), (3, 2, 2), identity_at_zero=False),
    Case("LULinear", lambda: pf.LULinear(4)),
    Case("LULinear/D=1", lambda: pf.LULinear(1), (1,)),
    Case("LULinear/image", lambda: pf.LULinear(3), (3, 2, 2)),
    Case("ActNorm", lambda: pf.ActNorm(4)),
    Case("ActNorm/image", lambda: pf.ActNorm(3), (3, 2, 2)),
    Case("Standardize", fitted_standardize, identity_at_zero=False),
    Case("Standardize/image", lambda: pf.Standardize(3), (3, 2, 2)),
]

ELEMENTWISE: list[pf.Elementwise] = [pf.Shift(), pf.Affine(), pf.Affine(clamp=0.5)]
