"""Values never seen: each column keeps a share of its mass for them, of which nothing is drawn."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.baselines import fit_baselines
from pushforward.tables.columns.base import unseen_share
from pushforward.tables.mass import MassFunction
from pushforward.tables.space import Columns

quiet = pytest.mark.filterwarnings("ignore::UserWarning")  # that there are such values


def words(n: int = 300, seed: int = 0) -> dict[str, Any]:
    """Two dependent categories, of which one has values seen once; an integer of few values."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    place = np.array([f"p{i}" for i in rng.integers(0, 12, n)], dtype=object)
    place[:7] = [f"once {i}" for i in range(7)]
    return {"kind": np.array(["a", "b", "c"])[kind], "place": place, "few": np.array([1, 2, 4])[kind]}


@pytest.fixture(scope="module")
def fitted() -> pf.TableDensity:
    return pf.fit_table(words(), steps=60, progress="none")


def test_the_share_is_that_of_good_and_turing(fitted: pf.TableDensity) -> None:
    assert fitted.schema["kind"].unseen == pytest.approx(0.5 / 301)
    assert fitted.schema["place"].unseen == pytest.approx(7.5 / 301)
    assert fitted.schema["few"].unseen == pytest.approx(0.5 / 301)
    assert 0 < unseen_share(0, 1) < unseen_share(1, 1) < 1


@pytest.mark.parametrize("name", ["the whole", "the mass function", "frequencies", "classes", "kernel"])
@quiet
def test_the_total_mass_is_one_with_what_was_never_seen(fitted: pf.TableDensity, name: str) -> None:
    space, rows = fitted.space, words()
    inner = fitted.inner
    if name == "the mass function":
        inner = pf.fit_table(rows, steps=60, stack=False, progress="none").inner
    elif name != "the whole":
        inner = fit_baselines(space.encode(space.read(rows)), space.sizes, None, 0)[name]
    few = np.arange(-3000, 3000)
    cells = [["a", "b", "c", "new"], [*space.schema["place"].categories, "new"], few]
    table = dict(zip(("kind", "place", "few"), np.array(list(itertools.product(*cells)), dtype=object).T, strict=True))
    table["few"] = table["few"].astype(np.int64)
    log_prob = space.wrap(inner).log_prob(table)
    missing = 0.5 * 0.5 / 301  # half of the share of `few` is that of a missing cell
    assert torch.isfinite(log_prob).all()
    assert float(log_prob.exp().sum()) == pytest.approx(1 - missing, abs=1e-4)
    is_new = table["place"] == "new"
    assert float(log_prob.exp()[torch.from_numpy(is_new)].sum()) == pytest.approx(7.5 / 301 * (1 - missing), abs=1e-5)


def test_new_values_are_told_ranked_and_never_drawn(fitted: pf.TableDensity) -> None:
    rows = {"kind": ["a", "z", "z"], "place": ["p1", "p1", "elsewhere"], "few": [1, 1, 3]}
    with pytest.warns(UserWarning, match="2 of 3 rows hold what was never seen in training: .*'z'.*'elsewhere'.*3"):
        log_prob = fitted.log_prob(rows)
    assert log_prob[0] > log_prob[1] > log_prob[2] > -40
    assert fitted.space.unseen(fitted.space.read(rows)).tolist() == [False, True, True]
    drawn = fitted.sample(2000, generator=0).to_pydict()
    assert all(set(drawn[name]) <= set(words()[name].tolist()) for name in drawn)
    assert fitted.unsampled == pytest.approx(1 - (1 - 0.5 / 301) ** 2 * (1 - 7.5 / 301))


@quiet
def test_numbers_that_a_column_cannot_have_and_new_missing_cells_are_finite(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {
        "price": np.round(np.exp(rng.normal(size=400)) + 0.01, 2), "size": rng.normal(size=400),
        "always": np.full(400, 7), "sex": np.tile(["f", "m"], 200),
    }  # fmt: skip
    density = pf.fit_table(rows, steps=20, progress="none")
    usual = {name: values[:1] for name, values in rows.items()}
    changes = {"price": -3.0, "size": None, "always": 8, "sex": None}
    scores = []
    for name, value in changes.items():
        row = pa.table({n: pa.array([value] if n == name else v.tolist()) for n, v in usual.items()})
        with pytest.warns(UserWarning, match=f"1 of 1 rows hold what was never seen in training: column '{name}'"):
            scores.append(float(density.log_prob(row)[0]))
    assert np.isfinite(scores).all()
    near, far = (density.log_prob({**usual, "always": [value]}) for value in (8, 800))
    assert near > far
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    assert again.schema == density.schema
    assert again.unsampled == density.unsampled >= density.space.unseen_share


def test_a_given_value_that_is_new_is_told_and_taken_as_unknown() -> None:
    density = pf.fit_table(words(), given=["kind", "few"], steps=60, progress="none")
    with pytest.warns(UserWarning, match="'kind': 1 with a category never seen .'z'.: taken as unknown"):
        log_prob = density.log_prob({"kind": ["z"], "place": ["p1"], "few": [4]})
    assert torch.isfinite(log_prob).all()
    with pytest.warns(UserWarning, match="'few': 3 with a value never seen .3.: taken as unknown"):
        assert density.sample(3, {"kind": ["a"], "few": [3]}, generator=0).num_rows == 3


@quiet
def test_validation_rows_may_hold_new_values() -> None:
    val = words(40, 1)
    val["kind"][0] = "z"
    density = pf.fit_table(words(), val=val, steps=20, progress="none")
    assert math.isfinite((density.training_summary or {})["best_val_nll"])


def test_a_mass_function_integrates_out_what_is_not_there() -> None:
    mass = MassFunction([2, 3, 4], seed=0).requires_grad_(False)
    rows = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.tensor([4]))  # nothing in the last column
    without = mass(rows)
    every = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4))
    torch.testing.assert_close(without, mass(every).view(6, 4).logsumexp(1))
    first = torch.cartesian_prod(torch.tensor([2]), torch.arange(3), torch.arange(4))
    assert float(mass(first).exp().sum()) == pytest.approx(1, abs=1e-5)
    nothing = torch.tensor([[2, 3, 4]])
    assert float(mass(nothing)) == pytest.approx(0.0, abs=1e-6)


def test_schemas_of_older_files_keep_no_share() -> None:
    facts = pf.infer_schema(words()).to_json()
    for column in facts["columns"]:
        column.get("inner", column).pop("unseen")
    space = Columns(pf.tables.schema.Schema.from_json(facts))
    new = space.read({"kind": ["z", "a"], "place": ["p1", "p1"], "few": [1, 3]})
    assert space.unseen_share == 0
    assert space.impossible(new).tolist() == [True, False]
    assert space.sizes == (3, 19, 4)  # the first state of few values stands for all others


def test_rare_states_tell_and_are_told_little_while_a_mass_function_is_trained() -> None:
    states = torch.stack([torch.arange(400) % 2, torch.cat([torch.zeros(399), torch.ones(1)]).long()], 1)
    mass = MassFunction([2, 3], seed=0).requires_grad_(False)
    mass.set_frequencies(states)
    mass.shrink(states, None)
    frequencies = mass.log_marginal.clone()
    near = mass._log_softmax(torch.tensor([[0, 0]]), None)[0][0]
    torch.testing.assert_close(near[2:], frequencies[2:], atol=0.5, rtol=0)  # before any step, near the frequencies
    mass.bias_out.fill_(3.0)  # of the second column's states one was seen once, one never
    moved = mass._log_softmax(torch.tensor([[0, 0]]), None)[0][0, 2:] - near[2:]
    assert float(moved[0] - moved[1]) > 2
    assert float(moved[1] - moved[2]) == pytest.approx(3 * 1 / 31, abs=1e-3)
    before = mass(states)
    mass.settle()
    torch.testing.assert_close(mass(states), before)


def test_columns_that_learned_by_heart_go_back_to_their_frequencies() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randint(0, 2, (400, 2), generator=generator)
    mass = MassFunction([2, 2], seed=0).requires_grad_(False)
    mass.set_frequencies(states)
    mass.weight_out.mul_(30.0)  # says much of the second column that is not so
    mass.log_mix.copy_(mass.interpolation(states)[0])
    share = mass.log_mix.exp()
    assert float(share[1]) > 0.9
    alone = float(mass.log_marginal.view(2, 2)[torch.arange(2), states].sum(1).mean())
    assert float(mass(states).mean()) == pytest.approx(alone, abs=0.01)
    every = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    assert float(mass(every).exp().sum()) == pytest.approx(1, abs=1e-5)


@quiet
@pytest.mark.slow
def test_wide_columns_of_few_rows_leave_the_dependence_of_all_others() -> None:
    rng = np.random.default_rng(0)
    n = 550
    male = rng.random(n) < 0.5
    title = np.where(male, "Mr.", np.where(rng.random(n) < 0.65, "Mrs.", "Ms."))
    rows = {
        "sex": np.where(male, "M", "F"), "title": title, "surname": rng.integers(0, 330, n).astype(str),
        "town": rng.integers(0, 260, n).astype(str),
        "height": np.round(np.where(male, 178, 166) + 5 * rng.normal(size=n), 1),
    }  # fmt: skip
    schema = pf.infer_schema(rows, {"surname": "category", "town": "category"})
    train, test = ({name: v[part] for name, v in rows.items()} for part in (slice(0, 420), slice(420, None)))
    density = pf.fit_table(train, schema=schema, progress="none")
    space = density.space
    simple = fit_baselines(space.encode(space.read(train)), space.sizes, None, 0)["gaussian"]
    assert float(density.log_prob(test).mean()) > float(space.wrap(simple).log_prob(test).mean()) + 0.5
    drawn = {
        name: v.to_numpy(zero_copy_only=False)
        for name, v in zip(rows, density.sample(4000, generator=0).columns, strict=True)
    }
    is_male = drawn["sex"] == "M"
    assert ((drawn["title"] == "Mr.") == is_male).mean() > 0.93
    assert drawn["height"][is_male].mean() - drawn["height"][~is_male].mean() > 8.5
