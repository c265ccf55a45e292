"""Rows and arguments that a training refuses: each with one clear line."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import pushforward as pf
from flows import moons, small


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {"data": x[:1]}, "at least 2 rows are needed to train, got 1"),
        (lambda x: {"data": x[:0]}, "x has no rows"),
        (lambda x: {"data": x[:, :1]}, r"expected x of shape"),
        (lambda x: {"data": x.index_fill(1, torch.tensor(1), 5.0)}, r"column\(s\) \[1\] are constant"),
        (lambda x: {"data": x, "val": x[:0]}, "val has no rows"),
        (lambda x: {"data": x, "weights": -torch.ones(len(x))}, "not negative"),
        (lambda x: {"data": x, "weights": torch.ones(3)}, r"expected weights of shape \(1000,\), got \(3,\)"),
        (lambda x: {"data": x, "epochs": 3, "seconds": 1.0}, "at most one of epochs, steps and seconds"),
        (lambda x: {"data": x, "epochs": 0}, "epochs must be None or a whole number of at least 1, got 0"),
        (lambda x: {"data": x, "batch": 0}, "batch must be None or a whole number of at least 1, got 0"),
        (lambda x: {"data": x, "epochs": 1.5}, "epochs must be None or a whole number of at least 1, got 1.5"),
        (lambda x: {"data": x, "seconds": "10"}, "seconds must be None or a positive finite number, got '10'"),
        (
            lambda x: {"data": x, "weight_decay": -1},
            "weight_decay must be None or a finite number of at least 0, got -1",
        ),
        (lambda x: {"data": x, "seed": 1.5}, "seed must be a whole number, got 1.5"),
        (
            lambda x: {"data": x, "batch_growth": True},
            "batch_growth must be None or a power of 2, from 1 to 1,048,576, got True",
        ),
        (
            lambda x: {"data": x, "batch_growth": 3},
            "batch_growth must be None or a power of 2, from 1 to 1,048,576, got 3",
        ),
        (
            lambda x: {"data": x, "batch_growth": 2, "epochs": 1},
            "batch_growth needs a length in steps or seconds, got 2 with epochs=1",
        ),
        (lambda x: {"data": x + 1e9}, "subtract so large a value first: float32 rounds it"),
        (lambda x: {"data": lambda n, g: x[:7]}, "asked for 8,192 rows and returned 7"),
        (lambda x: {"data": x, "schedule": "linear"}, "cosine or constant, got 'linear'"),
        (
            lambda x: {"data": x, "context": torch.zeros(len(x), 1)},
            r"expected no context, got a context of shape \(N, 1\)",
        ),
        (lambda x: {"data": x, "progress": "loud"}, "auto, rich, plain or none"),
        (lambda x: {"data": lambda n, g: torch.full((n, 2), math.nan)}, "not finite numbers"),
        (lambda x: {"data": x.to_sparse()}, r"x must be a dense tensor, got one of torch.sparse_coo: give x.to_dense"),
        (lambda x: {"data": TensorDataset(x)}, "got a TensorDataset: give its tensors, or train on a function"),
        (lambda x: {"data": x, "context": x[:, 0]}, r"got \(1000,\), a number for each row: give c\[:, None\]"),
        (lambda x: {"data": x, "context": {"c": x[:, 0]}}, "context must be numbers, .* give its columns of numbers"),
        (lambda x: {"data": None}, "data must be rows or a function that draws them; None is for an objective"),
        (lambda x: {"data": x, "optimizer": torch.optim.LBFGS}, "LBFGS.step needs a closure"),
    ],
)
def test_wrong_input_is_told(change, message: str) -> None:  # type: ignore[no-untyped-def]
    arguments = {"steps": None, "progress": "none"} | change(moons())
    with pytest.raises(ValueError, match=message):
        pf.fit(small(), **arguments)


def test_two_rows_at_least_are_left_to_train_on() -> None:
    assert pf.fit(small(), moons()[:20], val_fraction=0.99, steps=1, progress="none").summary["steps"] == 1


def test_settings_are_checked_before_a_flow_is_chosen() -> None:
    with pytest.raises(ValueError, match="seconds must be None or a positive finite number, got -1"):
        pf.fit("auto", moons(), seconds=-1, progress="none")


@pytest.mark.parametrize("fit", [partial(pf.fit, "auto"), pf.fit_table, pf.fit_images])
def test_an_unknown_setting_is_told_before_anything_is_read(fit: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"train has no setting 'weigth_decay': is 'weight_decay' meant\?"):
        fit("no such file", weigth_decay=0.1)


def test_nan_and_infinity_are_located() -> None:
    x = moons()
    x[17, 1], x[30, 0] = math.nan, math.inf
    with pytest.raises(ValueError, match="2 values that are not finite numbers, the first at row 17, column 1: nan"):
        pf.fit(small(), x, progress="none")


@pytest.mark.parametrize("data", [{"a": [1.0, 2.0], "b": [3.0, 4.0]}, "rows.csv", Path("rows.parquet")])
def test_a_table_is_for_fit_table(data: object) -> None:
    for call in (lambda: pf.fit(small(), data, progress="none"), lambda: pf.fit("auto", data, progress="none")):
        with pytest.raises(ValueError, match=r"is a table .*, which fit_table fits"):
            call()


def test_a_frame_is_for_fit_table() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"is a table .*, which fit_table fits"):
        pf.fit(small(), pandas.DataFrame(np.zeros((5, 2))), progress="none")


def test_arguments_in_the_wrong_order_are_told() -> None:
    with pytest.raises(ValueError, match="the first argument must be a density, the second its rows; got Tensor"):
        pf.fit(moons(), small())  # type: ignore[arg-type]
