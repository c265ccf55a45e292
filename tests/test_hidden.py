"""States that a training hides: each counts itself, and nothing that is conditional on it sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import read
from pushforward.tables.embedder import Embedder
from pushforward.tables.mass import MassFunction, hide
from pushforward.tables.rows import StateRows, TrainingRows, split_rows

quiet = pytest.mark.filterwarnings("ignore::UserWarning")
EVERY = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2))


def test_a_hidden_state_counts_and_is_not_seen_by_what_comes_after_it() -> None:
    mass = MassFunction([2, 3, 2], seed=0).requires_grad_(False)
    unknown = torch.tensor([2, 3, 2])
    hidden, absent, alone = EVERY.clone(), EVERY.clone(), unknown.repeat(len(EVERY), 1)
    hidden[:, 0] = -1 - hidden[:, 0]
    absent[:, 0] = unknown[0]
    alone[:, 0] = EVERY[:, 0]
    torch.testing.assert_close(mass(hidden), mass(alone) + mass(absent))
    assert not torch.allclose(mass(hidden), mass(EVERY))
    assert float(mass(hidden).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_a_hidden_parent_still_gives_its_child_the_frequencies() -> None:
    mass = MassFunction([2, 4], seed=0).requires_grad_(False)
    mass.set_order([0, 1], {1: 0})
    mass.set_frequencies(torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]]).repeat(50, 1))
    assert float(mass(torch.tensor([[-1, 0]]))) > float(mass(torch.tensor([[-1, 2]]))) + 2


def test_hidden_states_are_zeros_in_a_context() -> None:
    embed = Embedder([3, 30], reals=1).requires_grad_(False)
    h = torch.tensor([[-3.0, -1.0, 0.5], [3.0, 30.0, 0.5]])  # hidden, and unknown
    assert torch.equal(embed(h)[0], embed(h)[1])
    assert float(embed(h)[0].abs().sum()) == 0.5


def test_hide_takes_the_share_that_it_is_given_and_repeats() -> None:
    states = torch.randint(0, 5, (2000, 3), generator=torch.Generator().manual_seed(0))
    a, b = (hide(states, 0.3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert float((a < 0).double().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(torch.where(a < 0, -1 - a, a), states)


def table(rows: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    kind, size = rng.integers(0, 3, rows), rng.integers(0, 4, rows)
    return {"kind": np.array(["a", "b", "c"])[kind], "size": np.array(list("klmn"))[size], "x": rng.normal(size=rows)}


def trained_rows(share: float) -> TrainingRows:
    density = pf.fit_table(table(200), given=["size"], stack=False, steps=1, val_fraction=0, progress="none")
    return replace(split_rows(density, read(table(200)), None, None, 0.0, 0)[0], hidden=share)


@quiet
def test_a_training_sees_other_states_hidden_in_each_pass_and_numbers_as_they_are() -> None:
    rows, generator = trained_rows(0.5), torch.Generator().manual_seed(0)
    passes = [rows(len(rows), generator) for _ in range(2)]
    (z, context, _), (again, other, _) = passes
    assert torch.equal(z, again)
    assert context is not None
    assert other is not None
    assert not torch.equal(context, other)
    assert float((context < 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    states, given, _ = StateRows(rows)(len(rows), generator)
    assert given is not None
    assert float((states < 0).double().mean()) == pytest.approx(0.5, abs=0.12)
    assert float((given < 0).double().mean()) == pytest.approx(0.5, abs=0.12)
    every = trained_rows(0.0)
    assert (StateRows(every)(len(every), generator)[0] >= 0).all()


@quiet
def test_columns_of_few_rows_that_tell_nothing_of_each_other_are_not_learned_by_heart() -> None:
    rng = np.random.default_rng(0)
    rows = {f"c{i}": np.array(list("abcde"))[rng.integers(0, 5, 800)] for i in range(12)}
    density = pf.fit_table(
        {k: v[:400] for k, v in rows.items()}, stack=False, steps=400, patience=None, val_fraction=0, progress="none"
    )
    loss = -12 * np.log(5) - float(density.log_prob({k: v[400:] for k, v in rows.items()}).mean())
    assert loss < 6  # 15 where nothing is hidden
