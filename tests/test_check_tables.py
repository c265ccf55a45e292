"""Checks of rows that are no vectors of numbers: fitted tables, and spaces that checks do not know."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

import pushforward as pf
from checked import DENSITY, RNG, normal
from pushforward.arguments import as_generator
from pushforward.checks import check
from pushforward.checks.stats import GOOD
from pushforward.density import Feature, Tensors
from pushforward.io.tables import read_table


@pytest.mark.parametrize("constant", [["x"], [7]])
@pytest.mark.slow
def test_a_constant_column_of_a_table_leaves_the_others_to_be_compared(constant: list) -> None:
    rng = RNG(0)
    rows = {"same": constant * 800, "v": rng.normal(size=800), "w": rng.normal(size=800) + 5}
    density = pf.fit_table(rows, steps=60, depth=2, width=8, progress="none")
    smaller = pf.fit_table({"v": rows["v"], "w": rows["w"]}, steps=60, depth=2, width=8, progress="none")
    new = {"same": constant * 800, "v": rng.normal(size=800), "w": rng.normal(size=800) + 5}
    section, other = (check(d, new, rows, questions=["ranking"])["likelihood"] for d in (density, smaller))
    assert section.verdict == other.verdict == GOOD
    for name, figures in section.figures["baselines"].items():
        assert figures["mean"] == pytest.approx(other.figures["baselines"][name]["mean"], abs=0.02)


class KindAndSize(Tensors):
    """Rows of a kind, 0 for "a" and 1 for "b", and a size, NaN where it is missing."""

    names, sizes = ("kind", "size"), (2, 2)

    def __init__(self) -> None:
        super().__init__((2,))
        self.names = ("kind", "size")

    def read(self, source: Any) -> Tensor:
        if "kind" not in source:
            raise ValueError("'kind' is absent")
        return torch.stack([torch.as_tensor(source[name], dtype=torch.float64) for name in self.names], 1)

    @property
    def feature_list(self) -> list[Feature]:
        own = (("kind = a", 0, True), ("kind = b", 0, True), ("size", 1, False), ("size missing", 1, True))
        return [Feature(*feature) for feature in own]

    def features(self, rows: Tensor) -> np.ndarray:
        kind, size = rows.double().numpy().T
        return np.stack([1 - kind, kind, np.nan_to_num(size), np.isnan(size)], 1)

    def encode(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The kind, whether the size is missing, the size."""
        return torch.stack([rows[:, 0], rows[:, 1].isnan(), rows[:, 1]], 1)

    def wrap(self, inner: pf.Density) -> pf.Density:
        return Encoded(inner, self)

    def matches(self, other: pf.Space) -> bool:
        return isinstance(other, KindAndSize)


class Encoded(pf.Density):
    """The density of rows whose encoding has some density."""

    def __init__(self, inner: pf.Density, space: pf.Space) -> None:
        super().__init__()
        self.inner, self.space = inner, space

    def log_prob(self, x: Any, context: Any = None) -> Tensor:
        return self.inner.log_prob(self.space.encode(x), context)

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        drawn = self.inner.sample(n, context, generator=generator)
        return torch.stack([drawn[:, 0], drawn[:, 2].where(drawn[:, 1] == 0, math.nan)], 1)


class Mixed(pf.Density):
    """Half of the rows are ("a", N(0, 1)), the others ("b", N(3, 1)); a tenth of the numbers is missing."""

    def __init__(self, share: float = 0.5, missing: float = 0.1) -> None:
        super().__init__()
        self.space, self.share, self.missing = KindAndSize(), share, missing

    def sample(self, n: int, context: Any = None, *, generator: torch.Generator | int | None = None) -> Tensor:
        generator = as_generator(generator)
        uniform = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        kind = (uniform[:, 0] > self.share).double()
        size = torch.randn(n, generator=generator, dtype=torch.float64) + 3 * kind
        return torch.stack([kind, size.where(uniform[:, 1] > self.missing, math.nan)], 1)

    def log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        first, z = x[:, 0] == 0, x[:, 1] - 3 * x[:, 0]
        density = math.log(1 - self.missing) - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        share = torch.where(first, self.share, 1 - self.share).log()
        return share + torch.where(z.isnan(), math.log(self.missing), density)

    def latent(self, x: Tensor, context: Any = None) -> Tensor:
        z, noise = x[:, 1] - 3 * x[:, 0], torch.randn(len(x), generator=as_generator(0), dtype=x.dtype)
        return torch.where(z.isnan(), noise, z)[:, None]


def columns_of(rows: Tensor) -> dict[str, Tensor]:
    return {"size": rows[:, 1], "kind": rows[:, 0]}


@pytest.mark.slow
def test_rows_of_a_space_that_checks_do_not_know() -> None:
    truth = Mixed()
    test, train = truth.sample(1500, generator=1), columns_of(truth.sample(2000, generator=2))
    report = check(truth, columns_of(test), train)
    assert set(report.verdicts.values()) == {GOOD}, report.text()
    assert report["likelihood"].figures["mean"] == pytest.approx(float(truth.log_prob(test).mean()))
    assert list(report["likelihood"].figures["baselines"]) == ["gaussian", "mixture", "classes", "kernel"]
    assert report["likelihood"].figures["baselines"]["gaussian"]["gain"] > 0.1  # which follows no kind
    compared = {f["column"]: f["ks"] for f in report["columns"].figures["columns"]}
    assert set(compared) == {"kind = a", "kind = b", "size", "size missing"}
    off = check(Mixed(share=0.8), columns_of(test), train)
    assert off.verdicts["samples"] == "bad"
    compared = {f["column"]: f["ks"] for f in off["columns"].figures["columns"]}
    assert compared["kind = a"] == pytest.approx(0.3, abs=0.05)
    assert off["two_sample"].figures["telling_columns"][0]["column"] == "kind"
    assert check(Mixed(missing=0.4), columns_of(test), train)["columns"].verdict == "bad"
    with pytest.raises(ValueError, match="test: 'kind' is absent"):
        check(truth, {"size": test[:, 1]})
    report = check(pf.Mixture([truth, Mixed(share=0.8)], [0.9, 0.1]), columns_of(test), train)
    assert "bad" not in report.verdicts.values()


@pytest.mark.slow
def test_a_fitted_table_is_judged_as_a_flow_is() -> None:
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], 1500, p=[0.5, 0.3, 0.2])
    size = rng.normal(size=1500) + 2 * (colour == "red")
    price = np.where(rng.random(1500) < 0.1, np.nan, 0.5 * size + rng.normal(size=1500))
    rows = {"colour": colour, "size": size, "count": rng.poisson(4, 1500), "price": pa.array(price, from_pandas=True)}
    table = pa.table(rows)
    train, test = table.slice(0, 1200), table.slice(1200)
    for given in ([], ["colour", "size"]):
        density = pf.fit_table(train, given=given, steps=150, progress="none", stack=False)
        report = check(density, test, train)
        assert report["exactness"].verdict == "good"
        assert "bad" not in report.verdicts.values(), report.text()
        likelihood = report["likelihood"].figures
        assert likelihood["mean"] == pytest.approx(float(density.log_prob(test).mean()))
        assert abs(likelihood["baselines"]["gaussian"]["gain"]) < 1  # both in the units that the rows decide
    halved = train.set_column(1, "size", pa.array(0.5 * size[:1200]))
    other = check(pf.fit_table(halved, steps=150, progress="none", stack=False), test, train)
    assert other.verdicts["probabilities"] == other.verdicts["samples"] == "bad"


def test_a_csv_with_missing_words_and_rare_ones_is_judged(tmp_path: Path) -> None:
    rng = RNG(0)
    words = np.array([f"w{i}" for i in range(60)])[np.minimum(rng.zipf(1.6, 1200), 60) - 1]
    words[rng.random(1200) < 0.1] = ""
    sizes = rng.normal(size=1200) + (words == "w0")
    path = tmp_path / "t.csv"
    lines = [f"{w},{s:.6f}" for w, s in zip(words, sizes, strict=True)]
    path.write_text("\n".join(["word,size", *lines[:1000]]) + "\n")
    train = read_table(path)
    path.write_text("\n".join(["word,size", *lines[1000:], "new,0.5", "newer,0.1"]) + "\n")
    test = read_table(path)
    density = pf.fit_table(train, steps=200, depth=2, width=16, progress="none", stack=False)
    assert density.schema["word"].missing
    with pytest.warns(UserWarning, match="a category never seen"):
        report = check(density, test, train)
    likelihood = report["likelihood"]
    assert likelihood.figures["impossible"] == 0
    assert likelihood.figures["unseen"] >= len({*words[1000:]} - {*words[:1000]}) > 0
    assert any("never seen in training" in remark for *_, remark in likelihood.table)
    assert math.isfinite(likelihood.figures["mean"])
    assert likelihood.verdict == GOOD
    # Two rare words that share one row are no strong correlation, and one of them more or less is no wrong column.
    assert report["columns"].verdict in (GOOD, "cannot tell")
    assert report["columns"].figures["correlation"]["real"] < 0.5


def test_a_lack_of_scikit_learn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"v": normal(400, 1)[:, 0], "w": np.array(["a", "b"] * 200)}
    density = pf.fit_table(rows, steps=20, depth=2, width=8, progress="none", stack=False)
    for name in ("sklearn", "sklearn.exceptions", "sklearn.mixture"):
        monkeypatch.setitem(sys.modules, name, None)
    section = check(density, rows, rows, questions=["ranking"])["likelihood"]
    assert any("need scikit-learn: pip install" in remark for *_, remark in section.table)


def test_baselines_of_rounded_numbers_count_as_the_model_does() -> None:
    rng = RNG(0)
    values = np.where(rng.random(3000) < 0.8, np.round(rng.normal(50, 20, 3000)), np.round(rng.normal(50, 20, 3000), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density = pf.fit_table({"v": values[:2000]}, steps=300, progress="none", stack=False)
        report = check(density, {"v": values[2000:]}, {"v": values[:2000]}, questions=DENSITY)
    # A Gaussian is the truth, but for the rounding: the model cannot be far above it if they are in one unit.
    assert abs(report["likelihood"].figures["baselines"]["gaussian"]["gain"]) < 0.15


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_columns_of_numbers_of_a_table_have_their_names() -> None:
    rng = RNG(0)
    rows = {"kind": rng.choice(["u", "v"], 600), "v": rng.normal(size=600), "w": rng.normal(size=600)}
    density = pf.fit_table(rows, steps=5, stack=False, progress="none")
    new = {name: values[:100] for name, values in rows.items()} | {"w": np.full(100, 0.5)}
    assert check(density, new, questions=["ranking"])["likelihood"].table[1][:2] == ["constant", ""]
    assert "w: simple" in check(density, new, questions=["ranking"])["likelihood"].table[1][2]


def test_texts_are_compared_with_all_training_rows() -> None:
    """Each town comes twice; of a sample of the rows many come once."""
    towns = np.array([f"town {i}" for i in range(200)])
    rows = {"town": np.tile(towns, 2), "v": RNG(0).normal(size=400)}
    density = pf.fit_table(rows, steps=3, stack=False, progress="none", kinds={"town": "category"})
    report = check(density, {name: values[::5] for name, values in rows.items()}, rows, max_rows=50)
    assert "texts" not in report["privacy"].figures
