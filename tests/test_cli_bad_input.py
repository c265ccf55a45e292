"""Bad input to the command line: each with one clear line, and nothing lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pushforward as pf
from commands import TINY, bad, good, run, write_csv


def rows(n: int = 200, seed: int = 0) -> list[list[Any]]:
    """A number, a category, a date and an integer."""
    rng = np.random.default_rng(seed)
    return [[f"{rng.normal(10, 2):.4f}", rng.choice(["x", "y"]), f"2024-0{rng.integers(1, 9)}-0{rng.integers(1, 9)}",
             rng.integers(50)] for _ in range(n)]  # fmt: skip


NAMES = "size,kind,day,n"


def table(folder: Path, change: dict[tuple[int, int], Any] | None = None, **arguments: Any) -> Path:
    """A table with some cells changed: (row, column) -> cell."""
    made = rows(**arguments)
    for (row, column), cell in (change or {}).items():
        made[row][column] = cell
    return write_csv(folder / "x.csv", NAMES, made)


def fit(path: Path, *args: Any) -> list[Any]:
    return ["fit", path, "--out", path.parent / "m.safetensors", *TINY, *args]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = table(tmp_path_factory.mktemp("model"))
    good(*fit(path))
    return path.parent / "m.safetensors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "has no rows, only a header"),
        ("a,b\n1.5,2\n3\n" + "1,2\n" * 40, "line 3 has 1 cell"),
        ("a,a\n" + "1.5,2\n" * 40, "more than one column 'a'"),
        ("a,b\n" + "1.5,2\n" * 5, "has 5 rows; at least 25 are needed"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert message in bad(*fit(tmp_path / "x.csv"))
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


CELLS = [
    ({(4, 0): "abc", (7, 0): "+-"}, "column 'size' is numeric, but holds text: row 5 'abc', row 8 '+-'"),
    ({(4, 0): "inf"}, "column 'size' holds inf in row 5"),
    ({(4, 2): "2024-02-30"}, "column 'day' holds dates, but has cells that are none"),
    ({(4, 2): "yesterday"}, "row 5 'yesterday'"),
]


@pytest.mark.parametrize(("change", "message"), CELLS)
def test_cells_that_do_not_belong(
    tmp_path: Path, model: Path, change: dict[tuple[int, int], Any], message: str
) -> None:
    path = table(tmp_path, change)
    line = bad(*fit(path))
    assert message in line
    assert f"With --skip-bad-rows {len(change)} such row" in line
    assert not (tmp_path / "m.safetensors").exists()
    figures = good(*fit(path, "--skip-bad-rows"))
    assert (figures["rows"], figures["skipped_rows"]) == (200 - len(change), len(change))
    assert f"{len(change)} row" in run(*fit(path, "--skip-bad-rows")).stdout

    score = ["score", model, path, "--out", tmp_path / "s.csv"]
    assert message.partition(":")[0] in bad(*score)
    assert not (tmp_path / "s.csv").exists()
    figures = good(*score, "--skip-bad-rows")
    assert (figures["rows"], figures["skipped_rows"]) == (200 - len(change), len(change))
    assert figures["impossible_rows"] == 0


def test_ragged_rows_are_skipped_and_counted(tmp_path: Path, model: Path) -> None:
    path = table(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:10], "1.5,x", *lines[10:], "1,2,3,4,5"]) + "\n")
    assert "line 11 has 2 cells, the first line has 4" in bad(*fit(path))
    assert good(*fit(path, "--skip-bad-rows"))["skipped_rows"] == 2
    figures = good("score", model, path, "--out", tmp_path / "s.csv", "--skip-bad-rows")
    assert (figures["rows"], figures["skipped_rows"]) == (200, 2)


def test_held_out_rows_that_are_the_training_rows_are_told(tmp_path: Path, model: Path) -> None:
    path = table(tmp_path)
    result = run("check", model, path, "--train", path, "--max-rows", 200)
    assert result.exit_code == 0, result.output
    assert f"warning: {path} is given as held-out and as training data" in result.stderr
    text = " ".join(result.stdout.split())
    assert (
        "100 % of the held-out rows are training rows: all figures are too good, likely because the same rows" in text
    )


def test_columns_that_hold_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [(f"id-{i}", i, 7, "", f"{rng.normal():.5f}") for i in range(100)]
    path = write_csv(tmp_path / "x.csv", "id,count,same,nothing,x", made)
    result = run(*fit(path))
    assert result.exit_code == 0, result.output
    assert "warning: column 'id' is left out: its text is unique in each row, as of an id" in result.stderr
    assert "warning: column 'count' is left out: it counts the rows" in result.stderr
    assert "always 7" in result.stdout
    good("sample", tmp_path / "m.safetensors", "-n", 4, "--out", tmp_path / "s.csv")
    header, *drawn = (tmp_path / "s.csv").read_text().splitlines()
    assert header == "same,nothing,x"
    assert all(line.startswith("7,,") for line in drawn)


def test_ten_thousand_categories_are_grouped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [*range(10_000), *rng.integers(0, 10_000, 10_000)]
    path = write_csv(tmp_path / "x.csv", "zone,x", [(f"z{i}", f"{rng.normal():.5f}") for i in names])
    result = run(*fit(path))
    assert result.exit_code == 0, result.output
    assert "column 'zone' has 10,000 categories: the 9,744 rarest are grouped" in result.stderr
    assert "held out    model" in result.stdout
    assert "-inf" not in result.stdout


def test_a_schema_that_does_not_match(tmp_path: Path, model: Path) -> None:
    out = ["--out", tmp_path / "s.csv"]
    less = write_csv(tmp_path / "less.csv", "size,kind,other", [(1, "x", 3)])
    assert "lacks columns 'day', 'n' of the model; it has 'size', 'kind', 'other'" in bad("score", model, less, *out)
    words = write_csv(tmp_path / "words.csv", NAMES, [("large", "x", "2024-01-01", 3)])
    assert "column 'size' is numeric, but holds text: row 1 'large'" in bad("score", model, words, *out)
    typed = pa.table({"size": [1.5], "kind": ["x"], "day": [3.0], "n": [3]})
    pq.write_table(typed, tmp_path / "typed.parquet")
    assert "column 'day'" in bad("score", model, tmp_path / "typed.parquet", *out)
    np.save(tmp_path / "three.npy", np.zeros((2, 3)))
    assert "has no column names and 3 columns; the model has 4" in bad("score", model, tmp_path / "three.npy", *out)
    scored = write_csv(tmp_path / "scored.csv", f"{NAMES},log_density", [(1, "x", "2024-01-01", 3, 1)])
    assert "already has a column 'log_density'" in bad("score", model, scored, *out)
    assert "expected a name ending in .csv" in bad("score", model, less, "--out", tmp_path / "s.txt")
    assert "none.csv: No such file or directory" in bad("score", model, tmp_path / "none.csv", *out)
    assert not [*tmp_path.glob("s.*"), *tmp_path.glob(".*")]


def test_dates_far_from_those_seen(tmp_path: Path, model: Path) -> None:
    path = table(tmp_path, {(0, 2): "0001-01-01", (1, 2): "9999-12-31"})
    figures = good("score", model, path, "--out", tmp_path / "s.csv")
    assert figures["rows"] == 200
    assert figures["extreme_rows"] + figures["impossible_rows"] == 2
    good(*fit(path))
    good("sample", tmp_path / "m.safetensors", "-n", 50, "--out", tmp_path / "s.csv")
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 51


def test_fewer_rows_than_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 50)))
    result = run(*fit(tmp_path / "x.npy"))
    assert result.exit_code == 0, result.output
    assert "fewer rows than columns (30 and 50)" in result.stderr
    assert good("info", tmp_path / "m.safetensors")["training"]["test_rows"] == 3


@pytest.mark.parametrize("scale", [1e40, 1e-40, 1e150])
def test_numbers_beyond_float32_are_fitted(tmp_path: Path, scale: float) -> None:
    x = scale * np.random.default_rng(0).normal(size=(200, 2))
    np.save(tmp_path / "x.npy", x)
    figures = good(*fit(tmp_path / "x.npy"))
    assert figures["test_log_density"] == pytest.approx(-2.8 - 2 * np.log(scale), abs=2)
    good("sample", tmp_path / "m.safetensors", "--out", tmp_path / "s.npy")
    assert np.load(tmp_path / "s.npy").std() == pytest.approx(scale, rel=0.5)


def test_bad_models(tmp_path: Path, model: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-100])
    (tmp_path / "text.safetensors").write_text("no model")
    pf.save(pf.real_nvp(2, context_dim=1), tmp_path / "conditional.safetensors")
    pf.save(pf.Flow(pf.ActNorm(2), 2), tmp_path / "by_hand.safetensors")
    for name in ("cut", "text", "by_hand", "none"):
        assert name in bad("sample", tmp_path / f"{name}.safetensors", "--out", tmp_path / "s.csv")
    assert "expected a context" in bad("sample", tmp_path / "conditional.safetensors", "--out", tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()
    assert "composed by hand" in run("info", tmp_path / "by_hand.safetensors").stdout
    assert "columns     x0, x1" in run("info", tmp_path / "conditional.safetensors").stdout


def test_a_full_disk_leaves_nothing(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: Any, file: Any, delimiter: str) -> None:
        file.write(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    path = table(tmp_path)
    monkeypatch.setattr("pushforward.io.writer._write_rows", full)
    for args in (["score", model, path], ["sample", model]):
        assert "s.csv: No space left on device" in bad(*args, "--out", tmp_path / "s.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def category_and_number(*categories: str) -> str:
    rng = np.random.default_rng(0)
    return "\n".join(f"{c},{x:.3f}" for c, x in zip(rng.choice(categories, 200), rng.normal(size=200), strict=True))


def test_a_given_value_that_was_never_seen_names_the_nearest(tmp_path: Path) -> None:
    data, model = tmp_path / "rows.csv", tmp_path / "m.safetensors"
    data.write_text("day,x\n" + category_and_number("Monday", "Friday"))
    assert run("fit", data, "--given", "day", "--steps", "5", "--out", model).exit_code == 0
    (tmp_path / "given.csv").write_text("day\nFriday\nMnday\n")
    result = run("sample", model, "--given", tmp_path / "given.csv", "--out", tmp_path / "out.csv")
    assert result.exit_code != 0
    assert (
        "never saw 'Mnday' in the given column 'day'; the nearest that it knows is 'Monday', of 2 values"
        in result.output
    )
    result = run("fit", data, "--given", "dya", "--out", model)
    assert result.exit_code != 0
    assert "has no column 'dya'; it has 'day', 'x'" in result.output


def test_values_of_options_are_refused_before_the_table_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    for option, value, message in (
        ("--activation", "foo", "activation must be one of"),
        ("--bins", "0", "bins must be"),
    ):
        result = run("fit", missing, option, value, "--out", tmp_path / "m.safetensors")
        assert result.exit_code != 0
        assert message in result.output


def test_plain_progress_tells_what_is_trained(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = zip(rng.choice(["a", "b"], 200), rng.normal(size=200).round(3), rng.choice(["u", "v"], 200), strict=True)
    data = write_csv(tmp_path / "rows.csv", "c,x,d", list(rows))
    result = run("fit", data, "--steps", "9", "--progress", "plain", "--out", tmp_path / "m.safetensors")
    assert "states of cells: pass" in result.output
    assert "whole rows: pass" in result.output
