"""What a run that goes on from a checkpoint must have in common with the one before, and what may be another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pushforward as pf
from flows import moons, small
from pushforward.training.loop import _identity


def scaled(density: pf.Density, batch: pf.Batch, scale: float = 1.0) -> Tensor:
    return scale * pf.negative_log_likelihood(density, batch)


def optimizer(lr: float) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


OTHERS: dict[str, list[Callable[[], dict[str, Any]]]] = {
    "metric": [lambda: {"metric": scaled}, lambda: {"metric": partial(scaled, scale=-1.0)}],
    "no metric": [lambda: {}, lambda: {"metric": scaled}],
    "optimizer": [lambda: {"optimizer": optimizer(0.1)}, lambda: {"optimizer": optimizer(0.2)}],
    "class of optimizer": [lambda: {"optimizer": torch.optim.Adam}, lambda: {"optimizer": torch.optim.RMSprop}],
    "validation rows": [lambda: {"val": moons(50, 1)}, lambda: {"val": moons(50, 2)}],
    "held-out rows": [lambda: {"val": moons(50, 1), "data": moons(90)}, lambda: {"data": moons(100)}],
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(name: str, tmp_path: Path) -> None:
    def run(settings: dict[str, Any]) -> None:
        pf.fit(small(), **{"data": moons(100), "steps": 4, "batch": 50, "progress": "none"} | settings,
               checkpoint=tmp_path)  # fmt: skip

    one, other = OTHERS[name]
    run(one())
    run(one() | {"steps": 6})  # functions made again are the same ones
    with pytest.raises(ValueError, match="of a run with other settings"):
        run(other())


def test_a_function_that_refers_to_itself_has_an_identity(tmp_path: Path) -> None:
    def objective(density: pf.Density, batch: pf.Batch, again: bool = True) -> Tensor:
        return objective(density, batch, False) if again else later(density, batch)

    before = _identity(objective)  # there is no `later` yet

    def later(density: pf.Density, batch: pf.Batch) -> Tensor:
        return pf.negative_log_likelihood(density, batch)

    assert "later" not in before
    assert "later" in _identity(objective)
    pf.fit(small(), moons(100), steps=2, objective=objective, checkpoint=tmp_path, progress="none")


class Turns:
    """A metric that falls and, from then on, is higher than ever."""

    def __init__(self, falls: bool) -> None:
        self.value, self.step = (0.0, -1.0) if falls else (1.0, 0.0)

    def __call__(self, density: pf.Density, batch: pf.Batch) -> Tensor:
        self.value += self.step
        return torch.tensor(self.value)


@pytest.mark.parametrize("first", [{"steps": 100}, {"seconds": 1.0}])
def test_patience_counts_in_the_length_of_the_resumed_run(first: dict[str, Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": moons(), "batch": 100, "checkpoint": tmp_path, "batch_growth": 1}
    before = pf.fit(small(), **settings, **first, metric=Turns(falls=True), progress="none").summary["steps"]
    last = 10 * before
    result = pf.fit(small(), **settings, steps=last, patience=0.2, metric=Turns(falls=False), progress="none")
    assert result.stopped == "early"
    assert 0.2 * last < result.summary["steps"] < 0.5 * last
