"""Checkpoints: a broken run goes on as an unbroken one, and those of other runs are refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import pushforward as pf
from flows import moons, same, small, state
from pushforward.io.tensors import read_tensors, write_tensors


@pytest.mark.parametrize("settings", [{}, {"ema": 0.0, "val_fraction": 0.0}], ids=["default", "plain"])
def test_resume_equals_an_unbroken_run_bit_for_bit(tmp_path: Path, settings: dict[str, object]) -> None:
    whole, broken, resumed = small(), small(), small()
    straight = list(pf.train(whole, moons(), epochs=10, batch=64, **settings))  # type: ignore[arg-type]
    first = []
    for epoch in pf.train(broken, moons(), epochs=10, batch=64, checkpoint=tmp_path, **settings):  # type: ignore[arg-type]
        first.append(epoch)
        if len(first) == 5:
            break
    second = list(pf.train(resumed, moons(), epochs=10, batch=64, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert len(second) == 5
    assert same(state(whole), state(resumed))
    assert [e.train_nll for e in first + second] == [e.train_nll for e in straight]
    assert [e.val_nll for e in first + second] == [e.val_nll for e in straight]


def test_a_constant_rate_can_be_extended_bit_for_bit(tmp_path: Path) -> None:
    whole, parts = small(), small()
    settings: dict[str, object] = {"schedule": "constant", "warmup": 0.0, "patience": None}
    list(pf.train(whole, moons(), epochs=10, **settings))  # type: ignore[arg-type]
    list(pf.train(parts, moons(), epochs=5, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    resumed = small()
    list(pf.train(resumed, moons(), epochs=10, checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert same(state(whole), state(resumed))


def test_a_run_that_was_over_is_told_as_it_was(tmp_path: Path) -> None:
    first, second = small(), small()
    before = pf.fit(first, moons(), steps=60, checkpoint=tmp_path, batch=90, progress="none")
    after = pf.fit(second, moons(), steps=60, checkpoint=tmp_path, batch=90, progress="none")
    assert same(state(first), state(second))
    summaries = [{k: f.summary[k] for k in ("steps", "epochs", "best_val_nll")} for f in (before, after)]
    assert summaries[0] == summaries[1]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    with pytest.raises(ValueError, match="run with other settings"):
        pf.fit(small(), moons(), epochs=1, batch=100, checkpoint=tmp_path, progress="none")
    for change in ({"data": moons() + 1}, {"weight_decay": 0.5}, {"clip": None}):
        with pytest.raises(ValueError, match="run with other settings"):
            pf.fit(small(), **{"data": moons(), "epochs": 1, "checkpoint": tmp_path, "progress": "none"} | change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another flow"):
        pf.fit(pf.real_nvp(2, depth=2), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    (tmp_path / "training.safetensors").write_bytes(b"\x08broken")
    with pytest.raises(ValueError, match="damaged"):
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")


def test_a_checkpoint_of_another_objective_is_refused(tmp_path: Path) -> None:
    def scaled(density: pf.Density, batch: pf.Batch, scale: float) -> torch.Tensor:
        return scale * pf.negative_log_likelihood(density, batch)

    def run(scale: float) -> None:
        objective = partial(scaled, scale=scale)
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none", objective=objective)

    run(1.0)
    run(1.0)
    with pytest.raises(ValueError, match="other settings"):
        run(2.0)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")
    header, tensors = read_tensors(tmp_path / "training.safetensors")
    write_tensors(tmp_path / "training.safetensors", tensors, header | {"format_version": 1})
    with pytest.raises(ValueError, match="another version of pushforward"):
        pf.fit(small(), moons(), epochs=1, checkpoint=tmp_path, progress="none")


def test_a_checkpoint_holds_weights_by_name(tmp_path: Path) -> None:
    flow = small()
    pf.fit(flow, moons(), epochs=2, checkpoint=tmp_path, progress="none")
    _, tensors = read_tensors(tmp_path / "training.safetensors")
    for name, p in flow.fixed_start().rest.named_parameters():  # of what is trained
        assert tensors[f"member/0/weights/{name}"].shape == p.shape
        assert tensors[f"member/0/average/{name}"].shape == p.shape


@pytest.mark.parametrize("with_val", [False, True])
def test_a_function_of_its_own_randomness_goes_on_with_the_map_that_it_began_with(
    tmp_path: Path, with_val: bool
) -> None:
    rng, val = np.random.default_rng(0), moons(seed=1) if with_val else None

    def draw(n: int, generator: torch.Generator) -> torch.Tensor:
        return 3 + torch.tensor(rng.normal(size=(n, 2)) * rng.uniform(1, 2), dtype=torch.float32)

    first, second = small(), small()
    for epoch in pf.train(first, draw, val, steps=512, batch=64, checkpoint=tmp_path):
        if epoch.step >= 128:
            break
    pf.fit(second, draw, val, steps=512, batch=64, checkpoint=tmp_path, progress="none")
    assert all(map(torch.equal, first.bijection[0].buffers(), second.bijection[0].buffers()))
