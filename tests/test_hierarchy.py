"""Columns that others determine are modelled before them: the order, what it is worth, and that files keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.tables.hierarchy import hierarchy
from pushforward.tables.mass import MassFunction


def journeys(n: int, seed: int) -> dict[str, Any]:
    """From a zone of a borough to another zone, three times of four within the borough."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 60, n)
    stay = rng.random(n) < 0.75
    end = np.where(stay, start // 20 * 20 + rng.integers(0, 20, n), rng.integers(0, 60, n))
    return {
        "start": [f"z{i}" for i in start], "end": [f"z{i}" for i in end],
        "from": [f"b{i // 20}" for i in start], "to": [f"b{i // 20}" for i in end],
    }  # fmt: skip


def test_determined_columns_come_first() -> None:
    rng = np.random.default_rng(0)
    zone, colour = rng.integers(0, 12, 300), rng.integers(0, 3, 300)
    states = np.stack([colour, zone, zone // 4, zone // 2], 1)
    assert hierarchy(states, (3, 12, 3, 6)) == ([2, 3, 0, 1], {1: 3, 3: 2})
    assert hierarchy(states[:, :2], (3, 12)) == ([0, 1], {})


def test_what_is_no_hierarchy_leaves_the_order() -> None:
    rng = np.random.default_rng(0)
    zone = rng.integers(0, 12, 300)
    noisy = np.where(rng.random(300) < 0.05, rng.integers(0, 3, 300), zone // 4)
    assert hierarchy(np.stack([zone, noisy], 1), (12, 3)) == ([0, 1], {})  # in 97 % of the rows
    indicator = (zone == 3).astype(np.int64)
    assert hierarchy(np.stack([zone, indicator], 1), (12, 2)) == ([0, 1], {})
    same = np.zeros(300, dtype=np.int64)
    assert hierarchy(np.stack([zone, same], 1), (12, 3)) == ([0, 1], {})
    name = np.arange(300) // 2  # too few rows of each to tell
    assert hierarchy(np.stack([name, name % 3], 1), (150, 3)) == ([0, 1], {})
    assert hierarchy(np.zeros((0, 2), dtype=np.int64), (9, 3)) == ([0, 1], {})


@pytest.mark.parametrize("parents", [{}, {0: 2}, {0: 2, 1: 0}], ids=str)
def test_each_factor_sees_the_columns_before_it_in_the_order(parents: dict[int, int]) -> None:
    mass = MassFunction([3, 3, 3], seed=1)
    mass.set_order([2, 0, 1], parents)
    mass.set_frequencies(torch.tensor([[0, 1, 0], [1, 0, 1], [2, 2, 2], [0, 1, 2], [0, 2, 0]]))
    log_p, changed = (mass._log_softmax(torch.tensor([[0, 1, last]]), None)[0] for last in (0, 2))
    assert torch.equal(log_p[:, 6:], changed[:, 6:])  # the last column is the first
    assert not torch.allclose(log_p[:, :6], changed[:, :6])
    states = torch.cartesian_prod(*[torch.arange(3)] * 3)
    p = mass(states).detach().exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    drawn = mass.sample(20_000, generator=torch.Generator().manual_seed(0)) @ torch.tensor([9, 3, 1])
    assert (torch.bincount(drawn, minlength=27) / 20_000 - p).abs().max() < 0.015


def test_a_column_starts_from_its_frequencies_given_its_parent() -> None:
    zone = torch.arange(900) % 9
    states = torch.stack([zone, zone // 3], 1)
    mass = MassFunction([9, 3], seed=0)
    mass.set_order([1, 0], {0: 1})
    mass.set_frequencies(states)
    with torch.no_grad():
        mass.weight_out.zero_()
        known, wrong, unknown = (float(mass.log_prob(torch.tensor([x])).exp()) for x in ([0, 0], [0, 2], [0, 3]))
    assert known == pytest.approx(1 / 9, rel=0.02)
    assert wrong < 1e-4
    assert unknown == pytest.approx(1 / 9, rel=0.02)
    drawn = mass.sample(1000, generator=0)
    assert (drawn[:, 0] // 3 == drawn[:, 1]).float().mean() > 0.99


def test_parents_that_come_later_are_an_error() -> None:
    with pytest.raises(ValueError, match="parents must come before"):
        MassFunction([9, 3]).set_order([0, 1], {0: 1})


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3]], ids=str)
def test_an_order_that_leaves_out_a_column_is_an_error(order: list[int]) -> None:
    with pytest.raises(ValueError, match="each of the 3 columns once"):
        MassFunction([2, 2, 2]).set_order(order)


def test_journeys_between_boroughs_are_learned_from_few_rows(tmp_path: Path) -> None:
    density = pf.fit_table(journeys(800, 0), progress="none", stack=False)
    inner: Any = density.inner
    assert inner.mass.order == (2, 3, 0, 1)
    drawn = density.sample(4000, generator=0)
    stayed = np.mean(np.array(drawn["from"].to_pylist()) == np.array(drawn["to"].to_pylist()))
    assert stayed == pytest.approx(0.75 + 0.25 / 3, abs=0.06)
    pf.save(density, tmp_path / "m.safetensors")
    rows = journeys(50, 1)
    again = pf.load(tmp_path / "m.safetensors")
    assert torch.equal(again.log_prob(rows), density.log_prob(rows))
