"""A saved density loads as the same density: replaced parts are noticed, by `save` and by `load(into=)`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pushforward as pf


class Twice(nn.Module):
    """An embedding with the buffers of the one it replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("std", torch.ones(2))
        self.register_buffer("initialized", torch.tensor(False))
        self.calls = 0

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2 * context


def laplace(flow: Any, scale: float = 1.0) -> None:
    flow.base = pf.FromDistribution(torch.distributions.Laplace(torch.zeros(3), scale * torch.ones(3)), 3)


def activation(flow: Any) -> None:
    flow.bijection[1].net.activation = "tanh"


def clamp(flow: Any) -> None:
    flow.bijection[1].elementwise = pf.Affine(1.0)


def embed(flow: Any) -> None:
    flow.embed = Twice()


def layer(flow: Any) -> None:
    flow.bijection.bijections.insert(1, pf.Permute([2, 0, 1]))


def exchanged(flow: Any) -> None:
    flow.bijection.bijections[-1] = pf.Standardize(3)


def permutation(flow: Any) -> None:
    flow.bijection.bijections[2] = pf.Permute([2, 1, 0] if flow.bijection[2].permutation[0] != 2 else [1, 0, 2])


def hook(flow: Any) -> None:
    flow.bijection[1].net.register_forward_hook(lambda module, inputs, output: 2 * output)


CHANGES = [laplace, activation, clamp, embed, layer, exchanged, permutation, hook]


def built() -> pf.Flow:
    return pf.real_nvp(3, context_dim=2, depth=3, width=8, mixing="permute", seed=4)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_flow_is_saved_as_its_parts(change: Callable[[Any], None], tmp_path: Path) -> None:
    flow, path = built(), tmp_path / "m.safetensors"
    change(flow)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.1)
    with pytest.warns(UserWarning, match="is not the one that its recipe real_nvp builds"):
        pf.save(flow, path)
    with pytest.raises(ValueError, match="was composed by hand: give load"):
        pf.load(path)
    with pytest.raises(ValueError, match=r"composition than that of `into`|does not fit"):
        pf.load(path, into=built())
    same = built()
    change(same)
    x, context = torch.randn(5, 3), torch.randn(5, 2)
    assert torch.equal(pf.load(path, into=same).log_prob(x, context), flow.log_prob(x, context))
    pf.save(built(), path)
    with pytest.raises(ValueError, match=r"composition than that of `into`|does not fit"):
        pf.load(path, into=same)


def test_an_unchanged_flow_loads_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    x = torch.randn(200, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for flow in (pf.real_nvp(3, seed=0), pf.spline_flow(3, components=2), pf.triangular_spline_flow(2).double()):
            pf.fit(flow, x[:, : flow.shape[0]], steps=5, progress="none")
            copied = copy.deepcopy(flow)
            copied.log_prob(x[:1, : flow.shape[0]])
            pf.save(copied, path)
            assert pf.load(path).recipe == flow.recipe
            assert pf.load(path, into=flow) is flow


def test_the_numbers_of_a_distribution_are_part_of_a_density(tmp_path: Path) -> None:
    def composed(scale: float) -> pf.Flow:
        return pf.Flow(pf.Chain(pf.ActNorm(2)), 2, base=torch.distributions.Laplace(torch.zeros(2), scale))

    path = tmp_path / "m.safetensors"
    pf.save(pf.Mixture([composed(1.0), composed(2.0)]), path)
    pf.load(path, into=pf.Mixture([composed(1.0), composed(2.0)]).double())
    with pytest.raises(ValueError, match=r"another composition .*base\.distribution is Independent"):
        pf.load(path, into=pf.Mixture([composed(1.0), composed(3.0)]))


def test_counters_of_a_module_of_ones_own_are_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    flow = pf.Flow(pf.Chain(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine())), 2, embed=Twice())
    flow.log_prob(torch.zeros(3, 2), torch.zeros(3, 2))
    pf.save(flow, path)
    other = pf.Flow(pf.Chain(pf.Coupling(pf.MLP(1, 2, context_dim=2), pf.Affine())), 2, embed=Twice())
    pf.load(path, into=other)
