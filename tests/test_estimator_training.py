"""How the estimator trains: members, further training, recipes, length, settings."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from estimators import normal_rows, small
from pushforward.training.settings import TrainSettings

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_members_are_averaged_exactly() -> None:
    x = normal_rows(100)
    model = small(members=3, steps=10).fit(x)
    assert len(model.flows_) == 3
    assert model.fit_record_.flow is not None
    each = np.stack([f.log_prob(x).detach().numpy() for f in model.flows_])
    assert np.allclose(model.score_samples(x), np.log(np.exp(each).mean(0)))
    assert model.score(x) >= each.mean() - 1e-9  # a mixture is at least as good as its members on average
    assert model.sample(50, random_state=0).shape == (50, 2)
    assert np.array_equal(model.sample(50, random_state=0), model.sample(50, random_state=0))
    for method in (model.transform, model.inverse_transform):
        with pytest.raises(ValueError, match="no single latent space"):
            method(x)
    with pytest.raises(ValueError, match="members must be"):
        small(members=0).fit(x)


def test_partial_fit_goes_on() -> None:
    x = normal_rows(2000)
    model = pf.FlowDensity(depth=2, width=8, batch=50, lr=5e-3, random_state=0).partial_fit(x[:200])
    before = model.score(x)
    for i in range(200, 2000, 200):
        model.partial_fit(x[i : i + 200])
    assert model.score(x) > before
    model.partial_fit(x[:1])
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(np.ones((4, 3)))
    constant = small().partial_fit(np.insert(x[:50], 0, 1.0, axis=1))
    with pytest.raises(ValueError, match=r"\['x0'\] were constant when first fitted"):
        constant.partial_fit(np.insert(x[:50], 0, 2.0, axis=1))


def test_warm_start_goes_on_from_the_weights() -> None:
    x = normal_rows(300)
    model = small(steps=200, warm_start=True).fit(x)
    scale = model.flow_.bijection.bijections[0].matrix.clone()  # type: ignore[union-attr]
    before = model.score(x)
    model.set_params(steps=2, lr=1e-5).fit(x[:250])
    assert model.score(x) == pytest.approx(before, abs=0.02)
    assert torch.equal(model.flow_.bijection.bijections[0].matrix, scale)  # type: ignore[union-attr]
    cold = small(steps=2, lr=1e-5).fit(x[:250])
    assert cold.score(x) < before - 0.01


def test_a_recipe_by_name_or_function() -> None:
    x = normal_rows(50)
    assert small(recipe="real_nvp").fit(x).flow_.recipe["arguments"]["depth"] == 2  # type: ignore[index,union-attr]

    def mine(features: int, *, width: int, seed: int) -> pf.Flow:
        return pf.real_nvp(features, depth=1, width=width, seed=seed)

    assert np.isfinite(small(recipe=mine, depth=None).fit(x).score(x))
    with pytest.raises(ValueError, match="mine takes no depth"):
        small(recipe=mine).fit(x)
    with pytest.raises(ValueError, match="recipe must be auto, one of real_nvp"):
        small(recipe="nvp").fit(x)
    with pytest.raises(ValueError, match="must return a Flow"):
        small(recipe=lambda features, **_: None).fit(x)


def test_the_length_of_a_training() -> None:
    x = normal_rows(100)
    record = small(steps=7).fit(x).fit_record_
    assert record is not None
    assert record.summary["steps"] == 7
    assert small(steps=None, epochs=3, noise=0).fit(x).fit_record_.summary["epochs"] == 3  # type: ignore[union-attr]
    assert small(steps=None, epochs=6, batch=30).fit(x).fit_record_.summary["steps"] == 18  # type: ignore[union-attr]
    assert small(steps=None, seconds=0.3).fit(x).fit_record_.summary["seconds"] < 3  # type: ignore[union-attr]
    rows = normal_rows(40)  # soon learned by heart
    early, whole = (small(steps=600, lr=0.05, noise=0, patience=p).fit(rows).fit_record_ for p in (0.1, None))
    assert early is not None
    assert whole is not None
    assert early.stopped == "early"
    assert whole.stopped == "done"
    with pytest.raises(ValueError, match="at most one of epochs, steps and seconds"):
        small(epochs=3).fit(x)


def test_the_parameters_that_are_settings_of_a_training_have_its_defaults() -> None:
    settings = {s.name: s.default for s in dataclasses.fields(TrainSettings)}
    ours = {n: p.default for n, p in inspect.signature(pf.FlowDensity).parameters.items() if n in settings}
    assert len(ours) == 8
    assert ours == {name: settings[name] for name in ours}


@pytest.mark.parametrize("name", sorted({s.name for s in dataclasses.fields(TrainSettings)}))
def test_every_setting_of_a_training_reaches_it(name: str) -> None:
    x = normal_rows(30)
    is_parameter = name in inspect.signature(pf.FlowDensity).parameters
    if is_parameter or name in ("seed", "check", "checkpoint"):
        with pytest.raises(ValueError, match=f"no parameters of their own, got '{name}'"):
            small(training={name: 1}).fit(x)
    if name not in ("seed", "check", "checkpoint"):
        bad = {"steps": None, name: "bad"} if is_parameter else {"training": {name: "bad"}}
        with pytest.raises(ValueError, match=f"{name}.* must be"):
            small(**bad).fit(x)


def test_further_settings_of_a_training() -> None:
    x = normal_rows(30)
    settings: dict[str, Any] = {"steps": 5, "val_fraction": 0.0}
    plain, decayed = small(**settings).fit(x), small(**settings, training={"weight_decay": 10.0}).fit(x)
    assert plain.score(x) != decayed.score(x)
    with pytest.raises(ValueError, match="got 'speed'"):
        small(training={"speed": 1}).fit(x)
