"""Rows through the command line: `score` and `sample`, of tables, of conditional models and of plain flows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import pushforward as pf
from commands import TINY, bad, good, run, write_csv
from pushforward.io import tables

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mixed table, a model of it, and a conditional model."""
    folder = tmp_path_factory.mktemp("house")
    rng = np.random.default_rng(0)
    a = rng.normal(50, 5, 300)
    rows = [(f"{x:.5f}", f"{1000 - 10 * x + rng.normal(0, 20):.4f}", rng.choice(["red", "blue"]), rng.integers(9))
            for x in a]  # fmt: skip
    data = write_csv(folder / "data.csv", "a,b,colour,n", rows)
    good("fit", data, "--out", folder / "model.safetensors", *TINY)
    good("fit", data, "--out", folder / "given.safetensors", *TINY, "--given", "colour,a")
    return folder


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """A plain flow over named columns."""
    made = pf.real_nvp(2, depth=2, width=8, seed=0)
    pf.initialize(made, torch.tensor([[50.0, 500.0], [55.0, 450.0], [45.0, 540.0]]))
    made.space = pf.Vectors(["a", "b"])
    pf.save(made, tmp_path / "flow.safetensors")
    return tmp_path / "flow.safetensors"


def test_score_keeps_all_columns_and_matches_the_library(model: Path, data: Path, tmp_path: Path) -> None:
    figures = good("score", model, data, "--out", tmp_path / "s.csv")
    original, scored = data.read_text().splitlines(), (tmp_path / "s.csv").read_text().splitlines()
    assert scored[0] == "a,b,colour,n,log_density"
    assert [line.rpartition(",")[0] for line in scored[1:]] == original[1:]
    log_density = pf.load(model).log_prob(tables.read_table(data)).numpy()
    found = tables.read_table(tmp_path / "s.csv").matrix(["log_density"])[:, 0]
    assert np.allclose(found, log_density, atol=1e-5)
    assert figures["mean_log_density"] == pytest.approx(log_density.mean(), abs=1e-4)
    assert figures["median_log_density"] == pytest.approx(np.median(log_density), abs=1e-4)
    good("score", model, data, "--out", tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["a", "b", "colour", "n", "log_density"]
    assert table.schema.field("n").type == pa.int64()


def test_outliers_are_ranked_among_the_rows_held_out(model: Path, data: Path, tmp_path: Path) -> None:
    good("score", model, data, "--out", tmp_path / "s.csv", "--outlier")
    log_density, percentile = tables.read_table(tmp_path / "s.csv").matrix(["log_density", "percentile"]).T
    assert (np.diff(percentile[np.argsort(log_density)]) >= 0).all()
    assert 30 < np.median(percentile) < 70
    write_csv(tmp_path / "far.csv", "a,b,colour,n", [(50, 500, "red", 3), (500, 500, "red", 3)])
    good("score", model, tmp_path / "far.csv", "--out", tmp_path / "s.csv", "--outlier")
    assert tables.read_table(tmp_path / "s.csv").matrix(["percentile"])[1, 0] == 0
    write_csv(tmp_path / "new.csv", "a,b,colour,n", [(50, 500, "red", 3), (50, 500, "mauve", 3)])
    good("score", model, tmp_path / "new.csv", "--out", tmp_path / "s.csv", "--outlier")
    assert tables.read_table(tmp_path / "s.csv").matrix(["unseen"])[:, 0].tolist() == [0, 1]


def test_rows_with_new_values_are_counted_and_extreme_ones_told(model: Path, tmp_path: Path) -> None:
    rows = [(50 + i / 20, 500 - i / 2, "red", 3) for i in range(40)]
    rows += [(50, 500, "green", 3), (50, 500, "mauve", 3), (5e6, 500, "red", 3)]
    path = write_csv(tmp_path / "x.csv", "a,b,colour,n", rows)
    result = run("score", model, path, "--out", tmp_path / "s.csv")
    words = (
        "2 rows with what was never seen in training: column 'colour': 2 with a category never seen ('green', 'mauve')"
    )
    assert words in result.stdout
    assert "extreme     3 rows" in result.stdout
    assert result.stderr == ""
    figures = good("score", model, path, "--out", tmp_path / "s.csv")
    counts = {name: figures[f"{name}_rows"] for name in ("unseen", "impossible", "extreme")}
    assert figures["rows"] == 43
    assert counts == {"unseen": 2, "impossible": 0, "extreme": 3}
    assert np.isfinite(figures["mean_log_density"])
    scores = tables.read_table(tmp_path / "s.csv").matrix(["log_density"])[:, 0]
    assert scores[40] == scores[41] < scores[:40].min()


def test_scores_are_the_same_in_any_batch(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = good("score", model, data, "--out", tmp_path / "one.csv")
    monkeypatch.setattr(tables.TableFile.batches, "__defaults__", (17,))
    many = good("score", model, data, "--out", tmp_path / "many.csv")
    assert one["mean_log_density"] == pytest.approx(many["mean_log_density"], abs=1e-6)
    assert one["median_log_density"] == pytest.approx(many["median_log_density"], abs=1e-6)
    first, second = (tables.read_table(tmp_path / f"{n}.csv").matrix(["log_density"]) for n in ("one", "many"))
    assert np.allclose(first, second, atol=1e-5)


def test_columns_are_found_by_name_or_else_by_place(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal([50, 500], [5, 50], (60, 2))
    write_csv(tmp_path / "x.csv", "a,b", x)
    good("fit", tmp_path / "x.csv", "--out", tmp_path / "m.safetensors", *TINY)
    write_csv(tmp_path / "one.csv", "a,b", np.array([[50.25, 500.5]]))
    write_csv(tmp_path / "two.csv", "b,extra,a", np.array([[500.5, 7.0, 50.25]]))
    (tmp_path / "three.txt").write_text("50.25|500.5\n")
    np.save(tmp_path / "four.npy", [[50.25, 500.5]])
    names = ("one.csv", "two.csv", "three.txt", "four.npy")
    values = [good("score", tmp_path / "m.safetensors", tmp_path / n, "--out", tmp_path / "s.csv") for n in names]
    assert len({v["mean_log_density"] for v in values}) == 1
    assert values[0]["se"] is None  # one row has no standard error, and JSON no NaN


def test_chosen_columns_of_a_nameless_file_are_found_again(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal([0, 100, 7, 1e4], 1, (60, 4))
    np.save(tmp_path / "x.npy", x)
    fitted = good("fit", tmp_path / "x.npy", "--columns", "x3,x1", "--out", tmp_path / "m.safetensors", *TINY)
    assert fitted["columns"] == ["x1", "x3"]
    scored = good("score", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", tmp_path / "s.npy")
    assert scored["mean_log_density"] == pytest.approx(fitted["test_log_density"], abs=2)
    assert np.load(tmp_path / "s.npy").shape == (60, 5)
    good("sample", tmp_path / "m.safetensors", "--out", tmp_path / "new.npy")
    good("score", tmp_path / "m.safetensors", tmp_path / "new.npy", "--out", tmp_path / "s.npy")
    np.save(tmp_path / "x.npy", x[:, :3])
    assert "3 columns" in bad("score", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", tmp_path / "s.npy")


def test_samples_have_the_columns_of_the_model(model: Path, tmp_path: Path) -> None:
    for name in ("s.csv", "again.csv", "s.parquet"):
        drawn = good("sample", model, "-n", 25, "--seed", 3, "--out", tmp_path / name)
        assert drawn["columns"] == ["a", "b", "colour", "n"]
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "again.csv").read_text()
    table = pq.read_table(tmp_path / "s.parquet")
    assert set(table["colour"].to_pylist()) == {"red", "blue"}
    assert set(table["n"].to_pylist()) <= set(range(9))
    first = good("sample", model, "-n", 5, "--out", tmp_path / "new.csv")
    second = good("sample", model, "-n", 5, "--out", tmp_path / "new2.csv")
    assert first["seed"] != second["seed"]
    assert (tmp_path / "new.csv").read_text() != (tmp_path / "new2.csv").read_text()
    figures = good("score", model, tmp_path / "s.csv", "--out", tmp_path / "scored.csv")
    assert figures["impossible_rows"] == 0
    assert "'colour' is not numeric" in bad("sample", model, "--out", tmp_path / "s.npy")
    assert not (tmp_path / "s.npy").exists()


def test_samples_of_a_conditional_model(house: Path, data: Path, tmp_path: Path) -> None:
    model, told = house / "given.safetensors", tmp_path / "told.csv"
    write_csv(told, "colour,other,a", [("red", 1, 45.5), ("blue", 2, 55.25)])
    figures = good("sample", model, "-n", 3, "--given", told, "--out", tmp_path / "s.parquet", "--seed", 0)
    table = pq.read_table(tmp_path / "s.parquet")
    assert figures["rows"] == 6
    assert table["colour"].to_pylist() == ["red"] * 3 + ["blue"] * 3
    assert table["a"].to_pylist() == [45.5] * 3 + [55.25] * 3
    assert good("sample", model, "--given", data, "--out", tmp_path / "s.csv")["rows"] == 300
    assert "give it a table with the columns 'colour', 'a'" in bad("sample", model, "--out", tmp_path / "s.csv")
    write_csv(told, "colour", [("red",)])
    assert "lacks column 'a'" in bad("sample", model, "--given", told, "--out", tmp_path / "s.csv")
    plain = house / "model.safetensors"
    assert "not conditional" in bad("sample", plain, "--given", told, "--out", tmp_path / "s.csv")
    assert good("score", model, data, "--out", tmp_path / "s.csv")["impossible_rows"] == 0
    assert good("check", model, data)["rows"] == 30
    pictures = good("plot", model, "--data", data, "--out", tmp_path / "p")["pictures"]
    assert any(p.endswith("pairs.png") for p in pictures)
    assert "give it rows" in bad("plot", model, "--out", tmp_path / "p")


def test_columns_far_from_zero_keep_their_detail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([1.7e9 + rng.normal(0, 30, 400), rng.normal(0, 1, 400)])
    np.save(tmp_path / "x.npy", x)
    figures = good("fit", tmp_path / "x.npy", "--out", tmp_path / "m.safetensors", *TINY)
    assert abs(figures["test_log_density"] - figures["gaussian_log_density"]) < 1
    good("sample", tmp_path / "m.safetensors", "-n", 200, "--out", tmp_path / "s.npy", "--seed", 0)
    assert len(np.unique(np.load(tmp_path / "s.npy")[:, 0])) == 200  # float32 would leave steps of 128


def test_a_plain_flow_scores_and_samples(flow: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", "b,name,a", [(500.5, "x", 50.25), (1e6, "y", -1e6)])
    figures = good("score", flow, path, "--out", tmp_path / "s.csv")
    log_density = pf.load(flow).log_prob(np.array([[50.25, 500.5], [-1e6, 1e6]])).detach()
    assert figures["max"] == pytest.approx(float(log_density.max()), abs=1e-3)
    assert figures["min"] < -1000
    assert (tmp_path / "s.csv").read_text().startswith("b,name,a,log_density\n500.5,x,50.25,")
    good("sample", flow, "-n", 25, "--seed", 3, "--out", tmp_path / "s.npy")
    drawn = pf.load(flow).sample(25, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(np.load(tmp_path / "s.npy"), drawn.numpy())
    assert "keeps no quantiles" in bad("score", flow, path, "--out", tmp_path / "s.csv", "--outlier")
    assert "'name' is not numeric" in bad("score", flow, path, "--out", tmp_path / "s.npy")
    assert good("info", flow)["columns"] == ["a", "b"]


def golden() -> list[Path]:
    """The old models that `info` could show when they were written: the first six, and those of which it is kept."""
    files = sorted(GOLDEN.glob("*.safetensors"))
    return [
        p for p in files if p.with_suffix(".info.json").exists() or '"kind"' not in p.with_suffix(".json").read_text()
    ]


@pytest.mark.parametrize("path", golden(), ids=lambda p: p.stem)
def test_old_models_are_shown_and_sampled(path: Path, tmp_path: Path) -> None:
    assert good("info", path)["parameters"] > 0
    model = pf.load(path)
    if model.space.given or getattr(model.members[0], "context_dim", 0):
        assert "context" in (told := bad("sample", path, "--out", tmp_path / "s.csv")) or "conditional" in told
        return
    good("sample", path, "-n", 5, "--out", tmp_path / "s.csv")
    assert good("score", path, tmp_path / "s.csv", "--out", tmp_path / "t.csv")["rows"] == 5


@pytest.mark.slow
def test_a_table_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushforward.tables.drawing.MEMORY_CELLS", 100)
    rng = np.random.default_rng(0)
    (tmp_path / "parts").mkdir()
    for i in range(4):
        part = pa.table({"size": rng.normal(i, 0.5, size=500), "kind": rng.choice(["x", "y"], 500)})
        pq.write_table(part, tmp_path / "parts" / f"{i}.parquet", row_group_size=100)
    model, data = tmp_path / "m.safetensors", tmp_path / "parts"
    figures = good("fit", data, "--out", model, *TINY)
    assert (figures["rows"], figures["train_rows"], figures["test_rows"]) == (2000, 1800, 200)
    assert "a part at a time" in run("fit", data, "--out", model, *TINY).stdout
    result = run("check", model, data)
    assert "its 200 rows held out then are checked" in result.stdout
    assert good("score", model, data, "--out", tmp_path / "s.parquet", "--outlier")["rows"] == 2000


def test_delimiters_headers_and_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{a:.4f} ; {b:.4f}" for a, b in rng.normal(size=(60, 2))]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n")
    figures = good("fit", tmp_path / "x.txt", "--delimiter", ";", "--no-header", "--out", tmp_path / "m.safetensors",
                   *TINY)  # fmt: skip
    assert figures["columns"] == ["x0", "x1"]
    assert figures["rows"] == 60
    (tmp_path / "parts").mkdir()
    for i in range(3):
        part = pa.table({"size": rng.normal(size=40), "kind": rng.choice(["x", "y"], 40)})
        pq.write_table(part, tmp_path / "parts" / f"{i}.parquet")
    assert good("fit", tmp_path / "parts", "--out", tmp_path / "m.safetensors", *TINY)["rows"] == 120
    assert good("score", tmp_path / "m.safetensors", tmp_path / "parts", "--out", tmp_path / "s.parquet")["rows"] == 120
    assert "is no text" in bad("fit", tmp_path / "parts", "--delimiter", ";", "--out", tmp_path / "m.safetensors")


def test_a_query_is_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        part = pa.table({"size": rng.normal(i, 1, 50), "kind": rng.choice(["x", "y"], 50)})
        pq.write_table(part, tmp_path / f"{i}.parquet")
    query = f"SELECT size, kind FROM '{tmp_path}/*.parquet' WHERE size > 0"
    figures = good("fit", query, "--out", tmp_path / "m.safetensors", *TINY)
    assert 60 < figures["rows"] < 150
    assert figures["data"] == query
    assert good("score", tmp_path / "m.safetensors", query, "--out", tmp_path / "s.csv")["rows"] == figures["rows"]


def test_the_encoding_of_text(tmp_path: Path) -> None:
    lines = ["größe,farbe", *(f"{i * 0.37 % 1:.4f},{'grün' if i % 2 else 'weiß'}" for i in range(60))]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n", encoding="latin-1")
    model = tmp_path / "m.safetensors"
    figures = good("fit", tmp_path / "x.csv", "--encoding", "latin-1", "--out", model, *TINY)
    assert figures["columns"] == ["größe", "farbe"]
