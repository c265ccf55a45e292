"""A kind of column is one class, a table takes any density inside, and its samples are draws from `log_prob`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.density import Density, Vectors
from pushforward.io.frames import Column, read
from pushforward.io.registry import register as register_density
from pushforward.tables import Columns, StatesThenNumbers
from pushforward.tables.columns import Cells, Kind, Plain, Request, WithAtoms, WithCoarse, register
from pushforward.tables.columns.registry import KINDS

quiet = pytest.mark.filterwarnings("ignore::UserWarning")


def mixed(n: int, seed: int) -> dict[str, Any]:
    """A category, a number with an atom and missing cells, an integer with a frequent value, a date of few days."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    size = np.where(rng.random(n) < 0.2, 0.0, rng.normal(size=n) + 2 * kind)
    return {
        "kind": np.array(["a", "b", "c"])[kind],
        "size": np.where(rng.random(n) < 0.1, np.nan, size),
        "count": np.where(rng.random(n) < 0.3, 7, rng.poisson(20 + 10 * kind)),
    }


class Independent(Density):
    """Independent frequencies and normals; a number that is not there is integrated out."""

    def __init__(self, sizes: tuple[int, ...], numbers: int) -> None:
        super().__init__()
        self.sizes, self.numbers = sizes, numbers
        self.space = Vectors(len(sizes) + numbers)
        self.log_p = torch.nn.Parameter(torch.cat([torch.full((s,), 1 / s).log() for s in sizes]))

    def log_prob(self, x: Any, context: Any = None) -> torch.Tensor:
        states, y = x[:, : len(self.sizes)].long(), x[:, len(self.sizes) :]
        total = torch.zeros(len(x), dtype=torch.float64)
        for log_p, state in zip(self.log_p.split(list(self.sizes)), states.T, strict=True):
            total = total + log_p.log_softmax(0)[state]
        density = torch.distributions.Normal(0.0, 1.0).log_prob(y.nan_to_num())
        return total + torch.where(y.isnan(), 0.0, density).sum(1)

    @torch.no_grad()
    def sample(self, n: int, context: Any = None, *, generator: Any = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
        _, count = self.space.expand_context(n, context)
        parts = [torch.multinomial(log_p.softmax(0), count, True, generator=generator)[:, None].double()
                 for log_p in self.log_p.split(list(self.sizes))]  # fmt: skip
        numbers = torch.randn(count, self.numbers, generator=generator, dtype=torch.float64)
        return self.space.unflatten_samples(torch.cat([*parts, numbers], 1), n, context)


register_density(
    "test_independent", Independent, lambda d: {"sizes": list(d.sizes), "numbers": d.numbers},
    lambda settings, builder: Independent(tuple(settings["sizes"]), settings["numbers"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> pf.TableDensity:
    return pf.fit_table(mixed(1500, 0), steps=80, depth=2, width=16, stack=False, progress="none")


@quiet
@pytest.mark.parametrize("make", ["toy", "mixture"])
def test_any_density_of_states_and_numbers_goes_inside(make: str, fitted: pf.TableDensity, tmp_path: Path) -> None:
    space = fitted.space
    toy = Independent(space.sizes, len(space.numbers))
    inner: Density = toy if make == "toy" else pf.Mixture([fitted.inner, toy], weights=[0.7, 0.3])
    density = space.wrap(inner)
    rows = mixed(300, 1)
    scores = density.log_prob(rows)
    assert torch.isfinite(scores).all()
    alone = [space.wrap(part).log_prob(rows) for part in (fitted.inner, toy)]
    wanted = alone[1] if make == "toy" else torch.logaddexp(alone[0] + np.log(0.7), alone[1] + np.log(0.3))
    torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-5)
    drawn = density.sample(400, generator=0)
    assert torch.isfinite(density.log_prob(drawn)).all()
    pf.save(density, tmp_path / "m.safetensors")
    again = pf.load(tmp_path / "m.safetensors")
    torch.testing.assert_close(again.log_prob(rows), scores, rtol=0, atol=1e-5)
    assert again.sample(50, generator=3).equals(density.sample(50, generator=3))


def test_an_inner_density_that_does_not_fit_is_refused(fitted: pf.TableDensity) -> None:
    with pytest.raises(ValueError, match="does not fit the schema"):
        pf.TableDensity(fitted.schema, (), Independent((2, 2), 1))


def test_total_mass_is_one_with_numbers_that_are_not_there(fitted: pf.TableDensity) -> None:
    space = Columns(fitted.schema)
    table = fitted.space.wrap(Independent(space.sizes, len(space.numbers)))
    grid = np.linspace(-20, 30, 4001)
    grid = grid[np.abs(grid) > 1e-9]
    total = 0.0
    for kind in "abc":
        for size, weight in ((np.array([0.0, np.nan]), 1.0), (grid, 50 / 4000)):
            for count in (7, 20):
                rows = {"kind": np.full(len(size), kind), "size": size, "count": np.full(len(size), count)}
                total += float(table.log_prob(rows).exp().sum()) * weight
    of_count = table.inner.log_prob(space.encode(read({"kind": ["a"], "size": [0.0], "count": [20]})))
    assert torch.isfinite(of_count).all()
    counts = {"kind": ["a"] * 200, "size": [0.0] * 200, "count": np.arange(200)}
    share = table.log_prob(counts, draws=8).exp()
    assert total == pytest.approx(float(share[[7, 20]].sum() / share.sum()), rel=0.1)


@quiet
def test_samples_are_draws_from_log_prob(fitted: pf.TableDensity) -> None:
    # Draws from a mixture m of two densities have weights p / m whose mean is the share of p that can be sampled, over
    # that of m: 1 for both where nothing is left out.
    space = fitted.space
    toy = space.wrap(Independent(space.sizes, len(space.numbers)))
    n = 6000
    both = space.wrap(pf.Mixture([fitted.inner, toy.inner]))
    drawn = both.sample(n, generator=0)
    for p in (toy, fitted):
        weights = (p.log_prob(drawn, draws=16) - both.log_prob(drawn, draws=16)).exp()
        sampled = (1 - p.measure_unsampled()) / (1 - both.measure_unsampled())
        assert float(weights.mean()) == pytest.approx(sampled, abs=0.05)
    assert 0 < toy.measure_unsampled() < 1  # numbers that stand for the cell of an atom are drawn again


@quiet
def test_few_values_never_seen_are_left_out_and_their_share_is_told(tmp_path: Path) -> None:
    rows = {"few": np.repeat([0, 1, 2, 5], 100), "word": np.tile(["x", "y"], 200)}
    schema = pf.infer_schema(rows)
    space = Columns(schema)
    density = pf.TableDensity(schema, (), Independent(space.sizes, 0))
    seen = (1 - 0.5 / 401) ** 2
    assert density.unsampled == pytest.approx(1 - seen)
    assert density.measure_unsampled() == pytest.approx(1 - seen)
    assert set(density.sample(500, generator=0)["few"].to_pylist()) == {0, 1, 2, 5}
    pf.save(density, tmp_path / "m.safetensors")
    assert pf.load(tmp_path / "m.safetensors").unsampled == density.unsampled


def test_draws_that_never_may_be_sampled_are_told(monkeypatch: pytest.MonkeyPatch, fitted: pf.TableDensity) -> None:
    far = torch.full((1, len(fitted.space.numbers)), 60.0, dtype=torch.float64)
    inner = Independent(fitted.space.sizes, len(fitted.space.numbers))
    states = torch.zeros(1, len(fitted.space.sizes), dtype=torch.float64)
    monkeypatch.setattr(
        inner, "sample", lambda n, context=None, generator=None: torch.cat([states, far], 1).repeat(n, 1)
    )
    with pytest.warns(UserWarning, match="5 of 5 sampled rows"):
        assert fitted.space.wrap(inner).sample(5, generator=0).num_rows == 5


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(KINDS)
    register(Parity, before="integer")
    yield
    KINDS.clear()
    KINDS.update(before)


@dataclass(frozen=True, kw_only=True)
class Parity(Plain):
    """Even or odd, as 0 and 1."""

    tag = "parity"
    usage = "parity"

    @classmethod
    def infer(cls, column: Column, request: Request) -> Kind | None:
        return cls(name=column.name, dtype=column.dtype) if request.kind == cls.tag else None

    @property
    def num_values(self) -> int:
        return 2

    def encode_present(self, column: Column) -> Cells:
        return Cells.of_states(column.require_numbers().astype(np.int64) % 2)

    def describe_invalid(self, column: Column) -> str:
        return "nothing"

    def decode(self, state: Any, number: Any, rng: Any) -> Column:
        return Column.of_numbers(self.name, state, None, self.dtype)


@pytest.mark.usefixtures("registered")
def test_a_kind_is_a_class_and_a_line(tmp_path: Path) -> None:
    rows = {"n": np.arange(400) % 10, "x": np.random.default_rng(0).normal(size=400)}
    density = pf.fit_table(rows, kinds={"n": "parity"}, steps=5, depth=2, width=8, progress="none", stack=False)
    assert density.schema["n"].kind == "parity"
    assert "parity" in density.schema.describe()
    assert torch.isfinite(density.log_prob(rows)).all()
    assert set(density.sample(50, generator=0)["n"].to_pylist()) == {0, 1}
    assert density.space.features(density.space.read(rows)).shape == (400, 3)
    pf.save(density, tmp_path / "m.safetensors")
    assert pf.load(tmp_path / "m.safetensors").schema == density.schema
    with pytest.raises(ValueError, match="drop"):
        pf.infer_schema(rows, {"n": "parities"})


@quiet
def test_the_space_reads_writes_joins_and_compares(fitted: pf.TableDensity, tmp_path: Path) -> None:
    space = fitted.space
    rows = space.read(mixed(200, 4))
    matrix = space.features(rows)
    assert matrix.shape == (200, len(space.feature_list))
    assert np.isfinite(matrix).all()
    assert [f.name for f in space.feature_list][:2] == ["kind = a", "kind = b"]
    assert np.allclose(matrix[:, :4].sum(1), 1)  # three categories and all others
    new = space.read({"kind": ["a", "z"], "size": [1.0, 2.0], "count": [3, 4]})
    assert space.unseen(new).tolist() == [0, 1]
    assert not space.impossible(new).any()
    space.write(rows, tmp_path / "rows.parquet")
    back = space.read(pf.io.tables.open_table(tmp_path / "rows.parquet").read())
    np.testing.assert_array_equal(space.encode(back), space.encode(rows))
    both = space.join([rows[:50], rows[50:]])
    torch.testing.assert_close(fitted.log_prob(both), fitted.log_prob(rows))
    assert space.matches(Columns(fitted.schema))
    assert not space.matches(Columns(fitted.schema, ["kind"]))
    assert space.flatten_samples(fitted.sample(5, generator=0)).names == list(space.names)


def test_wrappers_stand_around_kinds(fitted: pf.TableDensity) -> None:
    size, count = fitted.schema["size"], fitted.schema["count"]
    assert isinstance(size, WithAtoms)
    assert (size.kind, size.atoms, size.missing) == ("real", (0.0,), True)
    assert size.describe().endswith("atom at 0; missing cells")
    assert isinstance(count, WithAtoms)
    assert count.atoms == (7,)
    facts = json.loads(json.dumps(fitted.schema.to_json()))
    assert pf.Schema.from_json(facts) == fitted.schema
    assert isinstance(fitted.inner, StatesThenNumbers)
    assert not isinstance(size.inner, WithCoarse)


def test_the_figure_of_the_fit_is_that_of_before_the_base_was_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"x": np.random.default_rng(0).standard_t(3, 400), "y": np.random.default_rng(1).normal(size=400)}
    settings: dict[str, Any] = {"steps": 60, "depth": 2, "width": 16, "progress": "none"}
    widened = pf.fit_table(rows, **settings, stack=False)
    monkeypatch.setattr("pushforward.tables.fit.widen", lambda *args: None)
    plain = pf.fit_table(rows, **settings, stack=False)
    assert widened.training_summary is not None
    assert plain.training_summary is not None
    assert widened.training_summary["best_val_nll"] == plain.training_summary["best_val_nll"]
    assert not torch.equal(widened.log_prob(rows), plain.log_prob(rows))
