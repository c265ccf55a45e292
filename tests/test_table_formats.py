"""Tables of all other formats: Parquet, arrays, Arrow, JSON, folders, databases, workbooks, queries."""

from __future__ import annotations

import datetime
import decimal
import gc
import gzip
import sqlite3
import zipfile
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from pushforward.io.tables import TableWriter, open_table, read_table, write_table
from table_files import Evil, csv_file, npy_file, parquet_file


def test_every_numeric_type_becomes_float64(tmp_path: Path) -> None:
    columns = {
        "int8": pa.array([1, 2], pa.int8()),
        "uint64": pa.array([1, 2**63], pa.uint64()),
        "bool": pa.array([True, False]),
        "half": pa.array(np.array([0.5, 2], np.float16)),
        "single": pa.array([0.5, 2], pa.float32()),
        "decimal": pa.array([decimal.Decimal("1.25"), decimal.Decimal("-3.00")]),
        "coded": pa.array([7, 9]).dictionary_encode(),
    }
    x = read_table(parquet_file(tmp_path, columns)).matrix()
    assert x.dtype == np.float64
    assert x.tolist() == [[1, 1, 1, 0.5, 0.5, 1.25, 7], [2, 2.0**63, 0, 2, 2, -3, 9]]


@pytest.mark.parametrize("dtype", ["i4", "u1", "f2", "f4", "f8", "?", ">f8"])
def test_npy_of_any_number(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    assert read_table(npy_file(tmp_path, values)).matrix(["x1"]).tolist() == [[1], [0], [1]]


def test_an_array_of_one_axis_is_one_column(tmp_path: Path) -> None:
    assert read_table(npy_file(tmp_path, np.arange(3))).matrix().tolist() == [[0], [1], [2]]


def test_the_row_index_of_pandas_is_no_column_of_the_model(tmp_path: Path) -> None:
    table = read_table(parquet_file(tmp_path, {"a": [1.0, 2.0], "__index_level_0__": [5, 9]}))
    assert table.matrix().tolist() == [[1], [2]]


def test_bad_parquet(tmp_path: Path) -> None:
    good = parquet_file(tmp_path, {"a": [1.0, 2.0]})
    for content in (b"PAR1 no parquet PAR1", good.read_bytes()[:-20], b"a,b\n1,2\n"):
        path = csv_file(tmp_path, content, "bad.parquet")
        with pytest.raises(ValueError, match="damaged or no Parquet file"):
            read_table(path)
    when = {
        "a": [1.0, None],
        "when": [datetime.datetime(2020, 1, 1)] * 2,
        "empty": pa.array([None, None], pa.float64()),
    }
    table = read_table(parquet_file(tmp_path, when))
    with pytest.raises(ValueError, match=r"column 'a' has a missing cell or NaN in row 2 \(rows are counted from 1\)"):
        table.matrix(["a"])
    with pytest.raises(ValueError, match=r"column 'when' is not numeric: row 1 holds .*2020.*--columns a,empty"):
        table.matrix(["when"])
    with pytest.raises(ValueError, match="has no rows"):
        read_table(parquet_file(tmp_path, {"a": pa.array([], pa.float64())}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2, 2)), r"\(rows, columns\), got shape \(2, 2, 2\)"),
        (np.array(1.0), "got shape"),
        (np.array(["a", "b"]), "real numbers, got an array of <U1"),
        (np.array([1j]), "complex128"),
        (np.zeros((0, 2)), "no rows"),
        (np.zeros((2, 0)), "no columns"),
        (np.zeros(2, [("a", "f8")]), "real numbers"),
        (np.array([[1.0, np.nan]]), "column 'x1' has a missing cell or NaN in row 1"),
    ],
    ids=str,
)
def test_bad_npy(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = npy_file(tmp_path, values)
    with pytest.raises(ValueError, match=message):
        read_table(path).matrix()


def test_an_npy_that_could_run_code_is_refused(tmp_path: Path) -> None:
    path = npy_file(tmp_path, np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="object arrays are refused"):
        read_table(path)


def test_damaged_npy(tmp_path: Path) -> None:
    whole = npy_file(tmp_path, np.zeros((50, 2))).read_bytes()
    np.savez(tmp_path / "archive", a=np.zeros(2))
    for content in (whole[:300], whole[:5], b"no array", (tmp_path / "archive.npz").read_bytes()):
        with pytest.raises(ValueError, match=r"bad\.npy"):
            read_table(csv_file(tmp_path, content, "bad.npy"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"expected a folder of Parquet files, a SELECT or a file ending in \.csv, "):
        read_table(csv_file(tmp_path, "a\n1\n", "data.pdf"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_table(tmp_path / "folder.csv")


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "pushforward\[data\]"'):
        read_table(csv_file(tmp_path, "a\n1\n"))
    assert len(read_table(npy_file(tmp_path, np.zeros(3)))) == 3


def test_the_array_of_an_archive(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(6, 2)
    for name, arrays in {
        "one": {"a": x},
        "X": {"X": x, "y": np.zeros(6)},
        "columns": {"X": np.asfortranarray(x)},
    }.items():
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / f"{name}.npz", **arrays)
            told = (
                pytest.warns(UserWarning, match="the array 'X' is read, and not 'y'")
                if "y" in arrays
                else nullcontext()
            )
            with told:
                file = open_table(tmp_path / f"{name}.npz")
            assert np.array_equal(np.concatenate([b.to("numpy") for b in file.batches(4)]), x)
    np.savez(tmp_path / "two.npz", train=x, test=x)
    with pytest.raises(ValueError, match="holds the arrays 'train', 'test': expected a single one, or one called X"):
        open_table(tmp_path / "two.npz")
    np.savez(tmp_path / "evil.npz", X=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="real numbers, got an array of object"):
        open_table(tmp_path / "evil.npz")
    whole = (tmp_path / "one.npz").read_bytes()
    for content in (whole[:100], b"PK", whole[:100] + b"?!" + whole[102:]):
        with pytest.raises(ValueError, match=r"bad\.npz"):
            read_table(csv_file(tmp_path, content, "bad.npz"))


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    for year, values in (("2020", [1, 2]), ("2021", [3, None])):
        (tmp_path / "t" / f"year={year}").mkdir(parents=True)
        parquet_file(tmp_path / "t" / f"year={year}", {"a": pa.array(values)})
    (tmp_path / "t" / "_started").mkdir()
    (tmp_path / "t" / "_started" / "part.parquet").write_bytes(b"")
    (tmp_path / "t" / "README").write_text("not a table")
    file = open_table(tmp_path / "t")
    assert (file.rows, file.names) == (4, ("a", "year"))
    assert file.read().to_arrow().to_pylist()[2:] == [{"a": 3, "year": 2021}, {"a": None, "year": 2021}]


def test_files_of_a_folder_must_agree(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    with pytest.raises(ValueError, match="a folder without Parquet files"):
        open_table(folder)
    parquet_file(folder, {"a": [1], "b": pa.array([None], pa.null())}, "0.parquet")
    parquet_file(folder, {"b": [0.5], "a": [1.5]}, "1.parquet")
    assert open_table(folder).read().matrix(finite=False)[1].tolist() == [1.5, 0.5]
    other = {"other kind": ({"a": ["x"], "b": [1.0]}, r"2\.parquet: column 'a' holds string"),
             "no column": ({"a": [1]}, r"2\.parquet has no column 'b', which .*0\.parquet has"),
             "one more": ({"a": [1], "b": [1.0], "c": [1]}, r"0\.parquet has no column 'c', which .*2\.parquet has"),
             }  # fmt: skip
    for columns, message in other.values():
        parquet_file(folder, columns, "2.parquet")
        with pytest.raises(ValueError, match=message):
            open_table(folder)
    (folder / "2.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"2\.parquet is damaged or no Parquet file"):
        open_table(folder)


def test_bad_arrow(tmp_path: Path) -> None:
    good = tmp_path / "t.arrow"
    with TableWriter(good) as writer:
        writer.write(pa.table({"a": np.arange(10_000.0)}))
    for content in (good.read_bytes()[:300], b"ARROW1", b"a,b\n1,2\n"):
        with pytest.raises(ValueError, match="damaged or no Arrow file"):
            read_table(csv_file(tmp_path, content, "bad.arrow"))


def test_a_pattern_of_parquet_files(tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        parquet_file(tmp_path / f"year={year}", {"a": [year + 0.5]}, "t.parquet")
    assert read_table(str(tmp_path / "year=*" / "*.parquet")).matrix().tolist() == [[2023.5, 2023], [2024.5, 2024]]
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none*.parquet")


def test_a_query_is_one_select(tmp_path: Path) -> None:
    parquet_file(tmp_path, {"a": [1.0, 2.0, 3.0], "s": ["x", "y", "z"]}, "t.parquet")
    file = open_table(f"SELECT a * 2 AS b, s FROM '{tmp_path}/t.parquet' WHERE a > 1")
    assert (file.rows, file.names, file.text) == (2, ("b", "s"), False)
    assert file.read().to_arrow().to_pylist() == [{"b": 4, "s": "y"}, {"b": 6, "s": "z"}]
    assert len(open_table(f"from '{tmp_path}/t.parquet';").read()) == 3
    secret = np.ones(3)
    for query, message in (
        ("SELECT 1; SELECT 2", "exactly one SELECT, got SELECT, SELECT"),
        ("WITH x AS (SELECT 1) INSERT INTO y SELECT * FROM x", "exactly one SELECT, got INSERT"),
        ("SELECT FROM", "the query cannot be read: Parser Error"),
        ("SELECT * FROM secret", "the query cannot be read: Catalog Error"),
        ("SELECT 1 AS a, 2 AS a", "the query: more than one column 'a'"),
        ("SELECT 1 AS a WHERE false", "the query has no rows"),
    ):
        with pytest.raises(ValueError, match=message):
            open_table(query)
    assert secret.all()


def test_the_result_of_a_query_is_the_same_in_every_pass_and_removed_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = open_table("SELECT random() AS r FROM range(1000)")
    assert np.array_equal(file.read().matrix(), file.read().matrix())
    part, rest = file.split(100, seed=3)
    everything = np.concatenate([part.matrix(), *(b.matrix() for b in rest.batches(64))])
    assert np.array_equal(np.sort(everything, axis=0), np.sort(file.read().matrix(), axis=0))
    assert len(list(tmp_path.iterdir())) == 1
    del file, rest, part
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_json_lines_in_and_out(tmp_path: Path) -> None:
    path = csv_file(tmp_path, '{"a": 1.5, "b": "y"}\n{"b": null, "a": -2}\n', "t.jsonl")
    frame = read_table(path)
    assert frame.to_arrow().to_pylist() == [{"a": 1.5, "b": "y"}, {"a": -2.0, "b": None}]
    write_table(frame, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"a": 1.5, "b": "y"}\n{"a": -2.0, "b": null}\n'
    write_table(read_table(csv_file(tmp_path, "n,d\n1,2020-01-01\nNA,2020-01-02\n")), tmp_path / "typed.jsonl")
    back = read_table(tmp_path / "typed.jsonl")
    assert [c.holds for c in back.columns] == ["numbers", "times"]
    assert back.column("n").is_missing.tolist() == [False, True]
    packed = csv_file(tmp_path, gzip.compress(b'{"a": 1}\n'), "t.jsonl.gz")
    assert read_table(packed).matrix().tolist() == [[1]]
    with pytest.raises(ValueError, match=r"bad\.jsonl cannot be read"):
        read_table(csv_file(tmp_path, "no json\n", "bad.jsonl"))


def test_the_table_of_a_database(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute("CREATE TABLE people AS SELECT 1::UTINYINT AS n, DATE '2020-01-01' AS d, 'x' AS s")
    frame = read_table(tmp_path / "t.duckdb")
    assert [(c.name, c.dtype) for c in frame.columns] == [("n", "uint8"), ("d", "date32[day]"), ("s", "string")]
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute("CREATE TABLE other (a INT)")
    with pytest.raises(ValueError, match="holds the tables 'other', 'people': expected a single one"):
        read_table(tmp_path / "t.duckdb")
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        connection.execute("CREATE TABLE t (i INTEGER, x, s TEXT, mixed)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [(1, 0.5, "a", 1), (None, 2, None, "b")])
        connection.commit()
    frame = read_table(tmp_path / "t.db")
    assert [c.dtype for c in frame.columns] == ["int64", "double", "string", "string"]
    assert frame.to_arrow().to_pylist()[1] == {"i": None, "x": 2.0, "s": None, "mixed": "b"}
    with pytest.raises(ValueError, match="no database of DuckDB or SQLite"):
        read_table(csv_file(tmp_path, "a,b\n1,2\n", "bad.db"))
    for name in ("t.db", "t.duckdb"):
        with pytest.raises(ValueError, match=rf"half\.{name[2:]}"):
            read_table(csv_file(tmp_path, (tmp_path / name).read_bytes()[:3000], f"half.{name[2:]}"))


def test_a_workbook(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", [["n", "x", "s"], [1, 0.5, "a"], [2, None, "b"], [3, 1.5, 7]])
    frame = read_table(path)
    assert [(c.name, c.dtype) for c in frame.columns] == [("n", "int64"), ("x", "double"), ("s", "string")]
    assert frame.column("x").is_missing.tolist() == [False, True, False]
    assert frame.column("s").texts == ["a", "b", "7"]
    with pytest.raises(ValueError, match="only a header"):
        read_table(workbook(tmp_path / "t.xlsx", [["n"]]))
    with pytest.raises(ValueError, match="damaged or no workbook"):
        read_table(csv_file(tmp_path, "a,b\n1,2\n", "bad.xlsx"))


def test_times_of_a_workbook_may_be_at_midnight(tmp_path: Path) -> None:
    times = [datetime.datetime(2020, 6, 29, 12, 30), datetime.datetime(2020, 6, 30), None]
    column = read_table(workbook(tmp_path / "t.xlsx", [["when", "n"], *([time, 1] for time in times)])).columns[0]
    assert (column.holds, column.to_arrow().to_pylist()) == ("times", times)
    days = read_table(workbook(tmp_path / "t.xlsx", [["day"], times[1:2], times[1:2]])).columns[0]
    assert days.dtype == "date32[day]"


def workbook(path: Path, rows: list[list[Any]]) -> Path:
    """The smallest Excel file that holds some cells."""

    def cell(value: Any) -> str:
        if value is None:
            return "<c/>"
        if isinstance(value, datetime.datetime):
            days = (value - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)
            return f'<c s="1"><v>{days!r}</v></c>'
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>' if isinstance(value, str) else f"<c><v>{value}</v></c>"

    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}">'
        '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" '
        f'Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
        "</styleSheet>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>'
        + "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
        + "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return path
