"""Frames: every source becomes the same typed columns, and goes back in the dtypes that it came in."""

from __future__ import annotations

import datetime
import decimal
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import pushforward as pf
from pushforward.io.frames import Column, Frame, concat, of_arrow, read


def text(*cells: str, like: Frame | None = None) -> Column:
    """A column of the cells of a text file."""
    return of_arrow(pa.table({"x": pa.array(cells, pa.string())}), text=True, like=like).columns[0]


def values(column: Column) -> list[Any]:
    """The numbers or ticks of a column, None where missing."""
    cells = column.numbers if column.times is None else column.times
    assert cells is not None
    return [None if gone else cell for cell, gone in zip(cells.tolist(), column.is_missing, strict=True)]


@pytest.mark.parametrize(
    ("cells", "holds", "expected"),
    [
        (("1", "2", ""), "numbers", [1, 2, None]),
        (("+1", " 2 ", "1e3", "-.5"), "numbers", [1.0, 2.0, 1000.0, -0.5]),
        (("1_000", "True", "false", "7"), "numbers", [1000, 1, 0, 7]),
        (("9007199254740993", "1"), "numbers", [9007199254740993, 1]),
        (("18446744073709551615", "+1", "NA"), "numbers", [18446744073709551615, 1, None]),
        (("1.0", "2"), "numbers", [1.0, 2.0]),
        (("inf", "-Infinity", "1"), "numbers", [np.inf, -np.inf, 1.0]),
        (("2020-02-29", "1970-01-02", "null"), "times", [18321, 1, None]),
        (("2020-02-29 12:00", "1970-01-02 00:00"), "times", [1582977600, 86400]),
        (("TRUE", "false", ""), "truths", [1, 0, None]),
    ],
)
def test_cells_of_a_file_are_what_all_of_them_are(cells: tuple[str, ...], holds: str, expected: list[Any]) -> None:
    column = text(*cells)
    assert (column.holds, values(column)) == (holds, expected)
    assert column.dtype == "text"
    assert column.to_arrow().to_pylist() == list(cells)
    assert column.numbers is None or str(column.numbers.dtype) == (
        "uint64"
        if max(v or 0 for v in expected) == 2**64 - 1
        else "float64"
        if any(isinstance(v, float) for v in expected)
        else "int64"
    )


def test_a_missing_cell_is_missing_in_every_view() -> None:
    for token in ("", "na", "N/A", " NaN ", "null", "None"):
        for others in (("1", "2"), ("a", "b"), ("2020-01-01", "2020-01-02"), ("true", "false")):
            column = text(*others, token)
            assert column.is_missing.tolist() == [False, False, True], (token, others)
            assert column.codes is not None
            assert (column.codes < 0).tolist() == [False, False, True]
    assert text("None", "").holds == "nothing"
    assert text("none", "").is_missing.tolist() == [False, True]  # a word, as of hair that is not there


def test_texts_are_codes_and_labels() -> None:
    column = text("b", "a", "b", "NA", " a")
    assert column.holds == "texts"
    assert column.texts == ["b", "a", "b", None, " a"]
    assert text("True", "FALSE", "").texts == ["true", "false", None]
    assert text("30 February", "2021-02-30").holds == "texts"


def test_stray_cells_are_told_by_row() -> None:
    column = text(*"123456789" * 3, "oops", "inf", "")
    assert (column.holds, column.mostly()) == ("texts", "numbers")
    assert column.stray_rows().tolist() == [27, 28]
    with pytest.raises(ValueError, match=r"column 'x' is numeric, but holds text: row 28 'oops', row 29 'inf' \(rows"):
        column.require_numbers()
    days = text(*["2020-01-01"] * 19, "soon")
    assert (days.mostly(), days.stray_rows().tolist()) == ("times", [19])
    with pytest.raises(ValueError, match=r"holds dates, but has cells that are none .*: row 20 'soon'"):
        days.require_times()
    assert text("a", "b", "1").mostly() is None
    with pytest.raises(ValueError, match="column 'x' holds -inf in row 2"):
        text("1", "-inf").require_numbers()


def test_a_batch_is_typed_as_the_file() -> None:
    floats, days, words = (Frame((c,)) for c in (text("1.5"), text("2020-01-01 10:00"), text("1", "x")))
    assert text("1", like=floats).numbers.dtype == np.float64  # type: ignore[union-attr]
    assert text("2020-01-01 00:00", like=days).unit == "s"
    assert text("true", "1", like=words).holds == "texts"
    assert text("True", like=words).texts == ["True"]


ARROW = pa.table(
    {
        "int8": pa.array([1, None, -3], pa.int8()),
        "uint64": pa.array([2**64 - 1, None, 3], pa.uint64()),
        "half": pa.array(np.array([0.5, 1.5, 2.5], np.float16)),
        "single": pa.array([0.1, None, 0.3], pa.float32()),
        "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")]),
        "bool": [True, None, False],
        "word": ["a", None, "b"],
        "large": pa.array(["a", None, "b"], pa.large_string()),
        "coded": pa.array(["a", None, "b"]).dictionary_encode(),
        "coded int": pa.array([7, None, 9]).dictionary_encode(),
        "day": pa.array([datetime.date(2020, 1, 1), None, datetime.date(1969, 1, 1)]),
        "when": pa.array([10**15, None, 3], pa.timestamp("us", "UTC")),
        "clock": pa.array([5, None, 86399], pa.time32("s")),
        "lasts": pa.array([5, None, 7], pa.duration("ms")),
        "text date": ["2020-01-01", None, "2020-02-29"],
        "nothing": pa.nulls(3),
    }
)


def rebuilt(column: Column) -> Column:
    """The column from its views alone, as samples have it."""
    if column.times is not None:
        return Column.of_times("y", column.times, column.is_missing, column.dtype, column.unit, column.form)
    if column.codes is not None:
        return Column.of_texts("y", column.codes, list(column.labels), column.dtype)
    assert column.numbers is not None
    return Column.of_numbers("y", column.numbers, column.is_missing, column.dtype)


def test_arrow_comes_back_as_it_was() -> None:
    frame = read(ARROW)
    assert [c.holds for c in frame.columns] == ["numbers"] * 5 + ["truths"] + ["texts"] * 4 + ["times"] * 5 + [
        "nothing"
    ]
    assert all(
        c.is_missing.tolist() == [False, True, False] for c in frame.columns if c.name not in ("half", "nothing")
    )
    assert frame.to_arrow().equals(ARROW)
    assert frame.column("coded int").numbers is not None
    for column in frame.columns[:-1]:
        mine, its = rebuilt(column).to_arrow(), column.to_arrow()
        assert mine.to_pylist() == its.to_pylist(), column.name
        assert mine.type == its.type or column.name == "coded int", column.name


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_a_sample_comes_back_in_the_dtypes_that_came_in(kind: str) -> None:
    n = 4
    plain: dict[str, Any] = {
        "i": np.arange(n, dtype=np.uint8), "f": np.linspace(0, 1, n).astype(np.float32), "b": [True, False] * 2,
        "s": list("abab"), "t": pd.date_range("2020-01-01", periods=n, tz="UTC"),
    }  # fmt: skip
    source: Any = pd.DataFrame(plain).astype({"i": "UInt8"})
    source["c"] = pd.Categorical(list("xyxy"), ["y", "x", "z"], ordered=True)
    if kind == "polars":
        source = pl.from_pandas(source).with_columns(pl.col("s").cast(pl.Categorical))
    elif kind == "pyarrow":
        source = pa.Table.from_pandas(source, preserve_index=False).replace_schema_metadata()
    frame = read(source)
    columns = [rebuilt(column) for column in frame.columns]
    back = Frame(tuple(columns)).like(pickle.loads(pickle.dumps(frame[:0]))).to()
    if kind == "pandas":
        pd.testing.assert_frame_equal(back, source)
    elif kind == "polars":
        assert back.equals(source)
        assert back.schema == source.schema
    else:
        assert back.equals(source)


def test_pandas_with_an_index_and_names_that_are_no_text() -> None:
    source = pd.DataFrame({0: [1.5, np.nan], "a": ["x", None]}, index=[5, 9])
    frame = read(source)
    assert frame.names == ["0", "a"]
    assert values(frame.columns[0]) == [1.5, None]
    assert list(frame.to().columns) == [0, "a"]
    with pytest.raises(ValueError, match="more than one column '0'"):
        read(pd.DataFrame([[1, 2]], columns=[0, "0"]))


def test_arrays_and_tensors() -> None:
    frame = read(np.array([[1, np.nan], [3, 4]], np.float32))
    assert (frame.named, frame.names, frame.kind) == (False, ["x0", "x1"], "numpy")
    assert frame.columns[1].is_missing.tolist() == [True, False]
    assert frame.to().dtype == np.float32
    assert torch.equal(read(torch.eye(3)).to(), torch.eye(3))
    assert read(np.array([[1], [2]], np.uint8)).to().dtype == np.uint8
    assert read([[1, 2], [3, 4]]).matrix().tolist() == [[1, 2], [3, 4]]
    for bad in (np.zeros(3), np.array([["a"]]), 7, object()):
        with pytest.raises(ValueError, match="expected a pyarrow Table, a pandas or polars DataFrame"):
            read(bad)


def test_dictionaries_of_columns() -> None:
    assert read({"a": 1, "b": "x"}).column("b").texts == ["x"]
    assert read({"a": [1, 2]}).to()["a"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="the table cannot be read"):
        read({"a": [1, "x"]})
    with pytest.raises(ValueError, match="no columns"):
        read({})


@pytest.mark.parametrize("cells", [[2**70, 1], [2**70, None], [-(2**63) - 1], [2**63, -1]])
def test_integers_beyond_64_bits_are_told(cells: list[Any]) -> None:
    with pytest.raises(ValueError, match="holds integers that 64 bits do not hold"):
        read({"a": cells})
    assert read({"a": [2**63, 1]}).to()["a"].tolist() == [2**63, 1]


def test_parts_are_typed_as_a_whole() -> None:
    parts = [Frame((text("1", "2"),)), Frame((text("NA", "x"),))]
    whole = concat(parts)
    assert whole.columns[0].holds == "texts"
    assert whole.columns[0].texts == ["1", "2", None, "x"]
    assert whole.to_arrow()["x"].to_pylist() == ["1", "2", "NA", "x"]
    numbers = concat([read(np.zeros((2, 1))), read(np.full((1, 1), np.nan))])
    assert values(numbers.columns[0]) == [0, 0, None]


def test_rows_and_columns_are_picked() -> None:
    frame = read(ARROW)
    for rows in (slice(1, 3), np.array([1, 2]), np.array([False, True, True]), slice(None, None, 2)):
        picked = frame[rows]
        assert picked.to_arrow().equals(ARROW.take(np.arange(3)[rows]))
        assert values(picked.column("int8")) == np.array([1, None, -3])[rows].tolist()
    assert frame.select(["word", "int8"]).names == ["word", "int8"]
    with pytest.raises(KeyError):
        frame.column("none")
    with pytest.raises(ValueError, match="already has a column 'word'"):
        frame.with_column("word", np.zeros(3))


def test_lists_and_bytes_are_kept_but_are_nothing_to_model() -> None:
    source = pa.table({"l": [[1], [2]], "b": [b"x", None]})
    frame = read(source)
    assert [c.holds for c in frame.columns] == ["other", "other"]
    assert frame.to_arrow().equals(source)
    with pytest.raises(ValueError, match=r"column 'l' holds list.*, which is no number"):
        frame.columns[0].require_numbers()


def test_a_path_is_no_table_but_says_what_reads_it() -> None:
    with pytest.raises(ValueError, match=r"expected a table, got the path 'rows.csv': read it with read_table"):
        pf.fit_table("rows.csv")


def test_a_frame_and_a_file_are_shown_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    assert repr(pf.read_table(path)) == "Frame(2 rows, columns=['a', 'b'])"
    assert repr(pf.open_table(path)) == f"TableFile({str(path)!r}, columns=['a', 'b'])"


@pytest.mark.parametrize(("start", "what"), [(b"PAR1", "a Parquet file"), (b"PK\x03\x04", "a zip archive")])
def test_a_file_of_another_kind_than_its_name_says(tmp_path: Path, start: bytes, what: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(start + b"\x00\x15\x04" * 40)
    with pytest.raises(ValueError, match=f"is no text but {what}"):
        pf.read_table(path)
