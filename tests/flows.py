"""Flows that tests train or score, and the rows for them."""

from __future__ import annotations

import threading
from typing import TypeVar

import torch
from torch import Tensor, nn

import pushforward as pf
from pushforward.toys import TwoMoons

Module = TypeVar("Module", bound=nn.Module)


def small(features: int = 2, seed: int = 0, **settings: object) -> pf.Flow:
    return pf.real_nvp(features, depth=4, width=16, seed=seed, **settings)  # type: ignore[arg-type]


def moons(n: int = 1000, seed: int = 0) -> Tensor:
    return TwoMoons().sample(n, generator=torch.Generator().manual_seed(seed))


def stirred(density: Module, scale: float = 0.2, seed: int = 7) -> Module:
    """Every parameter moved away from its start, where what is wrong could hide in a zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in density.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=scale)
    return density


def mean_nll(density: pf.Density, x: Tensor) -> float:
    with torch.no_grad():
        return -float(density.log_prob(x).mean())


class Recorder(pf.Bijection):
    """The identity, which notes the sizes and threads it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.calls.append((len(x), threading.get_ident()))
        return x, x.new_zeros(len(x))

    inverse = forward


def state(flow: pf.Flow) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in flow.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether weights are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
