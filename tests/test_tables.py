"""Tables: what is read, what is refused and in which words, and that files are written whole or not at all."""

from __future__ import annotations

import datetime
import decimal
import errno
import gc
import gzip
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pushforward as pf
from pushforward.io.frames import Frame, of_array
from pushforward.io.tables import SUFFIXES, TableWriter, open_table, read_table, write_table


def csv_file(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def npy_file(tmp_path: Path, values: Any, name: str = "data.npy") -> Path:
    np.save(tmp_path / name, values)
    return tmp_path / name


def array(values: Any, *names: str) -> Frame:
    return of_array(values, names)


def parquet_file(tmp_path: Path, columns: dict[str, Any], name: str = "data.parquet") -> Path:
    pq.write_table(pa.table(columns), tmp_path / name)
    return tmp_path / name


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b,c\n1,2,x\n3,4.5,y\n"))
    assert table.names == ["a", "b", "c"]
    assert table.matrix(["b", "a"]).tolist() == [[2, 1], [4.5, 3]]
    assert table.matrix(["a"]).dtype == np.float64


def test_a_first_line_of_numbers_is_data(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "1,2\n3,4\n"))
    assert table.names == ["x0", "x1"]
    assert table.matrix().tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        '"a","b"\n"1","2"\n"3","4"\n',
        "a, b\n1, 2\n\n 3,+4\n\n",
        "\n\na,b\n1e0,2.\n3,0.4E1",
    ],
    ids=["byte order mark", "windows", "quoted", "blanks", "blank start, no end"],
)
def test_csv_dialects_mean_the_same(tmp_path: Path, text: str) -> None:
    table = read_table(csv_file(tmp_path, text))
    assert table.names == ["a", "b"]
    assert table.matrix().tolist() == [[1, 2], [3, 4]]


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


BAD_CSV: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "header only": ("a,b\n", "no rows, only a header"),
    "duplicate": ("a,b,a\n1,2,3\n", "more than one column 'a'"),
    "short row": ("a,b\n1,2\n3\n", "line 3 has 1 cell, the first line has 2"),
    "long row": ("a,b\n1,2,3\n", "line 2 has 3 cells"),
    "open quote": ('a,b\n1,"2\n3,4\n', r"column 'b' is not numeric: row 1 holds '2\\n3,4"),
    "binary": (bytes(range(256)), "UTF-8"),
    "words": ("a,b\n1,2\n3,x\n", "column 'b' is not numeric: row 2 holds 'x' .*--columns a$"),
    "only words": ("a\nx\n", "no column is numeric"),
    "missing": ("a,b\n1,2\n,3\n", "column 'a' has a missing cell or NaN in row 2"),
    "NA": ("a,b\n1,NA\n2,3\n", "column 'b' has a missing cell or NaN in row 1"),
    "nan": ("a,b\n1,nan\nNaN,3\n", "column 'a' has a missing cell or NaN in row 2"),
    "infinity": ("a,b\n1,2\n1,-inf\n", "column 'b' has -inf in row 2 .*below the header"),
    "too large": ("a\n1\n1e999\n1e999\n", "column 'a' has inf in row 2, the first of 2 values"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_csv_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD_CSV[name]
    path = csv_file(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path).matrix()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_late_ragged_row_is_found_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 300002 has 1 cell,"):
        read_table(csv_file(tmp_path, "a,b\n" + "1,2\n" * 300_000 + "3\n" + "1,2\n" * 1000))


def test_a_late_word_is_found_by_its_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column 'b' is not numeric: row 300001 holds 'oops'"):
        read_table(csv_file(tmp_path, "a,b\n" + "1,2\n" * 300_000 + "3,oops\n")).matrix()


def test_words_in_a_column_that_is_not_asked_for_do_no_harm(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b\n1,x\n2,\n"))
    assert table.matrix(["a"]).tolist() == [[1], [2]]
    assert table.numeric_columns() == ["a"]


def test_numbers_as_only_python_reads_them(tmp_path: Path) -> None:
    assert read_table(csv_file(tmp_path, "a\n1_000\nTrue\nfalse\n7\n")).matrix().ravel().tolist() == [1000, 1, 0, 7]


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


class Evil:
    def __reduce__(self) -> Any:
        return pytest.fail, ("the file was executed",)


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


def test_columns_that_do_not_exist_or_come_twice(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(ValueError, match="no columns 'c', 'd'; it has 'a', 'b'"):
        table.matrix(["a", "c", "d"])
    with pytest.raises(ValueError, match="more than one column 'a'"):
        table.matrix(["a", "a"])
    with pytest.raises(ValueError, match="no column was chosen"):
        table.matrix([])


def test_model_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "note,b,a\nx,2,1\n"))
    assert table.model_matrix(["a", "b"]).tolist() == [[1, 2]]
    assert table.model_matrix(["b", "a"]).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="lacks columns 'c', 'd' of the model; it has 'note', 'b', 'a'"):
        table.model_matrix(["a", "c", "d"])


def test_files_without_names_are_matched_by_position(tmp_path: Path) -> None:
    two, five = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])
    assert read_table(npy_file(tmp_path, two)).model_matrix(["a", "b"]).tolist() == [[1, 2]]
    assert read_table(csv_file(tmp_path, "1,2\n")).model_matrix(["a", "b"]).tolist() == [[1, 2]]
    wide = read_table(npy_file(tmp_path, five))
    with pytest.raises(ValueError, match=r"no column names and 5 columns; the model has 2 \('x0', 'x1'\)"):
        wide.model_matrix(["x0", "x1"])
    assert wide.model_matrix(["x1", "x3"], width=5).tolist() == [[1, 3]]


def test_what_a_csv_holds_is_kept_as_it_was(tmp_path: Path) -> None:
    text = 'id,"name, first",x,big\n007,"a ""b""\nc",0.10,12345678901234567890123\n008,,NA,true\n'
    table = read_table(csv_file(tmp_path, text)).with_column("y", np.array([1 / 3, -1e-7]))
    write_table(table, tmp_path / "out.csv")
    rows = ['id,"name, first",x,big,y', '007,"a ""b""', 'c",0.10,12345678901234567890123,0.3333333333333333']
    assert (tmp_path / "out.csv").read_text() == "\n".join([*rows, "008,,NA,true,-1e-7", ""])


def test_a_csv_written_as_parquet_gets_types(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, "n,f,s,d\n1,0.5,x,2020-01-01\n2,,y,2020-01-02\n"))
    write_table(table.with_column("y", np.array([1.0, 2.0], np.float32)), tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert [str(t) for t in written.schema.types] == ["int64", "double", "string", "date32[day]", "float"]
    assert written["f"].to_pylist() == [0.5, None]


def test_parquet_columns_keep_their_types_and_metadata_free_text(tmp_path: Path) -> None:
    columns = {"zip": pa.array(["007", None]), "when": pa.array([datetime.date(2020, 1, 1)] * 2), "x": pa.array([1, 2])}
    table = read_table(parquet_file(tmp_path, columns)).with_column("y", np.array([0.5, 0.25]))
    write_table(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").schema.types[:3] == [pa.string(), pa.date32(), pa.int64()]
    write_table(table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "zip,when,x,y\n007,2020-01-01,1,0.5\n,2020-01-01,2,0.25\n"


def test_npy_in_and_out(tmp_path: Path) -> None:
    values = np.array([[1, 2.5], [3, np.nan]], np.float32)  # a column the model does not use may hold anything
    table = read_table(npy_file(tmp_path, values)).with_column("y", np.array([0.5, 0.25], np.float32))
    for name in ("out.npy", "out.csv", "out.parquet"):
        write_table(table, tmp_path / name)
        back = read_table(tmp_path / name).matrix(finite=False)
        assert np.array_equal(back, np.column_stack([values, [0.5, 0.25]]), equal_nan=True)
    assert np.load(tmp_path / "out.npy").dtype == np.float32
    assert (tmp_path / "out.csv").read_text().startswith("x0,x1,y\n1,2.5,0.5\n")


def test_words_do_not_fit_into_npy_nor_lists_into_csv(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="column 's' is not numeric"):
        write_table(read_table(csv_file(tmp_path, "a,s\n1,x\n")), tmp_path / "out.npy")
    with pytest.raises(ValueError, match=r"column 'l' .*cannot be written as CSV"):
        write_table(read_table(parquet_file(tmp_path, {"l": [[1], [2]]})), tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out*"))


def test_a_column_is_not_added_twice() -> None:
    with pytest.raises(ValueError, match="already has a column 'a'"):
        array(np.zeros((2, 1)), "a").with_column("a", np.zeros(2))


def test_the_hint_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'name,the age,"a,b"\nx,1,2\n')
    with pytest.raises(ValueError, match=r"""--columns 'the age,"a,b"'$"""):
        read_table(path).matrix()


class FullDisk:
    """A file on a disk that has room for some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, content: Any) -> int:
        self.room -= memoryview(content).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@pytest.mark.parametrize("room", [0, 100, 20_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, room: int
) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("old")
    real = open

    def limited(path: Any, mode: str = "r", **more: Any) -> Any:
        return FullDisk(real(path, mode), room) if "w" in mode else real(path, mode, **more)

    monkeypatch.setattr("builtins.open", limited)
    piece = array(np.random.default_rng(0).normal(size=(1000, 2)), "a", "b")

    def write() -> None:
        with TableWriter(out) as writer:
            for _ in range(20):
                writer.write(piece)

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    monkeypatch.undo()
    assert caught.value.filename == str(out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"old"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_table(array(np.zeros((2, 1)), "a"), tmp_path / "none" / "out.npy")


DIALECTS: dict[str, tuple[str, str]] = {
    "semicolons and decimal commas": ("d.csv", "a;b\n1,5;-2\n3;,25\n"),
    "tabs": ("d.tsv", "a\tb\n1.5\t-2\n3\t0.25\n"),
    "tabs and decimal commas": ("d.txt", "a\tb\n1,5\t-2\n3\t0,25\n"),
    "bars": ("d.csv", "a|b\n1.5|-2\n3|0.25\n"),
    "blanks": ("d.dat", "  a   b\n 1.5  -2\n3\t .25  \n"),
    "blanks, windows": ("d.txt", "a b \r\n1.5 -2 \r\n 3 .25\r\n"),
    "header in a comment": ("d.txt", "# made by hand\n# a b\n1.5 -2\n3 .25\n"),
    "comments": ("d.csv", "# one, two, three\n\n# four\na,b\n1.5,-2\n3,.25\n"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_what_separates_cells_is_found_out(tmp_path: Path, name: str) -> None:
    file, text = DIALECTS[name]
    table = read_table(csv_file(tmp_path, text, file))
    assert table.names == ["a", "b"]
    assert table.matrix().tolist() == [[1.5, -2], [3, 0.25]]


def test_what_is_found_out_can_be_said(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1;2\n3;4\n")
    assert open_table(path, delimiter=",").names == ("1;2",)
    assert open_table(path, header=True).names == ("1", "2")
    assert open_table(csv_file(tmp_path, "a,b\nc,d\n"), header=False).read().to_arrow().num_rows == 2
    assert open_table(csv_file(tmp_path, "a b\n1 2\n"), delimiter="whitespace").names == ("a", "b")
    with pytest.raises(ValueError, match="one ASCII character"):
        open_table(path, delimiter="::")
    with pytest.raises(ValueError, match="is no text"):
        open_table(npy_file(tmp_path, np.zeros(2)), header=True)


def test_blanks_within_cells_separate_nothing(tmp_path: Path) -> None:
    assert read_table(csv_file(tmp_path, "city\nNew York\nLos Angeles\n")).names == ["city"]
    quoted = read_table(csv_file(tmp_path, 'mpg name\n18.0   "chevrolet malibu"\n', "d.data"))
    assert quoted.to_arrow().to_pylist() == [{"mpg": "18.0", "name": "chevrolet malibu"}]


def test_a_first_line_that_is_like_the_others_is_data(tmp_path: Path) -> None:
    assert not open_table(csv_file(tmp_path, "39,Private\n50,State\n38,Private\n")).named
    assert open_table(csv_file(tmp_path, "country,1990\nA,1\nB,2\n")).names == ("country", "1990")


def test_packed_text(tmp_path: Path) -> None:
    path = csv_file(tmp_path, gzip.compress(b"a,b\n1,2\n"), "data.csv.gz")
    assert read_table(path).matrix().tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"data\.csv\.gz is damaged"):
        open_table(csv_file(tmp_path, b"a,b\n1,2\n", "data.csv.gz"))


def test_ragged_rows_are_skipped_where_asked_and_counted_anew_in_each_pass(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n1,2\n3\n4,5,6\n7,8\n" + "9\n" * 5)
    file = open_table(path, skip_bad_rows=True)
    for _ in range(2):
        assert file.read().matrix().tolist() == [[1, 2], [7, 8]]
        assert file.skipped.count == 7
        assert str(file.skipped).startswith("7 rows skipped: line 3 has 1 cell; line 4 has 3 cells; line 6 has 1 cell")
    with pytest.raises(ValueError, match="line 3 has 1 cell, the first line has 2"):
        list(open_table(path).batches(1))


def test_the_array_of_an_archive(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(6, 2)
    for name, arrays in {
        "one": {"a": x},
        "X": {"X": x, "y": np.zeros(6)},
        "columns": {"X": np.asfortranarray(x)},
    }.items():
        for save in (np.savez, np.savez_compressed):
            save(tmp_path / f"{name}.npz", **arrays)
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


def test_pieces_of_a_csv_get_types_that_hold_them_all(tmp_path: Path) -> None:
    text = "n,f,d,s\n" + "1,2,2020-01-01,5\n" * 3 + ",2.5,2020-01-02 10:00:00,x\n"
    file = open_table(csv_file(tmp_path, text))
    for name in ("out.parquet", "out.arrow"):
        with TableWriter(tmp_path / name, like=file) as writer:
            for batch in file.batches(1):
                writer.write(batch.with_column("y", np.ones(len(batch))))
        written = read_table(tmp_path / name).to_arrow()
        kinds = [str(t)[:9] for t in written.schema.types]
        assert kinds == ["int64", "double", "timestamp", "string", "double"]
        assert written["s"].to_pylist() == ["5", "5", "5", "x"]


def test_pieces_must_have_the_same_columns(tmp_path: Path) -> None:
    def write() -> None:
        with TableWriter(tmp_path / "o.csv") as out:
            for name in "ab":
                out.write(array(np.zeros((1, 1)), name))

    with pytest.raises(ValueError, match="has the columns 'a'; a piece has 'b'"):
        write()
    with pytest.raises(ValueError, match="nothing was written"), TableWriter(tmp_path / "o.csv"):
        pass
    assert not list(tmp_path.iterdir())


TEXTS = {"latin-1": "latin-1", "utf-16": "utf-16", "utf-16 big end first": "utf-16-be"}


@pytest.mark.parametrize("name", TEXTS)
def test_other_encodings_are_detected_and_told(tmp_path: Path, name: str) -> None:
    mark = "\ufeff" if name == "utf-16 big end first" else ""
    path = csv_file(tmp_path, (mark + "größe;Ort\n1,5;Köln\n2,5;Münster\n").encode(TEXTS[name]))
    with pytest.warns(UserWarning, match=f"is read as {name[:6]}"):
        frame = read_table(path)
    assert frame.names == ["größe", "Ort"]
    assert frame.matrix(["größe"]).tolist() == [[1.5], [2.5]]
    assert frame.column("Ort").texts == ["Köln", "Münster"]


def test_an_encoding_can_be_said(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\nЖ,1\n".encode("cp1251"))
    assert open_table(path, encoding="cp1251").read().column("a").texts == ["Ж"]
    with pytest.raises(ValueError, match="unknown encoding 'no'"):
        open_table(path, encoding="no")
    with pytest.raises(ValueError, match="no readable CSV in UTF-8"):
        open_table(path, encoding="utf-8")


def test_an_encoding_is_seen_below_the_beginning(tmp_path: Path) -> None:
    path = csv_file(tmp_path, ("a,b\n" + "x,1\n" * 500_000 + "é,1\n").encode("latin-1"))
    with pytest.warns(UserWarning, match="latin-1"):
        assert read_table(path).column("a").shown(500_000) == "'é'"


def test_columns_are_chosen_at_the_door(tmp_path: Path) -> None:
    csv_file(tmp_path, "a,b,c\n1,2,x\n3,4,y\n", "t.csv")
    (tmp_path / "p" / "year=2024").mkdir(parents=True)
    parquet_file(tmp_path / "p" / "year=2024", {"a": [1, 3], "b": [2, 4]}, "t.parquet")
    parquet_file(tmp_path, {"a": [1, 3], "b": [2, 4]}, "t.parquet")
    np.save(tmp_path / "t.npy", [[1, 2], [3, 4]])
    for name, names in (("t.csv", ["b", "a"]), ("t.parquet", ["b", "a"]), ("t.npy", ["x1", "x0"])):
        assert read_table_of(tmp_path / name, names).tolist() == [[2, 1], [4, 3]], name
    assert read_table_of(tmp_path / "p", ["year", "b"]).tolist() == [[2024, 2], [2024, 4]]
    assert read_table_of(tmp_path / "p", ["year"]).tolist() == [[2024], [2024]]
    with pytest.raises(ValueError, match="has no column 'z'; it has 'a', 'b', 'c'"):
        open_table(tmp_path / "t.csv", columns=["z"])


def read_table_of(path: Path, columns: list[str]) -> Any:
    return open_table(path, columns=columns).read().matrix(columns)


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


def workbook(path: Path, rows: list[list[Any]]) -> Path:
    """The smallest Excel file that holds some cells."""

    def cell(value: Any) -> str:
        if value is None:
            return "<c/>"
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
        f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>'
        + "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
        + "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return path


def test_rows_are_left_out_by_a_rule(tmp_path: Path) -> None:
    file = open_table(csv_file(tmp_path, "x\n" + "\n".join(map(str, range(100))) + "\n"))

    def keep(numbers: np.ndarray, frame: Frame) -> np.ndarray:
        assert np.array_equal(frame.matrix()[:, 0], numbers)
        file.skipped.add(f"{(numbers % 2).sum()} odd rows")
        return numbers % 2 == 0

    even = file.where(keep)
    assert even.read().matrix()[:, 0].tolist() == list(range(0, 100, 2))
    part, rest = even.split(10, seed=1)
    assert even.skipped.count == 1
    left = np.concatenate([b.matrix()[:, 0] for b in rest.batches(7)])
    assert sorted([*left, *part.matrix()[:, 0]]) == list(range(0, 100, 2))


def test_the_types_of_a_text_file_are_those_of_its_first_reading(tmp_path: Path) -> None:
    file = open_table(csv_file(tmp_path, "x,k\n" + "1,1\n" * 50 + "2.5,b\n"))
    assert {b.column("k").holds for b in file.batches(10)} == {"numbers", "texts"}
    file.read()
    assert {b.column("k").holds for b in file.batches(10)} == {"texts"}
    assert {str(b.column("x").require_numbers().dtype) for b in file.batches(10)} == {"float64"}


CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "tables"


@pytest.mark.skipif(not CASES.is_dir(), reason="the collected messy files (../shared/cases/tables) are not here")
@pytest.mark.filterwarnings("ignore:.* is read as:UserWarning")
def test_collected_messy_files_read() -> None:
    refused = {"trailing.csv": "more than one column ''"}  # what is accepted later
    for path in sorted(p for p in CASES.iterdir() if p.suffix in (".csv", ".jsonl")):
        if path.name in refused:
            with pytest.raises(ValueError, match=refused[path.name]):
                read_table(path)
            continue
        frame = read_table(path)
        assert len(frame) > 0, path.name
        if path.suffix == ".csv":
            assert all(column.to_arrow().null_count == 0 for column in frame.columns), path.name


@pytest.mark.parametrize("end", [".000", ".000Z", ""])
def test_dates_as_pandas_and_javascript_write_them_into_json(end: str, tmp_path: Path) -> None:
    days = [f"2024-{1 + i // 28 % 12:02}-{1 + i % 28:02}T00:00:00{end}" for i in range(300)]
    schema = pf.infer_schema({"when": days, "x": np.random.default_rng(0).normal(size=300)})
    assert schema["when"].kind == "date"
    density = pf.fit_table({"when": days, "x": np.arange(300.0) % 17}, steps=2, progress="none", stack=False)
    drawn = density.sample(20, generator=0)["when"].to_pylist()
    assert all(len(text) == len(days[0]) and text.endswith(f"T00:00:00{end}") for text in drawn)
