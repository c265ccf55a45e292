"""Generic checks of every kind of density: each line of `densities.py` goes through all of them."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import pushforward as pf
from densities import DENSITIES, Line, wide_t
from pushforward.checks import integral

lines = pytest.mark.parametrize("line", DENSITIES, ids=lambda line: line.name)
of_tensors = pytest.mark.parametrize("line", [line for line in DENSITIES if not line.is_table], ids=lambda v: v.name)
pytestmark = pytest.mark.filterwarnings("ignore:.*rows have log-density -inf:UserWarning")


def same(a: Any, b: Any) -> bool:
    """Whether rows are equal, value by value."""
    return torch.equal(a, b) if isinstance(a, Tensor) else a.to_pandas().equals(b.to_pandas())  # NaN equals NaN


def some(rows: Any, index: list[int]) -> Any:
    return rows[index] if isinstance(rows, Tensor) else rows.take(index)


@torch.no_grad()
def score(density: pf.Density, rows: Any, context: Any = None) -> Tensor:
    return density.log_prob(rows, context)


def test_every_class_has_a_line() -> None:
    def below(cls: type) -> set[type]:
        return {cls, *(c for sub in cls.__subclasses__() for c in below(sub))}

    for module in pkgutil.walk_packages(pf.__path__, "pushforward."):
        if module.name.count(".") < 3 and not module.name.endswith(("__main__", "pyod")):
            importlib.import_module(module.name)
    public = {c for c in below(pf.Density) if c.__module__.startswith("pushforward.") and "._" not in c.__module__}
    concrete = {c.__name__ for c in public if not inspect.isabstract(c)}
    assert concrete == {line.name.split("/")[0] for line in DENSITIES}


# What a density is: mass one, and samples that follow it.


def proposed(line: Line, n: int) -> tuple[Any, Any, Tensor]:
    """n rows of a wide proposal, their context, and the importance weights p / q (n,) of the density."""
    density = line.built()
    if line.propose is not None:
        rows, log_q = line.propose(density, n)
        context = line.context(0) if isinstance(line.contexts, Tensor) else None
    else:
        context = line.context(0)
        own = density.space.flatten_samples(density.sample(4000, context, generator=1)).flatten(1).double()
        rows, log_q = wide_t(own, n)
        rows = rows.view(n, *density.space.shape)  # type: ignore[attr-defined]
    return rows, context, (score(density, rows, context).double() - log_q).exp()


WEIGHED = pytest.mark.parametrize(
    "line", [line for line in DENSITIES if not line.is_table or line.propose], ids=lambda line: line.name
)


@WEIGHED
def test_the_total_mass_is_one(line: Line) -> None:
    weights = proposed(line, 20_000)[2]
    error = float(weights.std() / len(weights) ** 0.5)
    assert error < 0.03  # or the test could not tell
    assert abs(float(weights.mean()) - (1 - line.built().unsampled)) < 4 * error + 1e-6


@WEIGHED
def test_samples_follow_log_prob(line: Line) -> None:
    """Means of bounded functions of the features: of samples, and of proposed rows by their importance weights."""
    density, n = line.built(), 20_000
    rows, _, weights = proposed(line, n)
    space = density.space
    drawn = space.features(space.flatten_samples(density.sample(n, line.context(0), generator=2)))
    other = space.features(space.read(rows))
    centre, spread = drawn.mean(0), drawn.std(0) + 1e-9
    a, b = bounded((drawn - centre) / spread), bounded((other - centre) / spread)
    w = (weights / weights.mean()).numpy()[:, None]
    mean = (w * b).mean(0)
    error = np.sqrt(a.var(0) / n + (w * (b - mean)).var(0) / n)
    off = np.abs(a.mean(0) - mean)
    assert (off < 5 * error + 2 * density.unsampled + 1e-9).all(), (off / error).round(1)


def bounded(u: np.ndarray) -> np.ndarray:
    """Features (N, F) of mean 0 and variance 1 -> functions of one and of pairs (N, G), within -1 and 1."""
    s = np.tanh(u)
    pairs = [s[:, i] * s[:, j] for i in range(s.shape[1]) for j in range(i)]
    return np.concatenate([s, np.exp(-0.5 * u**2), np.stack(pairs, 1)] if pairs else [s, np.exp(-0.5 * u**2)], 1)


# What `log_prob` and `sample` give.


@lines
def test_one_log_density_a_row_and_none_for_no_rows(line: Line) -> None:
    density = line.built()
    rows, context = line.rows(6)
    log_prob = score(density, rows, context)
    assert log_prob.shape == (6,)
    assert log_prob.is_floating_point()
    assert torch.isfinite(log_prob).all()
    nothing = score(density, rows[:0], None if context is None else context[:0])
    assert nothing.shape == (0,)


@lines
def test_a_row_scores_the_same_in_any_company(line: Line) -> None:
    density = line.built()
    rows, context = line.rows(9)
    whole = score(density, rows, context)
    order = [5, 2, 8, 0]
    part = score(density, some(rows, order), None if context is None else context[order])
    torch.testing.assert_close(part, whole[order], rtol=1e-5, atol=1e-5)


@lines
def test_the_number_of_samples(line: Line) -> None:
    density = line.built()
    one = line.context(0)
    for n in (0, 1, 7):
        assert len(density.space.flatten_samples(density.sample(n, one, generator=0))) == n
    with pytest.raises(ValueError, match="at least 0, got -1"):
        density.sample(-1, one)


@lines
def test_seeds_and_generators(line: Line) -> None:
    density, context = line.built(), line.contexts
    generator = torch.Generator().manual_seed(3)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    first = density.sample(5, context, generator=generator)
    assert same(first, density.sample(5, context, generator=3))
    assert not same(first, density.sample(5, context, generator=generator))  # it went on
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    of_global = density.sample(5, context)
    assert not torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    assert same(of_global, density.sample(5, context))
    assert (numpy_before == np.random.get_state()[1]).all()  # type: ignore[index]


# Contexts.


@of_tensors
def test_contexts_one_for_all_one_a_row_and_with_leading_axes(line: Line) -> None:
    if line.contexts is None:
        pytest.skip("not conditional")
    density, contexts = line.built(), line.contexts
    x, _ = line.rows(4)
    each = score(density, x, contexts)
    one = torch.stack([score(density, x[i : i + 1], contexts[i : i + 1])[0] for i in range(4)])
    torch.testing.assert_close(each, one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(score(density, x, contexts[:1]), score(density, x, contexts[:1].expand(4, -1)))
    assert density.sample(3, contexts[0], generator=0).shape == (3, *x.shape[1:])
    assert density.sample(3, contexts, generator=0).shape == (3, 4, *x.shape[1:])
    assert density.sample(3, contexts.view(2, 2, -1), generator=0).shape == (3, 2, 2, *x.shape[1:])


@lines
def test_every_draw_belongs_to_its_context(line: Line) -> None:
    """`expand_context` tells the context of each row of `flatten_samples`, and `unflatten_samples` undoes it."""
    if line.contexts is None:
        pytest.skip("not conditional")
    density, space = line.built(), line.built().space
    drawn = density.sample(400, line.contexts, generator=0)
    rows = space.flatten_samples(drawn)
    contexts, count = space.expand_context(400, line.contexts)
    assert len(rows) == len(contexts) == count
    assert same(space.unflatten_samples(rows, 400, line.contexts), drawn)
    alone = [space.features(space.flatten_samples(density.sample(400, line.context(i), generator=1))) for i in (0, 1)]
    width = alone[0].shape[1]
    together = [
        space.features(space.flatten_samples(density.sample(400, pair, generator=2))).reshape(-1, width)
        for pair in (line.context(0), line.context(1))
    ]
    error = (alone[0].std(0) + alone[1].std(0)) / 20 + 1e-9
    assert all((np.abs(a.mean(0) - b.mean(0)) < 6 * error).all() for a, b in zip(alone, together, strict=True))


# Files, copies, dtypes.


@lines
def test_a_file_gives_back_the_same_density(line: Line, tmp_path: Path) -> None:
    density = line.built()
    if not line.in_files:
        with pytest.raises(ValueError, match="cannot be saved"):
            pf.save(density, tmp_path / "model.safetensors")
        return
    rows, context = line.rows(50)
    pf.save(density, tmp_path / "model.safetensors", about={"from": "a test"})
    again = pf.load(tmp_path / "model.safetensors", into=None if line.recipe else line.make()).eval()
    assert type(again) is type(density)
    assert again.about == {"from": "a test"}
    assert again.space.matches(density.space)
    assert again.unsampled == density.unsampled
    assert torch.equal(score(density, rows, context), score(again, rows, context))
    assert same(density.sample(9, line.context(0), generator=1), again.sample(9, line.context(0), generator=1))


@lines
def test_copies_and_state_dicts_are_the_same_density(line: Line) -> None:
    density = line.built()
    rows, context = line.rows(20)
    expected = score(density, rows, context)
    twin = copy.deepcopy(density)
    assert torch.equal(score(twin, rows, context), expected)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(0.5).add_(0.1)
    twin.load_state_dict(density.state_dict())
    assert torch.equal(score(twin, rows, context), expected)
    assert torch.equal(score(density, rows, context), expected)


@lines
def test_double_precision_scores_and_samples(line: Line) -> None:
    density = line.built()
    rows, context = line.rows(20)
    double = copy.deepcopy(density).double()
    exact = score(double, rows, None if context is None else context.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, score(density, rows, context).double(), rtol=1e-3, atol=1e-3)
    assert len(double.space.flatten_samples(double.sample(3, line.context(0), generator=0))) == 3


# The space of its rows.


@lines
def test_rows_are_read_joined_and_compared(line: Line) -> None:
    density, space = line.built(), line.built().space
    rows, context = line.rows(30)
    read = space.read(rows)
    assert len(read) == 30
    assert torch.equal(score(density, read, context), score(density, rows, context))
    joined = space.join([read, read])
    assert len(joined) == 60
    assert (space.features(joined)[30:] == space.features(read)).all()
    assert space.matches(space)
    assert not space.matches(pf.Vectors(99))


@lines
def test_features_are_finite_and_named(line: Line) -> None:
    space = line.built().space
    rows = space.read(line.rows(40)[0])
    features = space.features(rows)
    assert features.shape == (40, len(space.feature_list))
    assert features.dtype == np.float64
    assert np.isfinite(features).all()
    for i, feature in enumerate(space.feature_list):
        assert 0 <= feature.column < len(space.names)
        assert not feature.indicator or set(np.unique(features[:, i])) <= {0.0, 1.0}
    impossible = space.impossible(rows)
    assert impossible.shape == (40,)
    assert not impossible.any()
    assert set(space.given) <= set(space.names)


@lines
def test_rows_are_encoded_as_states_and_numbers(line: Line) -> None:
    space = line.built().space
    rows = space.read(line.rows(40)[0])
    encoded = space.encode(rows)
    assert encoded.shape[0] == 40
    assert encoded.is_floating_point()
    for states, size in zip(encoded.unbind(1), space.sizes, strict=False):
        assert ((states >= 0) & (states < size) & (states == states.round())).all()
    given = space.encode_given(rows)
    assert given is None or (given.shape[0] == 40 and bool(given.isfinite().all()))
    assert (given is None) == (not space.given)


class Standard(pf.Density):
    """Standard normal numbers, and states of equal chances."""

    def __init__(self, width: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.space, self.sizes = pf.Vectors(width), sizes
        self.register_buffer("one", torch.ones(()))

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        numbers = torch.as_tensor(x).double()[:, len(self.sizes) :]
        each = -0.5 * (numbers**2 + np.log(2 * np.pi))
        return each.nan_to_num(0.0).sum(1) - float(np.log(self.sizes or [1.0]).sum())

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        _, n_rows = self.space.expand_context(n, context)
        generator = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
        states = [torch.randint(k, (n_rows,), generator=generator).double() for k in self.sizes]
        numbers = torch.randn(n_rows, len(self.space.names) - len(self.sizes), generator=generator).double()
        rows = torch.cat([*(s[:, None] for s in states), numbers], 1)
        return self.space.unflatten_samples(rows, n, context)


@lines
def test_a_density_over_encoded_rows_is_one_over_rows(line: Line) -> None:
    space = line.built().space
    rows = space.read(line.rows(25)[0])
    encoded = space.encode(rows)
    if not line.is_table:
        encoded = encoded.view(25, -1)
        if len(space.shape) > 1:  # type: ignore[attr-defined]
            pytest.skip("the toy is over vectors")
    over = space.wrap(Standard(encoded.shape[1], space.sizes))
    assert over.space.matches(space)
    assert score(over, rows).shape == (25,)
    assert torch.isfinite(score(over, rows)).all()
    drawn = space.flatten_samples(over.sample(8, line.context(0) if space.given else None, generator=0))
    assert torch.isfinite(score(over, drawn)).all()


@lines
def test_rows_are_written_and_read_again(line: Line, tmp_path: Path) -> None:
    density, space = line.built(), line.built().space
    rows, context = line.rows(30)
    path = tmp_path / ("rows.parquet" if line.is_table else "rows.npy")
    space.write(space.read(rows), path)
    if line.is_table:
        from pushforward.io.tables import open_table

        again = space.read(open_table(path).read())
    else:
        again = space.read(np.load(path))
    torch.testing.assert_close(score(density, again, context), score(density, rows, context), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="rows\\.xyz"):
        space.write(space.read(rows), tmp_path / "rows.xyz")


# What stands on top of a density.


@lines
def test_members_and_inner_flows(line: Line) -> None:
    density = line.built()
    rows, context = line.rows(12)
    assert all(isinstance(member, pf.Density) for member in density.members)
    for inner in density.inner_flows(rows, context):
        assert inner.x.shape == (12, *inner.flow.shape)
        assert torch.isfinite(score(inner.flow, inner.x, inner.context)).all()
    z = density.latent(rows, context)
    assert z is None or (len(z) == 12 and bool(z.isfinite().all()))


@lines
def test_a_check_gives_a_verdict(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(integral._POINTS, 2, (201,))  # finer grids take seconds
    rows, context = line.rows(120)
    report = pf.check(line.built(), rows, context=context, max_rows=120)
    assert list(report.verdicts) == ["ranking", "probabilities", "samples"]
    assert "bad" not in report.verdicts.values(), report.text()
    assert report["likelihood"].verdict != "bad"  # they are its own samples
    assert "log" in report.text()


@lines
def test_a_picture_is_drawn(line: Line) -> None:
    space = line.built().space
    features = space.features(space.read(line.rows(60)[0]))
    axes = pf.plots.marginals(features, columns=[feature.name for feature in space.feature_list])
    assert len(np.ravel(axes)) >= 1
