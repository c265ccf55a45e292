"""Settings of a training: each with its default and range, optimizers, and what a checkpoint keeps of them."""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from flows import mean_nll, moons, small
from pushforward.training import Batch, TrainSettings, negative_log_likelihood
from pushforward.training.settings import check_settings


@pytest.mark.parametrize(
    "make", [partial(torch.optim.SGD, lr=0.05, momentum=0.9), torch.optim.Adam, partial(torch.optim.RMSprop, lr=3e-3)]
)
def test_any_optimizer_of_torch_trains(make: object, tmp_path: Path) -> None:
    whole, parts = small(), small()
    before = mean_nll(whole, moons())
    settings = {"optimizer": make, "epochs": 8, "batch": 50}
    records = list(pf.train(whole, moons(), **settings))  # type: ignore[arg-type]
    assert mean_nll(whole, moons()) < before - 0.3
    assert max(r.lr for r in records) <= inspect.signature(make).parameters["lr"].default  # type: ignore[arg-type]
    for epoch in pf.train(parts, moons(), checkpoint=tmp_path, **settings):  # type: ignore[arg-type]
        if epoch.epoch >= 3:
            break
    list(pf.train(parts, moons(), checkpoint=tmp_path, **settings))  # type: ignore[arg-type]
    assert torch.equal(whole.log_prob(moons()), parts.log_prob(moons()))


def test_a_rate_beside_an_optimizer_is_refused() -> None:
    names = [field.name for field in dataclasses.fields(TrainSettings) if field.metadata["of_adamw"]]
    assert set(names) <= TrainSettings().adamw.keys()
    for name in names:
        with pytest.raises(ValueError, match=f"{name} is the optimizer's own"):
            pf.fit(small(), moons(), optimizer=torch.optim.Adam, progress="none", **{name: 0.1})  # type: ignore[arg-type]


def test_train_takes_every_setting_with_its_default() -> None:
    own = {f.name: f.default for f in dataclasses.fields(TrainSettings)}
    data = ("density", "data", "val", "context", "weights")
    taken = {n: p.default for n, p in inspect.signature(pf.train).parameters.items() if n not in data}
    assert taken == own
    for field in dataclasses.fields(TrainSettings):
        assert f"\n        {field.name}: " in (pf.train.__doc__ or "")
        assert field.metadata["help"]
        assert field.metadata["is_valid"](field.default)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainSettings)])
def test_a_setting_of_a_wrong_kind_is_told_with_its_range(name: str) -> None:
    wanted = next(f.metadata["range"] for f in dataclasses.fields(TrainSettings) if f.name == name)
    with pytest.raises(ValueError, match=f"{name} must be {wanted}, got"):
        check_settings({name: [1.5]})


ANOTHER: dict[str, Any] = {
    "batch": 50, "batch_growth": 4, "lr": 1e-4, "weight_decay": 5.0, "noise": 0.5, "dropout": 0.5,
    "schedule": "constant", "warmup": 0.5, "ema": 0.0, "clip": 0.01, "seed": 1,
    "precision": "bf16",
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(TrainSettings) if f.metadata["same_when_resumed"]])
def test_every_setting_takes_effect_and_a_checkpoint_keeps_it(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "batch": 100, "batch_growth": 1, "lr": 1e-2, "weight_decay": 0.0, "noise": 0.0, "patience": None, "steps": 40,
        "check": False, "progress": "none",
    }  # fmt: skip
    x, val = moons(400), moons(100, seed=1)
    densities = []
    for changed in ({}, {name: ANOTHER[name]}, {}):
        density = small()
        pf.fit(density, x, val, **settings | changed)
        densities.append(density.log_prob(val))
    assert torch.equal(densities[0], densities[2])
    assert not torch.allclose(densities[0], densities[1], rtol=1e-4, atol=1e-4)
    pf.fit(small(), x, val, **settings, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=rf"other settings: {name}= was [^,]*, now [^,]*\. Give the same"):
        pf.fit(small(), x, val, **settings | {name: ANOTHER[name]}, checkpoint=tmp_path)


@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.SGD, lr=0.01)])
def test_a_batch_in_parts_gives_the_same_steps(optimizer: Any) -> None:
    x, weights = moons(230), torch.linspace(0, 2, 230)

    def sizes_and_flow(accumulate: int) -> tuple[list[int], pf.Flow]:
        sizes = []

        def objective(density: pf.Density, batch: Batch) -> torch.Tensor:
            sizes.append(len(batch))
            return negative_log_likelihood(density, batch)

        flow = small()
        pf.fit(flow, x, x[:10], weights=weights, objective=objective, metric=negative_log_likelihood, batch=100,
               steps=20, noise=0.0, optimizer=optimizer, accumulate=accumulate, progress="none")  # fmt: skip
        return sizes, flow

    whole, in_parts = sizes_and_flow(1), sizes_and_flow(3)
    assert whole[0][-2:] == [100, 100]
    assert in_parts[0][-6:] == [34, 34, 32] * 2
    torch.testing.assert_close(in_parts[1].log_prob(x), whole[1].log_prob(x), atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="accumulate must be a whole number of at least 1, got 0"):
        sizes_and_flow(0)


def fitted_with(by: str, settings: dict[str, Any]) -> None:
    """A training whose defaults are chosen, of columns some of which are independent, of states, or of images."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 9))
    x[:, 1] += x[:, 0] ** 2
    if by == "fit":
        pf.fit("auto", x, stack=False, progress="none", steps=2, **settings)
    elif by == "table":
        table = {"size": x[:300, 0], "count": rng.poisson(3, 300), "kind": rng.choice(["a", "b"], 300),
                 "sort": rng.choice(["c", "d"], 300)}  # fmt: skip
        pf.fit_table(table, stack=False, progress="none", steps=2, **settings)
    elif by == "images":
        images = rng.integers(0, 256, (30, 8, 8)).astype(np.uint8)
        pf.fit_images(images, model={"depths": [1], "widths": [4]}, recipe="patch_flow", progress="none", steps=2,
                      **settings)  # fmt: skip
    else:
        pytest.importorskip("sklearn")
        pf.FlowDensity(steps=2, stack=False, training=settings).fit(x)


@pytest.mark.parametrize("by", ["fit", "table", "images", "estimator"])
def test_an_optimizer_of_ones_own_takes_no_defaults_of_adamw(by: str) -> None:
    made = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=1e-3))
        return made[-1]

    fitted_with(by, {"optimizer": optimizer})
    assert made
