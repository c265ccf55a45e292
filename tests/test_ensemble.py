"""Ensembles: exact mixtures whose members train side by side, each as if it were alone with its batches."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import pushforward as pf
from flows import moons
from pushforward.recipes import RECIPES
from pushforward.switch import PLAIN


def members(count: int = 3, features: int = 2, recipe: str = "real_nvp", **kwargs: object) -> pf.Mixture:
    size = {"depth": 3, "width": 8} | kwargs
    return pf.Ensemble([RECIPES[recipe](features, seed=k, **size) for k in range(count)])  # type: ignore[arg-type]


def test_the_density_is_the_mean_of_the_members() -> None:
    ensemble, x = members(context_dim=1).double(), torch.randn(4, 5, 2, dtype=torch.float64)
    context = torch.randn(5, 1)
    expected = torch.stack([flow.log_prob(x, context).exp() for flow in ensemble]).mean(0).log()
    torch.testing.assert_close(ensemble.log_prob(x, context), expected)
    torch.testing.assert_close(ensemble(x[0], context.double()), expected[0])


def test_samples_come_from_all_members_with_their_contexts() -> None:
    flows = [pf.Flow(pf.Chain(pf.ActNorm(2)), 2) for _ in range(2)]
    with torch.no_grad():
        shift_of(flows[1]).fill_(-100.0)  # data to latent: its samples are at 100
    x = pf.Ensemble(flows).sample(4000, generator=torch.Generator().manual_seed(0))
    assert float((x[:, 0] > 50).float().mean()) == pytest.approx(0.5, abs=0.05)
    ensemble = members(context_dim=1)
    x, log_prob = ensemble.sample_with_log_prob(7, torch.randn(3, 1))
    assert x.shape == (7, 3, 2)
    assert log_prob.shape == (7, 3)
    assert members().sample(0).shape == (0, 2)


def shift_of(flow: pf.Flow) -> torch.Tensor:
    return next(m for m in flow.modules() if isinstance(m, pf.ActNorm)).shift


def test_wrong_members_are_told() -> None:
    flow = pf.real_nvp(2, depth=2, width=8)
    with pytest.raises(ValueError, match="at least one flow"):
        pf.Ensemble([])
    with pytest.raises(ValueError, match="flow 1 differs from flow 0"):
        pf.Ensemble([flow, pf.real_nvp(2, depth=2, width=9)])
    with pytest.raises(ValueError, match="must not share"):
        pf.Ensemble([flow, flow])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"activation": "tanh"}], ids=["by hand", "by autograd"])
def test_members_learn_each_by_itself(settings: dict[str, object]) -> None:
    ensemble = members(depth=4, width=16, **settings)
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]])
    record = pf.fit(ensemble, x, steps=300, progress="none")
    assert record.flow is ensemble
    truth = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[4.0, 2.0], [2.0, 1.25]]))
    fresh = truth.sample((4000,))
    with torch.no_grad():
        gaps = [float((truth.log_prob(fresh) - flow.log_prob(fresh)).mean()) for flow in ensemble]
        gap = float((truth.log_prob(fresh) - ensemble.log_prob(fresh)).mean())
    assert max(gaps) < 0.06
    assert max(gaps) - min(gaps) > 1e-5
    assert gap < sum(gaps) / 3
    storages = {p.untyped_storage().data_ptr() for p in ensemble.parameters()}
    assert len(storages) == len(list(ensemble.parameters()))


def test_one_member_is_the_flow() -> None:
    flow, ensemble = pf.real_nvp(2, depth=3, width=8, seed=0), members(1)
    for model in (flow, ensemble):
        pf.fit(model, moons(), steps=40, progress="none")
    assert torch.equal(flow.log_prob(moons(9)), ensemble[0].log_prob(moons(9)))


def test_resume_equals_an_unbroken_run(tmp_path: Path) -> None:
    whole, parts = members(2), members(2)
    list(pf.train(whole, moons(), epochs=6, batch=64))
    for epoch in pf.train(parts, moons(), epochs=6, batch=64, checkpoint=tmp_path):
        if epoch.epoch >= 3:
            break
    resumed = members(2)
    list(pf.train(resumed, moons(), epochs=6, batch=64, checkpoint=tmp_path))
    assert torch.equal(whole.log_prob(moons(9)), resumed.log_prob(moons(9)))


def test_files(tmp_path: Path) -> None:
    ensemble, x = members(context_dim=1), torch.randn(5, 2)
    context = torch.randn(5, 1)
    pf.save(ensemble, tmp_path / "m.safetensors", about={"columns": ["a", "b"]}, training={"steps": 1})
    again = pf.load(tmp_path / "m.safetensors")
    assert isinstance(again, pf.Mixture)
    assert len(again) == 3
    assert torch.equal(again.log_prob(x, context), ensemble.log_prob(x, context))
    assert again.about == {"columns": ["a", "b"]}
    assert again.training_summary == {"steps": 1}
    assert [flow.recipe for flow in again] == [flow.recipe for flow in ensemble]
    into = members(context_dim=1)
    pf.load(tmp_path / "m.safetensors", into=into)
    assert torch.equal(into.log_prob(x, context), ensemble.log_prob(x, context))
    with pytest.raises(ValueError, match="does not fit"):
        pf.load(tmp_path / "m.safetensors", into=members(2, context_dim=1))


@pytest.mark.parametrize("count", [0, -1, 10**9, "3", True, None, 2])
def test_a_damaged_number_of_members_is_told(count: object, tmp_path: Path) -> None:
    from pushforward.io.tensors import read_tensors, write_tensors

    path = tmp_path / "m.safetensors"
    pf.save(members(), path)
    header, tensors = read_tensors(path)
    write_tensors(path, tensors, header | {"settings": {"densities": count}})
    with pytest.raises(ValueError, match=r"damaged|bad list of densities|does not fit"):
        pf.load(path)


@pytest.mark.skipif(PLAIN, reason="rounded products are fast code")
def test_rounded_products_of_several_members_warn_once() -> None:
    ensemble = members()
    with torch.no_grad(), warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        ensemble.log_prob(torch.randn(50, 2), precision="bf16")
    assert len(messages) == 1
    assert "by up to" in str(messages[0].message)
