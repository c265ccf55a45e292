"""Files of estimators: the same scores and samples, and what damaged ones say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pushforward as pf
from estimators import conditional, frames, normal_rows, small

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_model_file_holds_the_estimator(tmp_path: Path) -> None:
    x = np.insert(normal_rows(100), 1, 4.0, axis=1)
    for frame in (x.astype(np.float32), frames(x, ["a", "b", "c"])["pandas"]):
        model = small().fit(frame)
        model.save(tmp_path / "model.safetensors")
        again = pf.FlowDensity.load(tmp_path / "model.safetensors")
        assert np.array_equal(again.score_samples(frame), model.score_samples(frame))
        ours, theirs = again.sample(5, random_state=0), model.sample(5, random_state=0)
        assert type(ours) is type(theirs)
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
        assert np.allclose(np.asarray(again.inverse_transform(again.transform(frame))), x, atol=1e-4)
        assert again.constant_columns_ == {1: 4.0}
    assert pf.load(tmp_path / "model.safetensors").space.names == ("a", "c")
    with pytest.raises(ValueError, match="pickle it instead"):
        pf.FlowDensity().fit(np.ones((3, 1))).save(tmp_path / "bad.safetensors")


def test_a_model_file_holds_several_members(tmp_path: Path) -> None:
    x = np.insert(normal_rows(100), 1, 4.0, axis=1)
    model = small(members=3, steps=2).fit(x)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert len(again.flows_) == 3
    assert np.array_equal(again.score_samples(x), model.score_samples(x))
    assert np.array_equal(again.sample(9, random_state=0), model.sample(9, random_state=0))


def test_a_conditional_model_file_and_one_of_a_plain_flow(tmp_path: Path) -> None:
    x, context = conditional(50)
    model = small().fit(x, context=context)
    model.save(tmp_path / "model.safetensors")
    again = pf.FlowDensity.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.score_samples(x, context=context), model.score_samples(x, context=context))
    flow = pf.real_nvp(2, depth=2)
    flow.space = pf.Vectors(["a", "b"])
    pf.save(flow, tmp_path / "flow.safetensors")
    assert list(pf.FlowDensity.load(tmp_path / "flow.safetensors").feature_names_in_) == ["a", "b"]


@pytest.mark.parametrize(
    "damage",
    [{"columns": ["a", "a"]}, {"columns": ["a"]}, {"constant": {"9": 1.0}}, {"kind": "list"}, {"dtype": "object"},
     {"context": ["u"]}, {"named": 1}],
)  # fmt: skip
def test_a_damaged_file_is_told(tmp_path: Path, damage: dict[str, Any]) -> None:
    small(steps=1).fit(normal_rows(30)).save(tmp_path / "model.safetensors")
    flow = pf.load(tmp_path / "model.safetensors")
    flow.about["estimator"] |= damage
    pf.save(flow, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="damaged header"):
        pf.FlowDensity.load(tmp_path / "model.safetensors")
