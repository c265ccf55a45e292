"""States that exclude each other: what is never seen together has small odds, and the mass stays one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.tables.embedder import Embedder
from pushforward.tables.exclusions import Exclusions, checked_pairs, find_exclusions
from pushforward.tables.mass import MassFunction

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def groups(n: int) -> torch.Tensor:
    """Indicators of three of four groups, and a column beside them: (n, 4)."""
    rng = np.random.default_rng(0)
    group = rng.choice(4, n, p=[0.3, 0.3, 0.2, 0.2])
    return torch.from_numpy(np.stack([group == 0, group == 1, group == 2, rng.random(n) < 0.4], 1).astype(np.int64))


def test_indicators_of_groups_exclude_each_other() -> None:
    states = groups(400).numpy()
    found = find_exclusions(states, (2, 2, 2, 2), range(4), 4)
    assert [(s, t) for s, t, _ in found] == [(1, 3), (1, 5), (3, 5)]
    assert found[0][2] == pytest.approx(states[:, 0].sum() * states[:, 1].sum() / 400, abs=0.06)
    assert find_exclusions(states, (2, 2, 2, 2), [3, 2, 1, 0], 4)[0][:2] == (3, 1)  # each after what excludes it
    assert find_exclusions(states[:60], (2, 2, 2, 2), range(4), 4) == []  # of so few rows it may be chance


def test_states_that_a_column_does_not_have_exclude_nothing() -> None:
    states = groups(400).numpy()
    states[states == 1] = 2
    assert find_exclusions(states, (2, 2, 2, 2), range(4), 4) == []


@pytest.mark.parametrize("conditional", [False, True])
def test_the_mass_is_one_and_what_is_excluded_has_little_of_it(conditional: bool) -> None:
    rows = groups(2000)
    given = Embedder([2], 1) if conditional else None
    own, context = (
        (rows[:, 1:], torch.cat([rows[:, :1].float(), torch.randn(2000, 1)], 1)) if conditional else (rows, None)
    )
    mass = MassFunction([2] * own.shape[1], given, seed=0).requires_grad_(False)
    mass.set_frequencies(own, context=context)
    assert len(mass.excluded_pairs) == 3
    every = torch.cartesian_prod(*[torch.arange(2)] * own.shape[1])
    of_one = None if context is None else torch.tensor([[1.0, 0.3]]).expand(len(every), -1)
    p = mass.log_prob(every, of_one).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    first = torch.ones(len(every), dtype=torch.bool) if conditional else every[:, 0] == 1
    excluded = first & (every[:, -3:-1].sum(1) > 0)
    assert float(p[excluded].sum() / p[first].sum()) < 0.02
    drawn = mass.sample(20_000, None if of_one is None else of_one[0], generator=0).reshape(20_000, -1)
    count = torch.tensor([(drawn == row).all(1).double().mean() for row in every])
    assert float((count - p).abs().max()) < 0.012


def test_hidden_and_unknown_states() -> None:
    mass = MassFunction([2] * 4, seed=0).requires_grad_(False)
    mass.set_frequencies(groups(400))
    whole, hidden = torch.tensor([[1, 0, 0, 1]]), torch.tensor([[-2, 0, 0, 1]])
    assert torch.isfinite(mass.log_prob(torch.cat([whole, hidden, torch.tensor([[2, 1, 0, 1]])]))).all()
    factors = mass._factors(hidden, None)[1], mass._factors(whole, None)[1]
    torch.testing.assert_close(*factors)  # what frequencies say does not depend on what is hidden from the network


def test_new_orders_forget_the_exclusions() -> None:
    mass = MassFunction([2] * 4, seed=0)
    mass.set_frequencies(groups(400))
    mass.set_order([3, 2, 1, 0])
    assert mass.excluded_pairs == ()


def test_tables_keep_to_them_and_files_hold_them(tmp_path: Path) -> None:
    rows = groups(600)
    table = {name: rows[:, k].numpy().astype(bool) for k, name in enumerate("abcd")}
    table["x"] = np.random.default_rng(1).normal(size=600)
    model = pf.fit_table(table, steps=40, progress="none", seed=0, stack=False)
    drawn = model.sample(5000, generator=0)
    together = sum(drawn[name].to_numpy(zero_copy_only=False).astype(int) for name in "abc") > 1
    assert together.mean() < 0.01
    pf.save(model, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert torch.equal(model.log_prob(table), again.log_prob(table))
    assert again.sample(50, generator=3).equals(model.sample(50, generator=3))


@pytest.mark.parametrize(
    "pairs",
    [[[0, 4, 20.0]], [[-1, 2, 20.0]], [[0, 2, 0.0]], [[0, 2, float("inf")]], [[0, 2]], [["a", 2, 20.0]], {"a": 1}],
)
def test_pairs_of_a_file_are_checked(pairs: object) -> None:
    with pytest.raises(ValueError, match="bad mass_exclusions"):
        checked_pairs(pairs, 4, 4)


def test_several_reasons_add_up() -> None:
    exclusions = Exclusions([(0, 3, 19.5), (2, 3, 49.5)], 4, 5)
    taken = exclusions(torch.tensor([[0, 2], [0, 5], [5, 5]]))
    assert taken[:, 3].tolist() == pytest.approx([np.log(0.025) + np.log(0.01), np.log(0.025), 0.0])
    assert taken[:, :3].abs().max() == 0
