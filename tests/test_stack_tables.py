"""Stacking of tables: what few rows get beside the flow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.baselines import fit_baselines
from pushforward.training.stack import FEW_ROWS, mixing_weights

QUICK = {"steps": 30, "progress": "none", "depth": 2, "width": 8}


def mixed_rows(n: int, seed: int = 0) -> dict[str, object]:
    """Two classes, each with a Gaussian of its own; what latent classes describe exactly."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    size = rng.normal(0, 1, n) + 6 * kind
    return {"kind": np.array(["a", "b"])[kind].tolist(), "size": size, "weight": 2 * size + rng.normal(0, 0.5, n)}


def weights_of(density: pf.TableDensity) -> dict[str, float]:
    assert density.training_summary is not None
    return density.training_summary["stack"]


def test_weights_are_those_of_the_mixture_that_rows_come_from() -> None:
    generator = torch.Generator().manual_seed(0)
    narrow = torch.randn(9000, generator=generator, dtype=torch.float64)
    wide = 5 * torch.randn(3000, generator=generator, dtype=torch.float64)
    x = torch.cat([narrow, wide])
    log_probs = torch.stack([torch.distributions.Normal(0.0, s).log_prob(x) for s in (1.0, 5.0)])
    assert mixing_weights(log_probs).tolist() == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_density_that_excludes_rows_keeps_a_weight() -> None:
    log_probs = torch.tensor([[0.0, 0.0, -torch.inf], [-2.0, -2.0, -2.0]])
    weights = mixing_weights(log_probs)
    assert weights.isfinite().all()
    assert float(weights.min()) > 0.02


def test_few_rows_get_a_mixture_that_is_exact_and_saved_in_one_file(tmp_path: Path) -> None:
    rows, new = mixed_rows(200), mixed_rows(50, seed=1)
    density = pf.fit_table(rows, **QUICK)
    weights = weights_of(density)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["flow"] < 0.5  # of a flow of 30 steps
    each = torch.stack([density.space.wrap(part).log_prob(new) for part in cast(pf.Mixture, density.inner)])
    mixed = (each + torch.tensor(list(weights.values())).log()[:, None]).logsumexp(0)
    assert torch.allclose(density.log_prob(new).double(), mixed.double(), atol=1e-4)
    pf.save(density, tmp_path / "model.safetensors")
    again = pf.load(tmp_path / "model.safetensors")
    assert torch.equal(density.log_prob(new), again.log_prob(new))
    assert density.sample(5, generator=0).to_pydict() == again.sample(5, generator=0).to_pydict()


def test_samples_come_from_the_whole_mixture() -> None:
    density = pf.fit_table(mixed_rows(400), **QUICK)
    drawn = density.sample(4000, generator=0).to_pydict()
    size, is_b = np.array(drawn["size"]), np.array(drawn["kind"]) == "b"
    assert is_b.mean() == pytest.approx(0.5, abs=0.06)
    assert size[is_b].mean() - size[~is_b].mean() == pytest.approx(6, abs=0.6)


def test_a_stack_is_not_behind_the_best_simple_density() -> None:
    rows, new = mixed_rows(150), mixed_rows(2000, seed=1)
    density = pf.fit_table(rows, **QUICK)
    alone = pf.fit_table(rows, stack=False, **QUICK)
    space = density.space
    simple = fit_baselines(space.encode(space.read(rows)), space.sizes, None, 0)
    best = max(float(space.wrap(fitted).log_prob(new).mean()) for fitted in simple.values())
    assert float(density.log_prob(new).mean()) > best - 0.05
    assert float(density.log_prob(new).mean()) > float(alone.log_prob(new).mean())


def test_a_stack_conditions_on_what_is_given() -> None:
    density = pf.fit_table(mixed_rows(300), given=["kind"], **QUICK)
    assert len(weights_of(density)) > 1
    drawn = density.sample(1000, {"kind": ["b"]}, generator=0).to_pydict()
    assert np.mean(drawn["size"]) == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("how", ["stack=False", "many rows", "weights"])
def test_who_is_not_stacked(how: str) -> None:
    rows = mixed_rows(FEW_ROWS + 1 if how == "many rows" else 100)
    asked = {"stack=False": {"stack": False}, "weights": {"weights": np.ones(100)}}.get(how, {})
    density = pf.fit_table(rows, **QUICK | asked)  # type: ignore[operator]
    assert "stack" not in (density.training_summary or {})


def test_a_stack_that_cannot_be_is_refused() -> None:
    table = {"x": np.random.default_rng(0).normal(size=60)}
    with pytest.raises(ValueError, match="rows cannot be stacked: they have weights"):
        pf.fit_table(table, stack=True, weights=np.ones(60), steps=1, progress="none")
    with pytest.raises(ValueError, match="rows cannot be stacked: none are held out"):
        pf.fit_table(table, stack=True, val_fraction=0.0, steps=1, progress="none")


@pytest.mark.slow
def test_simple_densities_count_to_the_time() -> None:
    rng = np.random.default_rng(0)
    table = {f"x{k}": rng.normal(size=1500) for k in range(6)} | {"kind": rng.choice(list("abcd"), 1500)}
    pf.fit_table(table, steps=1, progress="none", stack=False)  # what is loaded once
    began = time.perf_counter()
    density = pf.fit_table(table, seconds=8.0, patience=None, progress="none")
    assert time.perf_counter() - began < 13
    assert "stack" in (density.training_summary or {})
