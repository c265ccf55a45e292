"""Every command works on every kind of density: it asks the density and its space, never the class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pushforward as pf
from commands import TINY, good, run, write_csv

ROWS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of numbers, a mixed one, and densities of them."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    a = rng.normal(50, 5, ROWS)
    b = 1000 - 10 * a + rng.normal(0, 20, ROWS)
    write_csv(folder / "numbers.csv", "a,b", [(f"{x:.5f}", f"{y:.4f}") for x, y in zip(a, b, strict=True)])
    mixed = [(f"{x:.5f}", f"{y:.4f}", rng.choice(["red", "blue"])) for x, y in zip(a, b, strict=True)]
    write_csv(folder / "mixed.csv", "a,b,colour", mixed)
    return folder


def flow(seed: int) -> pf.Flow:
    made = pf.real_nvp(2, depth=2, width=8, seed=seed)
    pf.initialize(made, torch.tensor([[50.0, 500.0], [55.0, 450.0], [45.0, 540.0]]))
    made.space = pf.Vectors(["a", "b"])
    return made


def table(folder: Path, name: str, given: tuple[str, ...] = (), seed: int = 0) -> pf.TableDensity:
    data = pf.io.tables.read_table(folder / name)
    return pf.fit_table(data, given=given, steps=5, depth=2, width=8, seed=seed, progress="none", stack=False)


MODELS: dict[str, tuple[str, Callable[[Path], pf.Density]]] = {
    "flow": ("numbers.csv", lambda _: flow(0)),
    "mixture": ("numbers.csv", lambda _: pf.Mixture([flow(0), flow(1)], [0.25, 0.75])),
    "ensemble": ("numbers.csv", lambda _: pf.Ensemble([flow(0), flow(1)])),
    "table": ("mixed.csv", lambda folder: table(folder, "mixed.csv")),
    "table of numbers": ("numbers.csv", lambda folder: table(folder, "numbers.csv")),
    "conditional table": ("mixed.csv", lambda folder: table(folder, "mixed.csv", ("colour",))),
    "mixture of tables": (
        "mixed.csv",
        lambda folder: pf.Mixture([table(folder, "mixed.csv", seed=k) for k in range(2)]),
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Path, Path, tuple[str, ...]]:
    """-> the kind of density, its file, a table of rows, the columns that it is given."""
    data, make = MODELS[request.param]
    density = make(folder)
    path = folder / f"{request.param.replace(' ', '_')}.safetensors"
    pf.save(density, path)
    return request.param, path, folder / data, density.space.given


def test_info(saved: tuple[Any, ...]) -> None:
    _, model, data, _ = saved
    figures = good("info", model)
    assert figures["columns"] == data.read_text().split("\n")[0].split(",")
    assert figures["parameters"] == sum(p.numel() for p in pf.load(model).parameters())
    shown = run("info", model).stdout
    assert "real_nvp (2 depth, 8 width)" in shown
    assert all(name in shown for name in figures["columns"])


def test_score_and_sample(saved: tuple[Any, ...], tmp_path: Path) -> None:
    _, model, data, given = saved
    figures = good("score", model, data, "--out", tmp_path / "scored.csv")
    density = pf.load(model)
    rows = density.space.read(pf.io.tables.read_table(data))
    expected = density.log_prob(rows).detach().double().numpy()
    assert figures["rows"] == ROWS
    assert figures["mean_log_density"] == pytest.approx(expected.mean(), abs=1e-4)
    original, scored = data.read_text().splitlines(), (tmp_path / "scored.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in scored] == original
    extra = ["--given", data] if given else ["-n", ROWS]
    figures = good("sample", model, *extra, "--out", tmp_path / "new.csv", "--seed", 1)
    assert figures["rows"] == ROWS
    again = good("score", model, tmp_path / "new.csv", "--out", tmp_path / "scored.csv")
    assert (again["rows"], again["impossible_rows"]) == (ROWS, 0)


def test_check(saved: tuple[Any, ...], tmp_path: Path) -> None:
    _, model, data, _ = saved
    figures = good("check", model, data, "--max-rows", 100, "--html", tmp_path / "page.html")
    assert figures["rows"] == ROWS
    assert figures["sections"]["exactness"]["verdict"] in ("good", "doubtful")


@pytest.mark.slow
def test_plot(saved: tuple[Any, ...], tmp_path: Path) -> None:
    kind, model, data, given = saved
    wanted = {"marginals.png", "pairs.png", "plane.png"}
    wanted |= {"density.png"} if data.name == "numbers.csv" else set()
    wanted |= {"four_panels.png", "warped_grid.png"} if kind == "flow" else set()
    for with_data in (True, False) if not given else (True,):
        extra = ["--data", data] if with_data else []
        good("plot", model, *extra, "--x", "a", "--y", "b", "--out", tmp_path / str(with_data))
        assert {p.name for p in (tmp_path / str(with_data)).iterdir()} == wanted


def test_the_table_of_the_fit_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (100, 2))
    np.save(tmp_path / "x.npy", rows)
    good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY)
    assert good("check", tmp_path / "m.safetensors", tmp_path / "x.npy")["rows"] == 10
    write_csv(tmp_path / "x.csv", "x0,x1", [[repr(float(v)) for v in row] for row in rows])
    assert good("check", tmp_path / "m.safetensors", tmp_path / "x.csv")["rows"] == 10
    held_out = np.random.default_rng(20160527).permutation(100)[:10]
    rows[held_out] = np.roll(rows[held_out], 1, axis=0)  # the same rows in another order, and so the same mean
    np.save(tmp_path / "y.npy", rows)
    assert good("check", tmp_path / "m.safetensors", tmp_path / "y.npy")["rows"] == 100
