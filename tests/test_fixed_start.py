"""What a density begins with that no training changes, and what is left of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pushforward as pf
from flows import small


class Scale(pf.Bijection):
    """x times a number that is no part of its state."""

    is_fixed = True

    def __init__(self, factor: float, buffer: bool = False) -> None:
        super().__init__()
        self.factor = factor
        if buffer:
            self.register_buffer("one", torch.ones(1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.factor, x.new_full((len(x),), x.shape[1]) * torch.tensor(self.factor).log()

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z / self.factor, -z.new_full((len(z),), z.shape[1]) * torch.tensor(self.factor).log()


class WithItsSquare(nn.Module):
    """A context and its square."""

    is_fixed = True

    def forward(self, context: Tensor) -> Tensor:
        return torch.cat([context, context**2], -1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("buffer", [False, True])
def test_members_that_begin_with_other_maps_learn_as_they_do_alone(buffer: bool) -> None:
    def after(first: pf.Bijection) -> pf.Flow:
        return pf.Flow(pf.Chain(first, *small(standardize=False).bijection), 2)

    mixture = pf.Mixture([after(Scale(1.0, buffer)), after(Scale(5.0, buffer))])
    assert mixture.fixed_start() is None
    shared = Scale(2.0, buffer)
    assert pf.Mixture([after(shared), after(shared)]).fixed_start() is not None
    assert pf.Mixture([small(), small(seed=1)]).fixed_start() is not None
    x, alone = normal(400, 2), after(Scale(5.0, buffer))
    pf.fit(mixture, x, steps=30, batch=100, noise=0.0, val_fraction=0.0, progress="none")
    nll = [-float(density.log_prob(x).mean().detach()) for density in (mixture[1], alone)]
    assert nll[0] < nll[1] - 0.5


def test_a_fixed_embed_that_changes_the_width_is_trained_behind() -> None:
    def flow() -> pf.Flow:
        layer = pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine())
        return pf.Flow(pf.Chain(pf.Standardize(2), layer), 2, embed=WithItsSquare(), context_dim=1)

    context = normal(400, 1, seed=1)
    x = normal(400, 2) + context**2
    result = pf.fit(flow(), x, context=context, steps=200, progress="none").flow
    assert float(result.log_prob(x, context).mean().detach()) > float(flow().log_prob(x, context).mean().detach()) + 0.5
    with pytest.raises(ValueError, match=r"expected a context of shape \(N, 1\), got a context of shape \(N, 2\)"):
        pf.fit(flow(), x, (x, torch.cat([context, context], 1)), context=context, steps=2, progress="none")
