"""Mixtures of flows and simple densities: contexts, files, training, dtypes; simple densities at their edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward import baselines as simple

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def rows(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    c = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    return torch.stack([3 * c[:, 0], c[:, 1].square()], 1) + 0.3 * noise, c


CONDITIONAL = {
    "classes": lambda x, c: simple.fit_latent_classes(x, [], 0, context=c),
    "kernel": lambda x, c: simple.fit_mixed_kernel(x, [], 0, context=c),
    "gaussian": lambda x, c: simple.fit_gaussian(torch.cat([x, c], 1), 2),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_densities_ask_for_their_context(name: str) -> None:
    x, c = rows()
    density = CONDITIONAL[name](x, c)
    for wrong in (None, torch.ones(1), torch.ones(5, 3)):
        with pytest.raises(ValueError, match="expected a context of 2 columns, got"):
            density.sample(3, wrong)
    assert density.sample(3, c[:5]).shape == (3, 5, 2)
    assert density.sample(0, c[:5]).shape == (0, 5, 2)
    unknown = torch.tensor([[float("nan"), 1.0], [1.0, float("nan")], [float("nan")] * 2])
    drawn = density.sample(500, unknown, generator=0)
    assert bool(drawn.isfinite().all())
    assert abs(float(drawn[:, 1, 0].mean()) - 3) < 0.6  # what is known counts
    with pytest.raises(ValueError, match="expected a context of 2 columns, got none"):
        pf.Mixture([density, CONDITIONAL[name](x, c)]).sample(3)


@pytest.mark.parametrize("of", ["flows", "estimators", "a flow and a Gaussian"])
def test_mixtures_of_float64_densities_are_saved(of: str, tmp_path: Path) -> None:
    x, _ = rows()
    flows: list[Any] = [pf.real_nvp(2, depth=2, width=8, seed=k).double() for k in (0, 1)]
    if of == "estimators":
        flows = [
            pf.FlowDensity(steps=2, depth=2, width=8, stack=False, random_state=k).fit(x.numpy()).density_
            for k in (0, 1)
        ]
    if of == "a flow and a Gaussian":
        flows[1] = simple.fit_gaussian(x)
    mixture = pf.Mixture(flows, [0.3, 0.7])
    pf.save(mixture, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert torch.equal(again.log_prob(x.double()), mixture.eval().log_prob(x.double()))
    assert torch.equal(again.sample(20, generator=3), mixture.sample(20, generator=3))


def test_what_load_refuses_save_refuses(tmp_path: Path) -> None:
    mixed = pf.Mixture([pf.real_nvp(2, depth=2, width=8), pf.real_nvp(2, depth=2, width=8, seed=1).double()])
    impossible = simple.Frequencies([2], torch.tensor([0.0, -torch.inf]))
    for density, message in ((mixed, "several dtypes"), (impossible, "not finite")):
        with pytest.raises(ValueError, match=message):
            pf.save(density, tmp_path / "m.safetensors")
        assert not list(tmp_path.iterdir())


def test_mixtures_with_simple_densities_are_trained() -> None:
    x, _ = rows()
    gaussian, flow = simple.fit_gaussian(x), pf.real_nvp(2, depth=2, width=8)
    mixture, before = pf.Mixture([flow, gaussian]), float(flow.log_prob(x).mean())
    means = gaussian.means.clone()
    result = pf.fit(mixture, x, steps=30, progress="none", seed=0)
    assert float(flow.log_prob(x).mean()) > before + 0.1
    assert torch.equal(gaussian.means, means)
    assert np.isfinite(result.summary["best_val_nll"])
    with pytest.raises(ValueError, match="must have trainable parameters"):
        pf.fit(pf.Mixture([gaussian, simple.fit_gaussian(x)]), x, steps=2, progress="none")


def test_a_mixture_draws_and_rounds_alike_whichever_densities_are_drawn() -> None:
    x, _ = rows()
    mixture = pf.Mixture([pf.real_nvp(2, depth=2, width=8), simple.fit_gaussian(x)])
    assert {mixture.sample(1, generator=k).dtype for k in range(6)} == {torch.float64}
    with torch.no_grad():
        rounded = mixture.log_prob(x, precision="bf16")
    assert float((rounded - mixture.log_prob(x)).abs().max()) < 0.1


def test_gradients_of_rows_outside_a_support_are_no_nan() -> None:
    base = torch.distributions.LogNormal(torch.zeros(1), torch.ones(1))
    mixture = pf.Mixture([pf.Flow(pf.Chain(pf.LULinear(1)), 1, base=b) for b in (base, None)])
    mixture.log_prob(torch.tensor([[-3.0], [0.4]])).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in mixture.parameters())


def test_what_is_no_state_is_integrated_out() -> None:
    frequencies = simple.Frequencies([2, 3], torch.tensor([0.9, 0.1, 0.5, 0.25, 0.25]).log())
    odd = torch.tensor([[float("nan"), 1.0], [-1.0, 1.0], [2.0, 1.0]])
    assert frequencies.log_prob(odd).exp().tolist() == pytest.approx([0.25] * 3)


@pytest.mark.parametrize("n", [2, 3])
def test_few_rows_of_more_columns(n: int) -> None:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).double()
    for density in (simple.fit_shrunk_gaussian(x, 0), simple.fit_latent_classes(x, [], 0)):
        assert bool(density.log_prob(x).isfinite().all())


def test_samples_far_from_zero_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    x, years = (np.column_stack([m + s * rng.normal(size=1500), rng.normal(size=1500)]) for m, s in
                ((1.7e9, 20), (2000, 0.5)))  # fmt: skip
    flow = pf.real_nvp(2)
    pf.fit(flow, years, steps=20, progress="none")
    for density in (pf.fit("auto", x, steps=20, stack=False, seed=0, progress="none").density, flow):
        drawn, log_prob = density.sample_with_log_prob(500, generator=0)
        assert len(drawn[:, 0].unique()) > 490  # float32, of which two draws may be the same latent, has a step of 128
        torch.testing.assert_close(density.log_prob(drawn).double(), log_prob.double(), atol=0.01, rtol=0)
    assert pf.real_nvp(2).sample(3).dtype == torch.float32


def test_masked_cells_and_integers_are_read_as_they_are() -> None:
    z = np.random.default_rng(0).normal(size=(60, 2))
    z[:20, 0] = -9999
    masked = np.ma.masked_equal(z, -9999)
    model = pf.fit_table({"a": masked[:, 0], "b": masked[:, 1]}, steps=2, progress="none", stack=False)
    assert model.schema["a"].missing
    assert pf.real_nvp(2).space.read(np.array([[1_700_000_003, 1]])).tolist() == [[1_700_000_003, 1]]


@pytest.mark.parametrize("embed", [pf.StandardizeContext, pf.PreconditionContext])
def test_a_context_that_was_constant_counts_for_nothing(embed: Any) -> None:
    context = torch.stack([torch.full((60,), 2024.0), torch.randn(60, generator=torch.Generator().manual_seed(0))], 1)
    layer = embed(2)
    layer.initialize(context)
    later = context + torch.tensor([7.0, 0.0])
    torch.testing.assert_close(layer(later), layer(context))
    assert float(layer(later)[:, 0].abs().max()) < 1e-6
    assert float(layer(context)[:, 1].std()) == pytest.approx(1, abs=0.3)
