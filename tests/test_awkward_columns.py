"""Columns as people have them, joined, sampled and drawn: nothing of what they hold or how it is written is lost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pushforward as pf
from pushforward.io.frames import Column, Frame, concat, of_arrow, read
from pushforward.io.tables import open_table
from pushforward.io.writer import write_table
from pushforward.plots.columns import drawn
from pushforward.tables import infer_schema
from pushforward.tables.drawing import foreseeing
from pushforward.tables.space import Columns
from table_files import csv_file

QUICK = {"steps": 3, "stack": False, "progress": "none"}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_columns_that_are_joined_keep_how_they_are_written() -> None:
    parts = [Column.of_numbers("a", np.array(v), None, "string", "$#,##0.00") for v in ([3076.5], [2.0])]
    assert parts[0].append(parts[1:]).to_arrow().to_pylist() == ["$3,076.50", "$2.00"]
    parts = [Column.of_times("a", np.array([v]), None, "string", "s", "%-d/%-m/%Y") for v in (0, 40 * 86400)]
    whole = parts[0].append(parts[1:])
    assert (whole.form, whole.to_arrow().to_pylist()) == ("%-d/%-m/%Y", ["1/1/1970", "10/2/1970"])
    mixed = [Column.of_numbers("a", np.array([5]), None, "string", form) for form in ("00000", "0%")]
    assert mixed[0].append(mixed[1:]).to_arrow().to_pylist() == ["00005", "5%"]


def test_many_samples_are_written_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushforward.tables.density._CHUNK", 8)
    rows = [f"{z:05d},${a:.2f}" for z, a in zip(rng().integers(0, 3000, 60), rng().lognormal(7, 1, 60), strict=True)]
    path = csv_file(tmp_path, "\n".join(["zip,amount", *rows, ""]))
    drawn = pf.fit_table(pf.read_table(path), **QUICK).sample(20, generator=0)
    assert {len(code) for code in drawn["zip"].to_pylist()} == {5}
    assert all(cell.startswith("$") for cell in drawn["amount"].to_pylist())


def test_columns_that_are_joined_keep_their_names_and_dtypes_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = read(pandas.DataFrame({0: pandas.array([1, None], "Int64")}))
    assert concat([frame, frame]).to().equals(pandas.DataFrame({0: pandas.array([1, None] * 2, "Int64")}))


def test_a_word_below_truth_values_leaves_no_view_of_them() -> None:
    parts = [of_arrow(pa.table({"a": cells}), text=True) for cells in (["true", "false"], ["maybe", "true"])]
    column = concat(parts).columns[0]
    assert (column.holds, column.numbers, column.texts) == ("texts", None, ["true", "false", "maybe", "true"])


@pytest.mark.parametrize("size", [8, 25])
def test_a_rare_word_among_truth_values_of_a_large_file(size: int, tmp_path: Path) -> None:
    file = open_table(csv_file(tmp_path, "\n".join(["a", *["true", "false"] * 100, *["maybe"] * 2, ""])))
    sample = file.sample(size)
    assert sample.columns[0].holds == "truths"
    schema, rows = foreseeing(file, sample, None)
    assert (schema.columns[0].kind, rows) == ("category", 202)
    assert "maybe" in schema.describe()


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("cell", ["2020-01-02", "2020-01-02 12:30:00"])
def test_given_dates_of_a_text_file_are_of_the_unit_of_the_model(cell: str, unit: str, tmp_path: Path) -> None:
    seconds = 1_577_836_800 + rng().integers(0, 10**7, 100)
    when = pa.array(seconds, pa.timestamp("s"), mask=seconds % 5 == 0).cast(pa.timestamp(unit))
    density = pf.fit_table(pa.table({"when": when, "x": rng().normal(size=100)}), given=["when"], **QUICK)
    given = pf.read_table(csv_file(tmp_path, f"when\n{cell}\nNA\n", "given.csv"))
    drawn = density.sample(1, given, generator=0)["when"]
    assert drawn.type == pa.timestamp(unit)
    assert drawn.cast("string").to_pylist()[0].startswith(f"{cell} 00:00:00" if len(cell) == 10 else cell)
    assert drawn.to_pylist()[1] is None


@pytest.mark.parametrize(
    "values",
    [
        pa.array([10**9, 2 * 10**9], pa.timestamp("us", "UTC")),
        pa.array([10**9, 2 * 10**9], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([Decimal("1.50"), Decimal("-2.25")], pa.decimal128(10, 2)),
        pa.array([18_000, 19_000], pa.date32()),
        pa.array([True, False]),
    ],
    ids=lambda values: str(values.type),
)
def test_categories_of_any_type_are_sampled_in_it(values: pa.Array) -> None:
    cells = pa.DictionaryArray.from_arrays(pa.array(rng().integers(0, 2, 60), pa.int8()), values)
    drawn = pf.fit_table(pa.table({"a": cells, "x": rng().normal(size=60)}), **QUICK).sample(20, generator=0)["a"]
    assert drawn.type.value_type == values.type
    assert set(drawn.to_pylist()) == set(values.to_pylist())


@pytest.mark.parametrize("kind", [pa.time64("us"), pa.duration("s")], ids=str)
def test_categories_that_cannot_be_written_are_told_before_training(kind: pa.DataType) -> None:
    table = pa.table({"a": pa.array([1, 2] * 30, kind).dictionary_encode(), "x": rng().normal(size=60)})
    with pytest.raises(ValueError, match=r"column 'a' holds dictionary<.*, which is no category: convert it to text"):
        infer_schema(table)


def test_numbers_of_a_file_that_are_categories_are_drawn_as_them(tmp_path: Path) -> None:
    x = rng().permutation(2000)  # nearly each another, so that they are read as numbers at once
    data = pf.read_table(csv_file(tmp_path, "\n".join(["a,x", *(f"{v % 1200},{v % 7}" for v in x.tolist()), ""])))
    assert data.column("a").codes is None
    schema = infer_schema(data, {"a": "category"}, max_categories=2000)
    texts = Frame((Column.of_texts("a", np.arange(3), ["0", "1", "2"], "string"), data.column("x")[:3]))
    column = drawn([data, texts], ["a"], Columns(schema))[0]
    assert "missing" not in column.labels
    assert [column.labels[int(code)] for code in column.values[1]] == ["0", "1", "2"]


@pytest.mark.filterwarnings("ignore:rounded values")
@pytest.mark.parametrize("source", ["memory", "file"])
@pytest.mark.parametrize("values", [1, 4])
@pytest.mark.parametrize("first", [2**62, 2**63, 2**64 - 9])
def test_large_ids_are_exact(first: int, values: int, source: str, tmp_path: Path) -> None:
    ids = np.array([first + 2 * i + 1 for i in range(values)], np.uint64)
    table: object = {"id": ids[rng().integers(0, values, 80)], "x": rng().normal(size=80)}
    if source == "file":
        write_table(table, tmp_path / "rows.csv")
        table = pf.read_table(tmp_path / "rows.csv")
    density = pf.fit_table(table, **QUICK)
    drawn = density.sample(40, generator=0)
    assert {int(value) for value in read(drawn).to("dict")["id"]} == set(ids.tolist())
    assert bool(density.log_prob(drawn).isfinite().all())


def test_parts_of_which_only_one_needs_unsigned_integers_are_joined_exactly() -> None:
    parts = [read({"a": np.array(cells, np.uint64)}) for cells in ([2**62 + 1, 3], [2**63 + 1, 5])]
    assert concat(parts).to("pyarrow")["a"].to_pylist() == [2**62 + 1, 3, 2**63 + 1, 5]


def test_ids_in_each_row_of_2_63_and_more_are_left_out() -> None:
    ids = np.uint64(2**63) + rng().permutation(200).astype(np.uint64)
    with pytest.warns(UserWarning, match="'id' is left out: its text is unique in each row, as of an id"):
        infer_schema({"id": ids, "x": rng().normal(size=200)})
